"""timm's RMSprop: TensorFlow 1's rule with PyTorch's arguments.

The common mistake is to pass its settings to `torch.optim.RMSprop`, which starts the mean square at 0 and adds eps
outside the root.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "timm_rmsprop_tf"]

ROW = Row(
    api="timm.optim.RMSpropTF",
    version="1.0.31",
    variant=Variant(initial_scale=1.0, decoupled_weight_decay=False, complex_pairs=None),
    arguments={
        "learning_rate": "lr",
        "decay": "alpha",
        "eps": "eps",
        "weight_decay": "weight_decay",
        "momentum": "momentum",
        "centered": "centered",
    },
    defaults={"learning_rate": 1e-2, "decay": 0.9, "eps": 1e-10, "weight_decay": 0, "momentum": 0, "centered": False},
    state={"nu": "square_avg", "mu": "grad_avg", "trace": "momentum_buffer", "count": "step"},
    source="timm/optim/rmsprop_tf.py 141-147, 254-295",
    function="timm_rmsprop_tf",
    set_by={"lr_in_momentum": "lr_in_momentum", "decoupled_weight_decay": "decoupled_decay"},
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

    It differs from `rmsprop` with its defaults:

    1. The mean square starts at 1, so the first steps are small: the first gradient is divided by at least
       :math:`\sqrt{\alpha}`.
    2. `eps` is 1e-10.
    3. Weight decay is an L2 penalty, :math:`g_t + \lambda \theta_{t-1}`, unless `decoupled_decay`: then
       :math:`\theta_{t-1}` first shrinks by the factor :math:`1 - \gamma_t \lambda`.
    4. With `lr_in_momentum=False` the learning rate multiplies the buffer, as in PyTorch.
    5. Complex parameters are refused: timm squares them without taking the magnitude.

    timm's `caution` and `corrected_weight_decay` are left out, as no switch here gives them; `foreach` chooses an
    implementation. The argument after them is keyword-only.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. With a Python 0 there
        is no decay; otherwise `update` needs the parameters.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. With a Python 0 there is no buffer.
      centered: Whether to divide by the standard deviation instead. Structure.
      decoupled_decay: Whether the decay acts on the parameter, times the learning rate. Structure.
      lr_in_momentum: Whether the learning rate is applied before the momentum. Structure.

    Returns:
      The transformation. Its state has `nu` for timm's `square_avg`, or when centered `variance` for `square_avg`
      minus `grad_avg` squared and `mu` for `grad_avg`, and `trace` for `momentum_buffer`; with `lr_in_momentum` the
      trace has the opposite sign.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; a switch is not a bool; a leaf is not floating-point.

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
        ROW,
        switches=switches,
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=none_if_zero(weight_decay),
        momentum=none_if_zero(momentum),
        centered=centered,
    )
