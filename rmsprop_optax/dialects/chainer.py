"""Chainer's RMSprop: eps outside the root, or inside it on request.

The common mistake is to forget its hooks: weight decay and clipping are not among Chainer's arguments.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "chainer_rmsprop"]

ROW = Row(
    api="chainer.optimizers.RMSprop",
    version="7.8.1",
    variant=Variant(eps_in_sqrt=False, decoupled_weight_decay=False, complex_pairs=None),
    arguments={"learning_rate": "lr", "decay": "alpha", "eps": "eps"},
    defaults={"learning_rate": 1e-2, "decay": 0.99, "eps": 1e-8},
    state={"nu": "ms", "count": "t"},
    source="chainer/optimizers/rmsprop.py 68-90",
    function="chainer_rmsprop",
    set_by={"eps_in_sqrt": "eps_inside_sqrt"},
    remark="weight decay and clipping are hooks",
)


@value
def chainer_rmsprop(
    lr: optax.ScalarOrSchedule = 0.01,
    alpha: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_inside_sqrt: bool = False,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `chainer.optimizers.RMSprop` does.

    .. math::
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \gamma_t g_t / (\sqrt{v_t} + \epsilon)
            && \text{or } / \sqrt{v_t + \epsilon} \text{ with }\mathtt{eps\_inside\_sqrt}

    It differs from `rmsprop` with its defaults:

    1. eps is outside the root by default.
    2. `alpha` is 0.99, so the first step is 10 times the learning rate.
    3. Weight decay is an L2 penalty. Chainer has it as a hook, `WeightDecay(rate)`; here it is an argument.
    4. Complex parameters are refused: Chainer squares them without taking the magnitude.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient, or of its square with `eps_inside_sqrt`. A number;
        may be traced.
      eps_inside_sqrt: Whether eps is added inside the root. Structure.
      weight_decay: The hook's rate, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. With None there is no hook.

    Returns:
      The transformation. Its state has `nu` for Chainer's `ms`.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; `eps_inside_sqrt` is not a bool; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.chainer_rmsprop(lr=0.1, alpha=0.75, eps=1.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / (3 + 1)
      [-0.15]

    References:
      Chainer 7.8.1, chainer/optimizers/rmsprop.py, lines 68-90; the arguments: lines 138-140.
    """
    return assemble(
        ROW,
        switches={"eps_in_sqrt": _checks.switch("eps_inside_sqrt", eps_inside_sqrt)},
        learning_rate=lr,
        decay=alpha,
        eps=eps,
        weight_decay=weight_decay,
    )
