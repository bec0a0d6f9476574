"""TensorFlow's RMSprop, Keras' before and after version 2.11, and Sonnet's."""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.dialects.assemble import above_zero, assemble, at_most_one, clip_norm, clip_value, unless_zero


@value
def tf1_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-10,
    *,
    centered: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `tf.compat.v1.train.RMSPropOptimizer` does.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 1 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It departs from `rmsprop` with its defaults in these points:

    1. The mean square starts at 1, so the first steps are small: the first gradient is divided by at least
       :math:`\sqrt{\rho}`.
    2. `epsilon` is 1e-10.
    3. There is a momentum buffer whatever the momentum.
    4. Complex parameters are refused: TensorFlow has no such kernel.

    TensorFlow rounds `decay`, `momentum` and `epsilon` to float32 even for float64 variables; here they are not, so
    round them first for more than 7 digits in common. `use_locking` and `name` are left out; the argument behind them
    is by keyword only. Gradients are dense: what TensorFlow does with IndexedSlices has no counterpart.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for TensorFlow's slots `rms` (less `mg`
      squared when centered), `mg`, `momentum`; the trace has the opposite sign.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.tf1_rmsprop(learning_rate=0.1, decay=0.75, epsilon=0.0)
      >>> print(tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.75 * 1 + 0.25 * 1)
      [-0.1]

    References:
      TensorFlow 2.21.0, tensorflow/python/training/rmsprop.py, lines 185-196 (the start) and 209-235; the arguments:
      lines 136-143; its kernels: tensorflow/core/kernels/training_ops.cc, ApplyRMSProp and ApplyCenteredRMSProp.
    """
    return assemble("tf1", learning_rate=learning_rate, decay=decay, eps=epsilon, momentum=momentum, centered=centered)


@value
def tf_keras_legacy_rmsprop(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    rho: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-7,
    centered: bool = False,
    *,
    clipnorm: jax.typing.ArrayLike | None = None,
    clipvalue: jax.typing.ArrayLike | None = None,
    global_clipnorm: jax.typing.ArrayLike | None = None,
    decay: jax.typing.ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `tf.keras.optimizers.RMSprop` of TensorFlow 2.0 to 2.10 does.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \eta_t g_t / (\sqrt{v_t} + \epsilon)
            && \text{at momentum } 0 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon}, \quad \theta_t = \theta_{t-1} - b_t
            && \text{with momentum}

    It departs from `rmsprop` with its defaults in these points:

    1. eps moves: outside the root at momentum 0, inside it with any other. Turning a small momentum on changes what
       epsilon means. A traced momentum counts as another, 0 included, as a tensor does there: under
       `optax.inject_hyperparams` name it in `static_args`.
    2. `epsilon` is 1e-7, and 0 is refused: Keras takes it for its own default, silently.
    3. The clipping acts on the raw gradient: `clipvalue` first, then a norm.
    4. With `decay` the learning rate of step :math:`t`, from 0, is divided by :math:`1 + \text{decay} \cdot t`.
    5. Complex parameters are refused: there is no such kernel with momentum.

    Keras rounds `learning_rate`, `rho` and `momentum` to float32 even for float64 variables; here they are not. `name`
    is left out; what Keras takes as keywords is by keyword only.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      rho: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. A Python 0 means no buffer and eps outside the root.
      epsilon: :math:`\epsilon`, in (0, inf), in units of the squared gradient, or of the gradient at momentum 0. A
        number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      clipnorm: The largest norm of each leaf's gradient, above 0. A number; may be traced. None does not clip.
      clipvalue: The largest magnitude of a gradient's element, above 0. A number; may be traced. None does not clip.
      global_clipnorm: The largest norm of all gradients together, above 0. A number; may be traced. None does not clip.
      decay: In [0, inf). A number; may be traced. A Python 0 leaves the learning rate alone.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for Keras' `rms` (less `mg` squared when
      centered), `mg`, `momentum`; the trace has the opposite sign.

    Raises:
      ValueError: A number out of range; both norms; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> for momentum in (0.0, 0.5):  # 1 / (0.5 + 0.75) and 1 / sqrt(0.25 + 0.75)
      ...     tx = dialects.tf_keras_legacy_rmsprop(1.0, rho=0.75, momentum=momentum, epsilon=0.75)
      ...     print(tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0])
      [-0.8]
      [-1.]

    References:
      tf_keras 2.21.0, tf_keras/src/optimizers/legacy/rmsprop.py, lines 149-166 (momentum, epsilon) and 192-250, and
      legacy/optimizer_v2.py, lines 549-554 (clipping) and 1189-1192 (decay); the arguments: lines 99-108.
    """
    epsilon = above_zero("epsilon", epsilon, " Keras replaces 0 by 1e-7 without a word: say which you mean.")
    at_most_one(clipnorm=clipnorm, global_clipnorm=global_clipnorm)
    momentum = unless_zero(momentum)
    return assemble(
        "tf_keras_legacy",
        before=[
            *clip_value("clipvalue", clipvalue),
            *clip_norm("clipnorm", clipnorm, each=True),
            *clip_norm("global_clipnorm", global_clipnorm),
        ],
        moved={"eps_in_sqrt": momentum is not None},
        learning_rate=_divided(learning_rate, unless_zero(decay)),
        decay=rho,
        eps=epsilon,
        momentum=momentum,
        centered=centered,
    )


@value
def keras_rmsprop(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    rho: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-7,
    centered: bool = False,
    weight_decay: optax.ScalarOrSchedule | None = None,
    clipnorm: jax.typing.ArrayLike | None = None,
    clipvalue: jax.typing.ArrayLike | None = None,
    global_clipnorm: jax.typing.ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `keras.optimizers.RMSprop` does: Keras 3, and tf.keras since 2.11.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 0 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - \eta_t \lambda \theta_{t-1} - b_t

    It departs from `rmsprop` with its defaults in these points:

    1. `epsilon` is 1e-7.
    2. Weight decay is decoupled: it acts on the parameter, times the learning rate, and not on the mean square.
       PyTorch's argument of the same name is an L2 penalty.
    3. The clipping acts on the raw gradient. Keras ignores a limit of 0, and tf.keras all but one of two; both are
       refused here.
    4. Complex parameters are refused: Keras squares them without taking the magnitude.

    Keras keeps the learning rate in float32 even for float64 variables; here it is not rounded. `use_ema` and
    what goes with it, `loss_scale_factor` and `gradient_accumulation_steps` are left out, as optax has them apart
    (`optax.incremental_update` of the parameters, `optax.MultiSteps`), and so is `name`.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      rho: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. A Python 0 means no buffer.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. None means none.
      clipnorm: The largest norm of each leaf's gradient, above 0. A number; may be traced. None does not clip.
      clipvalue: The largest magnitude of a gradient's element, above 0. A number; may be traced. None does not clip.
      global_clipnorm: The largest norm of all gradients together, above 0. A number; may be traced. None does not clip.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for Keras' `velocity` (less
      `average_gradient` squared when centered), `average_gradient`, `momentum`; the trace has the opposite sign.

    Raises:
      ValueError: A number out of range; more than one limit; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.keras_rmsprop(learning_rate=0.1, rho=0.75, epsilon=0.0, weight_decay=0.5)
      >>> params = jnp.array([1.0])
      >>> print(tx.update(jnp.array([6.0]), tx.init(params), params)[0])  # -0.1 * (6 / 3 + 0.5 * 1)
      [-0.25]

    References:
      Keras 3.15.1, keras/src/optimizers/rmsprop.py, lines 109-154, and base_optimizer.py, lines 870-881 (clipping)
      and 952-959 (decay); the arguments: rmsprop.py, lines 53-71. tf_keras 2.21.0,
      tf_keras/src/optimizers/rmsprop.py, lines 185-197.
    """
    at_most_one(clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm)
    return assemble(
        "keras",
        before=[
            *clip_norm("clipnorm", clipnorm, each=True),
            *clip_value("clipvalue", clipvalue),
            *clip_norm("global_clipnorm", global_clipnorm),
        ],
        learning_rate=learning_rate,
        decay=rho,
        eps=epsilon,
        momentum=unless_zero(momentum),
        centered=centered,
        weight_decay=weight_decay,
    )


@value
def sonnet_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-10,
    centered: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `sonnet.optimizers.RMSProp` (version 2) does.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 0 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It departs from `rmsprop` with its defaults in these points:

    1. `epsilon` is 1e-10.
    2. There is a momentum buffer whatever the momentum.
    3. Complex parameters are refused: Sonnet squares them without taking the magnitude.

    It takes TensorFlow 1's arguments, but its mean square starts at 0. Sonnet rounds `decay`, `momentum` and `epsilon`
    to float32 even for float64 variables; here they are not. `name` is left out.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for Sonnet's `ms` (less `mg` squared when
      centered), `mg`, `mom`; the trace has the opposite sign.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.sonnet_rmsprop(learning_rate=0.1, decay=0.75, epsilon=0.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / sqrt(0.25 * 36)
      [-0.2]

    References:
      Sonnet 2.0.2, sonnet/src/optimizers/rmsprop.py, lines 28-37; the arguments: lines 73-79.
    """
    return assemble(
        "sonnet", learning_rate=learning_rate, decay=decay, eps=epsilon, momentum=momentum, centered=centered
    )


def _divided(learning_rate: optax.ScalarOrSchedule, decay: jax.typing.ArrayLike | None) -> optax.ScalarOrSchedule:
    """Divide a learning rate by 1 + decay * step."""
    if decay is None:
        return learning_rate
    decay = _checks.number("decay", decay)
    rate = learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate)
    return lambda count: rate(count) / (1.0 + decay * count)
