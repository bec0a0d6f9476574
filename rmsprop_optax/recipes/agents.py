"""Published settings for reinforcement-learning agents: DQN, A3C and A2C, IMPALA, QMIX, DreamerV3."""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.dialects import dreamer_v3_rmsprop, optax_rmsprop, tf1_rmsprop, torch_rmsprop
from rmsprop_optax.dialects.clipping import chain_in_float32, clip_norm
from rmsprop_optax.recipes._schedules import linear_to_zero

__all__ = ["a3c", "dqn", "dreamer_v3", "impala", "prioritized_dqn", "qmix"]


@value
def dqn(
    learning_rate: jax.typing.ArrayLike = 2.5e-4, *, source: str = "nature"
) -> optax.GradientTransformationExtraArgs:
    r"""Train a deep Q-network as in "Human-level control through deep reinforcement learning".

    .. math::
        \theta_t = \theta_{t-1} - \alpha g_t / \sqrt{\nu_t - \mu_t^2 + \epsilon}, \qquad \beta = 0.95

    Centered, without momentum: the paper's "gradient momentum" is the decay of :math:`\mu`. The sources disagree on eps
    and on the start:

    1. "nature", the code of the paper: eps 0.01, :math:`\nu_0 = 0`, for gradients *summed* over a batch of 32, each
       error clipped to [-1, 1].
    2. "dqn_zoo": eps 0.01 / 32**2, for gradients *averaged* over that batch: the same steps as "nature".
    3. "dopamine" (TensorFlow): eps 1e-5, :math:`\nu_0 = 1`, for averaged gradients.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number; may be traced.
      source: "nature", "dqn_zoo" or "dopamine". Structure.

    Returns:
      The transformation.

    Raises:
      ValueError: The source is unknown; a number is out of range.
      TypeError: `learning_rate` is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.dqn()
      >>> print(f"{tx.update(0.1, tx.init(0.0))[0]:.4g}")  # -2.5e-4 * 0.1 / sqrt(0.0475 * 0.1**2 + 0.01)
      -0.0002443

    References:
      kuz/DeepMind-Atari-Deep-Q-Learner at ff6086c (a mirror of the paper's code), dqn/NeuralQLearner.lua, lines 222-232
      and 250-277, and run_gpu, lines 25 and 31; google-deepmind/dqn_zoo at 45061f4, dqn_zoo/dqn/run_atari.py, lines
      79-81 and 205-210; google/dopamine at 5873f54, dopamine/tf/agents/dqn/configs/dqn.gin, lines 19-25, and
      dqn_agent.py, lines 336-342.
    """
    _checks.one_of("source", source, ("nature", "dqn_zoo", "dopamine"))
    learning_rate = _checks.number("learning_rate", learning_rate)
    if source == "dopamine":
        return tf1_rmsprop(learning_rate, 0.95, 0.0, 1e-5, centered=True)
    return optax_rmsprop(learning_rate, 0.95, 0.01 if source == "nature" else 0.01 / 32**2, centered=True)


@value
def prioritized_dqn(learning_rate: jax.typing.ArrayLike = 2.5e-4 / 4) -> optax.GradientTransformationExtraArgs:
    r"""Train a deep Q-network with prioritized replay as dqn_zoo does.

    .. math::
        \theta_t = \theta_{t-1} - \alpha g_t / \sqrt{\nu_t - \mu_t^2 + \epsilon}, \qquad \beta = 0.95

    Against :func:`dqn` from the same code, the learning rate is a fourth and eps a sixteenth, 0.01 / 32**2 / 4**2:
    large gradients take steps a fourth as long, small ones steps of the same length. Gradients are averaged over a
    batch of 32, the gradient of each error clipped to 1/32.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number; may be traced.

    Returns:
      The transformation.

    Raises:
      ValueError: A number is out of range.
      TypeError: `learning_rate` is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.prioritized_dqn()
      >>> print(f"{tx.update(1.0, tx.init(0.0))[0]:.4g}")  # -6.25e-5 * 1 / sqrt(0.0475 * 1**2 + 6.1e-7)
      -0.0002868

    References:
      google-deepmind/dqn_zoo at 45061f4, dqn_zoo/prioritized/run_atari.py, lines 84-88 and 246-251.
    """
    return optax_rmsprop(_checks.number("learning_rate", learning_rate), 0.95, 0.01 / 32**2 / 4**2, centered=True)


@value
def a3c(
    steps: int | None, learning_rate: jax.typing.ArrayLike = 7e-4, *, source: str = "mnih"
) -> optax.GradientTransformationExtraArgs:
    r"""Train an actor-critic as in "Asynchronous methods for deep reinforcement learning", or as A2C does.

    .. math::
        \theta_t = \theta_{t-1} - \alpha_t g_t / \sqrt{\nu_t + \epsilon}, \qquad \beta = 0.99

    The sources disagree on eps and on whether it is inside the root, on the start and on the clipping:

    1. "mnih", what the paper's first author gave by e-mail: eps 0.1, and one mean square for policy and value. It does
       not mention the start, which is 0 here, nor clipping, so gradients are not clipped.
    2. "async_rl", the program that was written after it: eps 0.1 inside the root, :math:`\nu_0 = 0`, all gradients
       together clipped to norm 40.
    3. "baselines" (A2C): eps 1e-5 inside the root, :math:`\nu_0 = 1`; clipped to norm 0.5.
    4. "sb3" (A2C): eps 1e-5 outside the root, :math:`\nu_0 = 0`; clipped to norm 0.5. Its learning rate is
       constant by default: pass `steps=None`.

    The first two share the mean square between asynchronous actors; here there is one actor, or their mean gradient.

    Args:
      steps: The updates of the run, over which the learning rate falls linearly to 0. None keeps it constant.
        Structure.
      learning_rate: :math:`\alpha_0`, in [0, inf). A number; may be traced.
      source: "mnih", "async_rl", "baselines" or "sb3". Structure.

    Returns:
      The transformation.

    Raises:
      ValueError: The source is unknown; a number is out of range.
      TypeError: `learning_rate` or `steps` is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.a3c(steps=1_000_000)
      >>> print(f"{tx.update(1.0, tx.init(0.0))[0]:.4g}")  # -7e-4 * 1 / sqrt(0.01 * 1 + 0.1)
      -0.002111

    References:
      `The e-mail <https://github.com/muupan/async-rl/wiki>`_, and muupan/async-rl at 5c5844f, a3c_ale.py, lines 111-112
      and 224-226, and rmsprop_async.py, lines 19-29; openai/baselines at ea25b9e, baselines/a2c/a2c.py, lines 34-35,
      76-78 and 84-88; stable-baselines3 2.9.2, stable_baselines3/a2c/a2c.py, lines 70-77, 126-127 and 178. PyTorch's
      clipping adds 1e-6 to the norm; here nothing is added.
    """
    _checks.one_of("source", source, ("mnih", "async_rl", "baselines", "sb3"))
    rate = linear_to_zero(learning_rate, steps)
    if source == "mnih":
        return optax_rmsprop(rate, 0.99, 0.1)
    if source == "async_rl":
        return chain_in_float32(*clip_norm("threshold", 40.0), optax_rmsprop(rate, 0.99, 0.1))
    tx = tf1_rmsprop(rate, 0.99, 0.0, 1e-5) if source == "baselines" else torch_rmsprop(rate, 0.99, 1e-5)
    return chain_in_float32(*clip_norm("max_grad_norm", 0.5), tx)


@value
def impala(
    steps: int | None,
    learning_rate: jax.typing.ArrayLike | None = None,
    *,
    source: str = "scalable_agent",
    every: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Train an agent as IMPALA does.

    .. math::
        \theta_t = \theta_{t-1} - \alpha_t g_t / \sqrt{\nu_t + \epsilon}, \qquad \beta = 0.99

    The sources disagree on eps and on whether it is inside the root, on the start and on the clipping:

    1. "scalable_agent", the code of the paper: eps 0.1 inside the root, :math:`\nu_0 = 1`, no clipping of gradients;
       :math:`\alpha_0` is 4.8e-4.
    2. "torchbeast": eps 0.01 outside the root, :math:`\nu_0 = 0`; all gradients together clipped to norm 40;
       :math:`\alpha_0` is 4.8e-4.
    3. "cleanba": as "torchbeast", but :math:`\alpha_0` is 6e-4 and falls once every 4 updates, those of a rollout.

    All sum the loss over time and batch. The first divides a gradient by at least 0.32, the others by at least 0.01:
    for small gradients their steps come to differ by a factor of 32.

    Args:
      steps: The updates of the run, over which the learning rate falls linearly to 0. None keeps it constant.
        Structure.
      learning_rate: :math:`\alpha_0`, in [0, inf). A number; may be traced. None means the source's.
      source: "scalable_agent", "torchbeast" or "cleanba". Structure.
      every: The updates from one fall of the learning rate to the next, above 0. None means the source's. Structure.

    Returns:
      The transformation.

    Raises:
      ValueError: The source is unknown; a number is out of range.
      TypeError: `learning_rate` or `steps` is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.impala(steps=1_000_000, source="torchbeast")
      >>> print(f"{tx.update(1.0, tx.init(0.0))[0]:.4g}")  # -4.8e-4 * 1 / (sqrt(0.01 * 1) + 0.01)
      -0.004364

    References:
      google-deepmind/scalable_agent at 6c0c8a7, experiment.py, lines 87-90, 314-331 and 399-402;
      facebookresearch/torchbeast at 0af07b0, torchbeast/monobeast.py, lines 84-92, 291 and 387-398;
      vwxyzjn/cleanba at d1f8979, cleanba/cleanba_impala.py, lines 62, 74, 82, 174-186, 515-519 and 532-540. PyTorch's
      clipping adds 1e-6 to the norm; here nothing is added.
    """
    _checks.one_of("source", source, ("scalable_agent", "torchbeast", "cleanba"))
    published, updates = (6e-4, 4) if source == "cleanba" else (4.8e-4, 1)
    rate = linear_to_zero(
        published if learning_rate is None else learning_rate, steps, updates if every is None else every
    )
    if source == "scalable_agent":
        return tf1_rmsprop(rate, 0.99, 0.0, 0.1)
    return chain_in_float32(*clip_norm("max_norm", 40.0), torch_rmsprop(rate, 0.99, 0.01))


@value
def qmix(learning_rate: jax.typing.ArrayLike = 5e-4) -> optax.GradientTransformationExtraArgs:
    r"""Train the agents and the mixing network of QMIX as pymarl does.

    .. math::
        \theta_t = \theta_{t-1} - \alpha g_t / (\sqrt{\nu_t} + 10^{-5}), \qquad \beta = 0.99

    All gradients together are first clipped to norm 10. The other algorithms of pymarl have these numbers, too; its
    COMA has two such optimizers, one for the critic.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number; may be traced.

    Returns:
      The transformation.

    Raises:
      ValueError: A number is out of range.
      TypeError: `learning_rate` is not a number.

    Example:
      >>> from rmsprop_optax import recipes
      >>> tx = recipes.qmix()
      >>> print(f"{tx.update(50.0, tx.init(0.0))[0]:.4g}")  # -5e-4 * 10 / (sqrt(0.01 * 10**2) + 1e-5)
      -0.005

    References:
      oxwhirl/pymarl at c971afd, src/config/default.yaml, lines 33-37, and src/learners/q_learner.py, lines 30 and 102.
      PyTorch's clipping adds 1e-6 to the norm; here nothing is added.
    """
    tx = torch_rmsprop(_checks.number("learning_rate", learning_rate), 0.99, 1e-5)
    return chain_in_float32(*clip_norm("grad_norm_clip", 10.0), tx)


@value
def dreamer_v3(learning_rate: jax.typing.ArrayLike = 4e-5) -> optax.GradientTransformationExtraArgs:
    r"""Train DreamerV3, world model, actor and critic together, as its authors' code does.

    .. math::
        m_t = 0.9 m_{t-1} + 0.1 \frac{g_t}{\sqrt{\nu_t / (1 - \beta^t)} + 10^{-20}}, \qquad
        \theta_t = \theta_{t-1} - \alpha_t \frac{m_t}{1 - 0.9^t}, \qquad \beta = 0.999

    The norm of each gradient is first clipped to 0.3 times that of its parameter, which counts as 1e-3 or more. The
    learning rate rises linearly from 0 over 1000 updates. There is no weight decay. For another warm-up, decay or
    schedule call `dialects.dreamer_v3_rmsprop`.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number; may be traced.

    Returns:
      The transformation. `update` needs the parameters.

    Raises:
      ValueError: A number is out of range.
      TypeError: `learning_rate` is not a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import recipes
      >>> tx, params = recipes.dreamer_v3(), jnp.ones(())
      >>> state = tx.init(params)
      >>> for step in range(2):  # the first has a learning rate of 0; then 4e-5 / 1000
      ...     updates, state = tx.update(jnp.ones(()), state, params)
      ...     print(f"{updates:.3g}")
      -0
      -4e-08

    References:
      danijar/dreamerv3 at f8817c4, dreamerv3/configs.yaml, line 87, and dreamerv3/agent.py, lines 342-379.
    """
    return dreamer_v3_rmsprop(_checks.number("learning_rate", learning_rate), 0.3, 1e-20, 0.9, 0.999, warmup=1000)
