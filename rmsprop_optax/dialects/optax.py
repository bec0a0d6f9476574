"""optax's RMSprop, which `rmsprop` follows with its defaults.

The common mistake is `nesterov=True` without a momentum: optax ignores it; here it is refused.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant, rmsprop
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "optax_rmsprop"]

ROW = Row(
    api="optax.rmsprop",
    version="0.2.8",
    variant=Variant(),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "decay",
        "eps": "eps",
        "centered": "centered",
        "momentum": "momentum",
    },
    defaults={"decay": 0.9, "eps": 1e-8, "centered": False, "momentum": None},
    state={"nu": "nu", "mu": "mu", "trace": "trace", "count": "count"},
    source="optax/_src/alias.py 2016-2046",
    function="optax_rmsprop",
    set_by={"eps_in_sqrt": "eps_in_sqrt", "initial_scale": "initial_scale", "bias_correction": "bias_correction"},
    keeps_trace=True,
    negated_trace=True,
    remark="`nesterov` looks ahead",
)


@value
def optax_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: jax.typing.ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `optax.rmsprop` does.

    .. math::
        \nu_t &= \beta \nu_{t-1} + (1 - \beta) |g_t|^2, \qquad \nu_0 = \mathtt{initial\_scale} \\
        b_t &= m b_{t-1} + \alpha_t g_t / \sqrt{\nu_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    This is `rmsprop` without the arguments that optax does not have. Two calls that optax accepts are refused:

    1. `centered` with `bias_correction`, whose first step optax divides by zero.
    2. `nesterov` without `momentum`, which optax ignores.

    Args:
      learning_rate: :math:`\alpha`, in the range that `rmsprop` takes. A number, which may be traced, or a schedule.
      decay: :math:`\beta`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient, or of the gradient without `eps_in_sqrt`.
        A number; may be traced.
      initial_scale: :math:`\nu_0`, in [0, inf). A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      centered: Whether to divide by the standard deviation instead. Structure.
      momentum: :math:`m`, in [0, 1). With None there is no trace; a number, 0.0 included, keeps one. May be traced.
      nesterov: Whether the momentum looks ahead. Structure.
      bias_correction: Whether :math:`\nu_t / (1 - \beta^t)` stands in for :math:`\nu_t`. Structure.

    Returns:
      The transformation. Its state has optax's `nu`, or when centered `variance`, which is optax's `nu` minus
      `mu` squared, and `mu`; and optax's `trace`.

    Raises:
      ValueError: A number is out of range; one of the two calls above; trees differ in structure or shape.
      TypeError: A number is in half precision; a switch is not a bool; a leaf is neither floating-point nor complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.optax_rmsprop(learning_rate=0.1, decay=0.75, eps=0.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / sqrt(0.25 * 36)
      [-0.2]

    References:
      optax 0.2.8, optax/_src/alias.py, lines 2016-2046, and transform.py, lines 130-150; the arguments: alias.py, lines
      1935-1945.
    """
    return rmsprop(learning_rate, decay, eps, initial_scale, eps_in_sqrt, centered, momentum, nesterov, bias_correction)
