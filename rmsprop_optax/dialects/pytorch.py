"""PyTorch's RMSprop and the two that were made from it to behave like TensorFlow's."""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.dialects.assemble import assemble, unless_zero


@value
def torch_rmsprop(
    lr: optax.ScalarOrSchedule = 1e-2,
    alpha: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0,
    momentum: jax.typing.ArrayLike = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `torch.optim.RMSprop` does.

    .. math::
        g_t &\leftarrow \pm g_t + \lambda \theta_{t-1} \\
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad v_0 = 0 \\
        b_t &= \mu b_{t-1} + g_t / (\sqrt{v_t} + \epsilon) \\
        \theta_t &= \theta_{t-1} - \gamma_t b_t

    It departs from `rmsprop` with its defaults in these points:

    1. eps is outside the root: a gradient far below eps makes a step of :math:`\gamma g / \epsilon`, not of
       :math:`\gamma g / \sqrt{\epsilon}`.
    2. The learning rate multiplies the momentum buffer, so a change of it scales what is in the buffer, too.
    3. Weight decay is an L2 penalty: it enters the gradient, and so the mean square.
    4. `maximize` negates the gradient before the decay, which therefore still shrinks the parameters.
    5. `alpha` is 0.99, so the first step is 10 times the learning rate.
    6. The real and imaginary parts of a complex parameter have a mean square each. PyTorch's gradient of a complex
       parameter is the conjugate of JAX's: pass `jax.tree.map(jnp.conj, grads)`.

    `capturable`, `foreach` and `differentiable` choose an implementation, not a rule, and are left out; the argument
    behind them is by keyword only. Unlike PyTorch, `centered` is never NaN: see `scale_by_rms`.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient. A number; may be traced.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. A Python 0 means none;
        otherwise `update` needs the parameters.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. A Python 0 means no buffer.
      centered: Whether to divide by the standard deviation instead. Structure.
      maximize: Whether to ascend. Structure.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for PyTorch's `square_avg` (less `grad_avg`
      squared when centered), `grad_avg`, `momentum_buffer`.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point or complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.torch_rmsprop(lr=0.1, alpha=0.75, eps=1.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / (3 + 1)
      [-0.15]

    References:
      PyTorch 2.13.0, torch/optim/rmsprop.py, lines 301-339; the arguments: lines 31-44.
    """
    return assemble(
        "torch",
        before=[optax.scale(-1.0)] if _checks.switch("maximize", maximize) else [],
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=unless_zero(weight_decay),
        momentum=unless_zero(momentum),
        centered=centered,
    )


@value
def timm_rmsprop_tf(
    lr: optax.ScalarOrSchedule = 1e-2,
    alpha: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-10,
    weight_decay: optax.ScalarOrSchedule = 0,
    momentum: jax.typing.ArrayLike = 0.0,
    centered: bool = False,
    decoupled_decay: bool = False,
    *,
    lr_in_momentum: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as timm's `RMSpropTF` does.

    .. math::
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad v_0 = 1 \\
        b_t &= \mu b_{t-1} + \gamma_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It departs from `rmsprop` with its defaults in these points:

    1. The mean square starts at 1, so the first steps are small: the first gradient is divided by at least
       :math:`\sqrt{\alpha}`.
    2. `eps` is 1e-10.
    3. Weight decay is an L2 penalty, :math:`g_t + \lambda \theta_{t-1}`, unless `decoupled_decay`: then
       :math:`\theta_{t-1}` first shrinks by the factor :math:`1 - \gamma_t \lambda`.
    4. With `lr_in_momentum=False` the learning rate multiplies the buffer, as in PyTorch.
    5. Complex parameters are refused: timm squares them without taking the magnitude.

    timm's `caution` and `corrected_weight_decay` are left out, as no switch here gives them; `foreach` chooses an
    implementation. The argument behind them is by keyword only.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. A Python 0 means none;
        otherwise `update` needs the parameters.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. A Python 0 means no buffer.
      centered: Whether to divide by the standard deviation instead. Structure.
      decoupled_decay: Whether the decay acts on the parameter, times the learning rate. Structure.
      lr_in_momentum: Whether the learning rate is applied before the momentum. Structure.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for timm's `square_avg` (less `grad_avg`
      squared when centered), `grad_avg`, `momentum_buffer`; with `lr_in_momentum` the trace has the opposite sign.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.timm_rmsprop_tf(lr=0.1, alpha=0.75, eps=0.0)
      >>> print(tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.75 * 1 + 0.25 * 1)
      [-0.1]

    References:
      timm 1.0.31, timm/optim/rmsprop_tf.py, lines 141-147 (the start) and 254-295; the arguments: lines 59-72.
    """
    switches = {
        "lr_in_momentum": _checks.switch("lr_in_momentum", lr_in_momentum),
        "decoupled_weight_decay": _checks.switch("decoupled_decay", decoupled_decay),
    }
    return assemble(
        "timm",
        moved=switches,
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=unless_zero(weight_decay),
        momentum=unless_zero(momentum),
        centered=centered,
    )


@value
def sb3_rmsprop_tf_like(
    lr: optax.ScalarOrSchedule = 1e-2,
    alpha: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
    weight_decay: optax.ScalarOrSchedule = 0,
    momentum: jax.typing.ArrayLike = 0,
    centered: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as Stable-Baselines3's `RMSpropTFLike` does.

    .. math::
        g_t &\leftarrow g_t + \lambda \theta_{t-1} \\
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad v_0 = 1 \\
        b_t &= \mu b_{t-1} + g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - \gamma_t b_t

    It departs from `rmsprop` with its defaults in these points:

    1. The mean square starts at 1, as in TensorFlow 1.
    2. The learning rate multiplies the momentum buffer, as in PyTorch and unlike TensorFlow.
    3. Weight decay is an L2 penalty.
    4. `alpha` is 0.99.
    5. Complex parameters are refused: it squares them without taking the magnitude.

    SB3's own A2C uses `torch.optim.RMSprop` unless told otherwise: see `recipes.a3c`.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. A Python 0 means none;
        otherwise `update` needs the parameters.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. A Python 0 means no buffer.
      centered: Whether to divide by the standard deviation instead. Structure.

    Returns:
      A transformation that is a value. Its state has `nu`, `mu`, `trace` for SB3's `square_avg` (less `grad_avg`
      squared when centered), `grad_avg`, `momentum_buffer`.

    Raises:
      ValueError: A number out of range; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.sb3_rmsprop_tf_like(lr=0.1, alpha=0.75, eps=0.0)
      >>> print(tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.75 * 1 + 0.25 * 1)
      [-0.1]

    References:
      stable-baselines3 2.9.2, stable_baselines3/common/sb2_compat/rmsprop_tf_like.py, lines 100-135; the arguments:
      lines 47-56.
    """
    return assemble(
        "sb3",
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=unless_zero(weight_decay),
        momentum=unless_zero(momentum),
        centered=centered,
    )
