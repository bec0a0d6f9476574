"""Sonnet's RMSprop: TensorFlow 1's arguments, with a mean square that starts at 0.

The common mistake is to take it for `tf.compat.v1.train.RMSPropOptimizer`, which starts at 1.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "sonnet_rmsprop"]

ROW = Row(
    api="sonnet.optimizers.RMSProp",
    version="2.0.2",
    variant=Variant(complex_pairs=None),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "decay",
        "momentum": "momentum",
        "eps": "epsilon",
        "centered": "centered",
    },
    defaults={"decay": 0.9, "momentum": 0.0, "eps": 1e-10, "centered": False},
    state={"nu": "ms", "mu": "mg", "trace": "mom"},
    source="sonnet/src/optimizers/rmsprop.py 28-37",
    function="sonnet_rmsprop",
    keeps_trace=True,
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

    It differs from `rmsprop` with its defaults:

    1. `epsilon` is 1e-10.
    2. It keeps a momentum buffer at momentum 0, too.
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
      The transformation. Its state has `nu` for Sonnet's `ms`, or when centered `variance` for `ms` minus `mg` squared
      and `mu` for `mg`, and `trace` for `mom`; the trace has the opposite sign.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` is not a bool; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.sonnet_rmsprop(learning_rate=0.1, decay=0.75, epsilon=0.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / sqrt(0.25 * 36)
      [-0.2]

    References:
      Sonnet 2.0.2, sonnet/src/optimizers/rmsprop.py, lines 28-37; the arguments: lines 73-79.
    """
    return assemble(ROW, learning_rate=learning_rate, decay=decay, eps=epsilon, momentum=momentum, centered=centered)
