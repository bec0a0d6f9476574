"""Stable-Baselines3's RMSprop: PyTorch's with the start and the eps of TensorFlow 1.

The common mistake is to take it for the default of SB3's A2C, which is `torch.optim.RMSprop`.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "sb3_rmsprop_tf_like"]

ROW = Row(
    api="stable_baselines3 RMSpropTFLike",
    version="2.9.2",
    variant=Variant(initial_scale=1.0, lr_in_momentum=False, decoupled_weight_decay=False, complex_pairs=None),
    arguments={
        "learning_rate": "lr",
        "decay": "alpha",
        "eps": "eps",
        "weight_decay": "weight_decay",
        "momentum": "momentum",
        "centered": "centered",
    },
    defaults={"learning_rate": 1e-2, "decay": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0, "centered": False},
    state={"nu": "square_avg", "mu": "grad_avg", "trace": "momentum_buffer", "count": "step"},
    source="stable_baselines3/common/sb2_compat/rmsprop_tf_like.py 100-135",
    function="sb3_rmsprop_tf_like",
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

    It differs from `rmsprop` with its defaults:

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
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. With a Python 0 there
        is no decay; otherwise `update` needs the parameters.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. With a Python 0 there is no buffer.
      centered: Whether to divide by the standard deviation instead. Structure.

    Returns:
      The transformation. Its state has `nu` for SB3's `square_avg`, or when centered `variance` for `square_avg` minus
      `grad_avg` squared and `mu` for `grad_avg`, and `trace` for `momentum_buffer`.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` is not a bool; a leaf is not floating-point.

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
        ROW,
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=none_if_zero(weight_decay),
        momentum=none_if_zero(momentum),
        centered=centered,
    )
