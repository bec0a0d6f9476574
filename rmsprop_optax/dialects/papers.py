"""The two sources themselves: Hinton's lecture and Graves' paper."""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.dialects.assemble import assemble


@value
def graves_rmsprop(
    lr: optax.ScalarOrSchedule = 1e-4,
    alpha: jax.typing.ArrayLike = 0.95,
    momentum: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-4,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as in Graves' paper on generating sequences, which introduced the centered form.

    .. math::
        n_t &= \alpha n_{t-1} + (1 - \alpha) g_t^2, \qquad n_0 = 0 \\
        m_t &= \alpha m_{t-1} + (1 - \alpha) g_t, \qquad m_0 = 0 \\
        \Delta_t &= \mu \Delta_{t-1} - \gamma_t g_t / \sqrt{n_t - m_t^2 + \epsilon} \\
        \theta_t &= \theta_{t-1} + \Delta_t

    It departs from `rmsprop` with its defaults in these points:

    1. It is always centered: the gradient is divided by its standard deviation.
    2. It always has momentum, 0.9 unless given; the learning rate is applied before it.
    3. `alpha` is 0.95, `eps` 1e-4 and `lr` 1e-4.
    4. Weight decay is an L2 penalty. Chainer has it as a hook, `WeightDecay(rate)`; here it is an argument.
    5. Complex parameters are refused: the rule is for real ones.

    The paper names no arguments; these are those of `chainer.optimizers.RMSpropGraves`. MXNet's
    `RMSProp(centered=True)` is the same rule with other defaults.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      weight_decay: The hook's rate, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. None means no hook.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for Chainer's `n` less `g` squared, `g`,
      `delta`.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.graves_rmsprop(lr=0.1, alpha=0.5, eps=0.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / sqrt(18 - 3**2)
      [-0.2]

    References:
      Graves, `Generating sequences with recurrent neural networks <https://arxiv.org/abs/1308.0850>`_, eq. 38-45, as
      written in Chainer 7.8.1, chainer/optimizers/rmsprop_graves.py, lines 65-85; the arguments: lines 123-126.
    """
    return assemble(
        "graves", learning_rate=lr, decay=alpha, eps=eps, momentum=momentum, centered=True, weight_decay=weight_decay
    )


@value
def hinton_rmsprop(
    learning_rate: optax.ScalarOrSchedule, decay: jax.typing.ArrayLike = 0.9
) -> optax.GradientTransformationExtraArgs:
    r"""Step as in Hinton's lecture, which introduced RMSprop.

    .. math::
        v_t &= \beta v_{t-1} + (1 - \beta) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \alpha_t g_t / \sqrt{v_t}

    It departs from `rmsprop` with its defaults in these points:

    1. There is no eps: the step does not depend on the scale of the gradient at all. 0 over 0 is 0 here.
    2. Complex parameters are refused: the rule is for real ones.

    The lecture says nothing of where the mean square starts; 0 is the choice made here. It names no arguments; these
    are those of `rmsprop`.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\beta`, in [0, 1). A number; may be traced.

    Returns:
      A transformation that is a value. Its state has `nu`, the mean square.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.hinton_rmsprop(learning_rate=0.1, decay=0.75)
      >>> print(tx.update(jnp.array([6.0, 6e-9]), tx.init(jnp.zeros(2)))[0].round(6))  # -0.1 * 6 / sqrt(0.25 * 36)
      [-0.2 -0.2]

    References:
      Hinton, `Neural networks for machine learning, lecture 6e
      <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>`_, "rmsprop: divide the gradient by a
      running average of its recent magnitude", read in a transcript.
    """
    return assemble("hinton", learning_rate=learning_rate, decay=decay, eps=0.0)
