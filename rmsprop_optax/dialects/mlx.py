"""MLX's RMSprop: eps outside the root.

The common mistake is to expect a first step of one learning rate: at the default `alpha` it is ten.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "mlx_rmsprop"]

ROW = Row(
    api="mlx.optimizers.RMSprop",
    version="0.32.4",
    variant=Variant(eps_in_sqrt=False, complex_pairs=None),
    arguments={"learning_rate": "learning_rate", "decay": "alpha", "eps": "eps"},
    defaults={"decay": 0.99, "eps": 1e-8},
    state={"nu": "v", "count": "step"},
    source="python/mlx/optimizers/optimizers.py 338-354",
    function="mlx_rmsprop",
)


@value
def mlx_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    alpha: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `mlx.optimizers.RMSprop` does.

    .. math::
        v_t &= \alpha v_{t-1} + (1 - \alpha) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \lambda_t g_t / (\sqrt{v_t} + \epsilon)

    It differs from `rmsprop` with its defaults:

    1. eps is outside the root.
    2. `alpha` is 0.99, so the first step is 10 times the learning rate.
    3. Complex parameters are refused: MLX squares them without taking the magnitude.

    Args:
      learning_rate: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient; MLX refuses 0. A number; may be traced.

    Returns:
      The transformation. Its state has `nu` for MLX's `v`.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.mlx_rmsprop(learning_rate=0.1, alpha=0.75, eps=1.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / (3 + 1)
      [-0.15]

    References:
      MLX 0.32.4, python/mlx/optimizers/optimizers.py, lines 338-354; the arguments: lines 317-322.
    """
    return assemble(ROW, learning_rate=learning_rate, decay=alpha, eps=eps)
