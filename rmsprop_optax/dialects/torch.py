"""PyTorch's RMSprop: eps outside the root, the learning rate outside the momentum.

The common mistake is to keep the eps of TensorFlow, Keras or optax. They add it inside the root, where 1e-8 weighs as
much as 1e-4 does outside: take its square root.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "torch_rmsprop"]

ROW = Row(
    api="torch.optim.RMSprop",
    version="2.13.0",
    variant=Variant(eps_in_sqrt=False, lr_in_momentum=False, decoupled_weight_decay=False, complex_pairs=True),
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
    source="torch/optim/rmsprop.py 301-339",
    function="torch_rmsprop",
)


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

    It differs from `rmsprop` with its defaults:

    1. eps is outside the root: a gradient far below eps makes a step of :math:`\gamma g / \epsilon`, not of
       :math:`\gamma g / \sqrt{\epsilon}`.
    2. The learning rate multiplies the momentum buffer, so changing it also scales what is in the buffer.
    3. Weight decay is an L2 penalty: it enters the gradient, and so the mean square.
    4. `maximize` negates the gradient before the decay, which therefore still shrinks the parameters.
    5. `alpha` is 0.99, so the first step is 10 times the learning rate.
    6. The real and imaginary parts of a complex parameter have a mean square each. PyTorch's gradient of a complex
       parameter is the conjugate of JAX's: pass `jax.tree.map(jnp.conj, grads)`.

    `capturable`, `foreach` and `differentiable` choose an implementation, not a rule, and are left out; the argument
    after them is keyword-only. Unlike PyTorch, `centered` is never NaN: see `scale_by_rms`.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient. A number; may be traced.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. With a Python 0 there
        is no decay; otherwise `update` needs the parameters.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. With a Python 0 there is no buffer.
      centered: Whether to divide by the standard deviation instead. Structure.
      maximize: Whether to ascend. Structure.

    Returns:
      The transformation. Its state has `nu` for PyTorch's `square_avg`, or when centered `variance` for `square_avg`
      minus `grad_avg` squared and `mu` for `grad_avg`, and `trace` for `momentum_buffer`.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` or `maximize` is not a bool; a leaf is neither
        floating-point nor complex.

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
        ROW,
        before=[optax.scale(-1.0)] if _checks.switch("maximize", maximize) else [],
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=none_if_zero(weight_decay),
        momentum=none_if_zero(momentum),
        centered=centered,
    )
