"""TensorFlow 1's RMSprop: the mean square starts at 1.

The common mistake is to replace it by Keras' RMSprop in TensorFlow 2, which starts at 0.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "tf1_rmsprop"]

ROW = Row(
    api="tf.compat.v1.train.RMSPropOptimizer",
    version="2.21.0",
    variant=Variant(initial_scale=1.0, complex_pairs=None),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "decay",
        "momentum": "momentum",
        "eps": "epsilon",
        "centered": "centered",
    },
    defaults={"decay": 0.9, "momentum": 0.0, "eps": 1e-10, "centered": False},
    state={"nu": "rms", "mu": "mg", "trace": "momentum"},
    source="tensorflow/python/training/rmsprop.py 185-196, 209-235",
    function="tf1_rmsprop",
    keeps_trace=True,
)


@value
def tf1_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-10,
    *,
    centered: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `tf.compat.v1.train.RMSPropOptimizer` does.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 1 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It differs from `rmsprop` with its defaults:

    1. The mean square starts at 1, so the first steps are small: the first gradient is divided by at least
       :math:`\sqrt{\rho}`.
    2. `epsilon` is 1e-10.
    3. It keeps a momentum buffer at momentum 0, too.
    4. Complex parameters are refused: TensorFlow has no such kernel.

    TensorFlow rounds `decay`, `momentum` and `epsilon` to float32 even for float64 variables. Here they are not
    rounded: to agree to more than 7 digits, round them first. `use_locking` and `name` are left out; the argument after
    them is keyword-only. Gradients are dense: what TensorFlow does with IndexedSlices has no counterpart.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.

    Returns:
      The transformation. Its state has `nu` for TensorFlow's slots `rms`, or when centered `variance` for `rms` minus
      `mg` squared and `mu` for `mg`, and `trace` for `momentum`; the trace has the opposite sign.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` is not a bool; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.tf1_rmsprop(learning_rate=0.1, decay=0.75, epsilon=0.0)
      >>> print(tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.75 * 1 + 0.25 * 1)
      [-0.1]

    References:
      TensorFlow 2.21.0, tensorflow/python/training/rmsprop.py, lines 185-196 (the start) and 209-235; the arguments:
      lines 136-143; its kernels: tensorflow/core/kernels/training_ops.cc, ApplyRMSProp and ApplyCenteredRMSProp.
    """
    return assemble(ROW, learning_rate=learning_rate, decay=decay, eps=epsilon, momentum=momentum, centered=centered)
