"""Paddle's RMSprop: a decay of 0.95 and an L2 penalty.

The common mistake is to read its momentum as Nesterov's, as Paddle's documentation does: it is heavy ball.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "paddle_rmsprop"]

ROW = Row(
    api="paddle.optimizer.RMSProp",
    version="3.3.1",
    variant=Variant(decoupled_weight_decay=False, complex_pairs=None),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "rho",
        "eps": "epsilon",
        "momentum": "momentum",
        "centered": "centered",
        "weight_decay": "weight_decay",
    },
    defaults={"decay": 0.95, "eps": 1e-6, "momentum": 0.0, "centered": False, "weight_decay": None},
    state={"nu": "mean_square", "mu": "mean_grad", "trace": "momentum"},
    source="python/paddle/optimizer/rmsprop.py 228-257, 259-298",
    function="paddle_rmsprop",
    keeps_trace=True,
    remark="its documentation says Nesterov; it is not",
)


@value
def paddle_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    rho: jax.typing.ArrayLike = 0.95,
    epsilon: jax.typing.ArrayLike = 1.0e-6,
    momentum: jax.typing.ArrayLike = 0.0,
    centered: bool = False,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
    grad_clip: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `paddle.optimizer.RMSProp` does.

    .. math::
        g_t &\leftarrow \operatorname{clip}(g_t) + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 0 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It differs from `rmsprop` with its defaults:

    1. `rho` is 0.95 and `epsilon` 1e-6.
    2. Weight decay is an L2 penalty, after the clipping.
    3. It keeps a momentum buffer at momentum 0, too. The momentum is heavy ball; Paddle's documentation says Nesterov.
    4. Complex parameters are refused: Paddle has no such kernel.

    Paddle rounds `rho`, `epsilon` and `momentum` to float32 even for float64 parameters; here they are not.
    `parameters` and `name` are left out; the arguments after them are keyword-only.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      rho: :math:`\rho`, in [0, 1). A number; may be traced.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. With None there is no decay.
      grad_clip: optax's counterpart of Paddle's: `optax.clip_by_global_norm(c)` for `ClipGradByGlobalNorm(c)`,
        `optax.clip(c)` for `ClipGradByValue(c)`. None does not clip. Structure.

    Returns:
      The transformation. Its state has `nu` for Paddle's `mean_square`, or when centered `variance` for `mean_square`
      minus `mean_grad` squared and `mu` for `mean_grad`, and `trace` for `momentum`; the trace has the opposite sign.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` is not a bool; a leaf is not floating-point; `grad_clip` is
        not an optax transformation.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.paddle_rmsprop(learning_rate=0.1, rho=0.75, epsilon=0.0, grad_clip=optax.clip(1.0))
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.25 * 1)
      [-0.2]

    References:
      Paddle 3.3.1, python/paddle/optimizer/rmsprop.py, lines 228-257 (the start) and 259-298; the arguments: lines
      177-190; its kernel: paddle/phi/kernels/impl/rmsprop_kernel_impl.h.
    """
    if grad_clip is not None and not isinstance(grad_clip, optax.GradientTransformation):
        came = _checks.shown(grad_clip)
        raise TypeError(f"`grad_clip` must be an optax transformation such as optax.clip(1.0), got {came}.")
    return assemble(
        ROW,
        before=[] if grad_clip is None else [grad_clip],
        learning_rate=learning_rate,
        decay=rho,
        eps=epsilon,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
    )
