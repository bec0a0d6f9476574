"""Keras' RMSprop: Keras 3, and tf.keras since 2.11.

The common mistake is to take its `weight_decay` for PyTorch's: Keras shrinks the parameter, PyTorch adds an L2 penalty
to the gradient.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.clipping import at_most_one, clip_norm, clip_value
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "keras_rmsprop"]

ROW = Row(
    api="keras.optimizers.RMSprop",
    version="3.15.1",
    variant=Variant(complex_pairs=None),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "rho",
        "momentum": "momentum",
        "eps": "epsilon",
        "centered": "centered",
        "weight_decay": "weight_decay",
    },
    defaults={
        "learning_rate": 1e-3,
        "decay": 0.9,
        "momentum": 0.0,
        "eps": 1e-7,
        "centered": False,
        "weight_decay": None,
    },
    state={"nu": "velocity", "mu": "average_gradient", "trace": "momentum", "count": "iteration"},
    source="keras/src/optimizers/rmsprop.py 109-154",
    function="keras_rmsprop",
    remark="also tf.keras since 2.11 and tf_keras 2.21.0",
)


@value
def keras_rmsprop(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    rho: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-7,
    centered: bool = False,
    weight_decay: optax.ScalarOrSchedule | None = None,
    clipnorm: jax.typing.ArrayLike | None = None,
    clipvalue: jax.typing.ArrayLike | None = None,
    global_clipnorm: jax.typing.ArrayLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `keras.optimizers.RMSprop` does: Keras 3, and tf.keras since 2.11.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 0 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - \eta_t \lambda \theta_{t-1} - b_t

    It differs from `rmsprop` with its defaults:

    1. `epsilon` is 1e-7.
    2. Weight decay is decoupled: it acts on the parameter, times the learning rate, and not on the mean square.
       PyTorch's argument of the same name is an L2 penalty.
    3. The clipping acts on the raw gradient. Keras ignores a limit of 0, and tf.keras uses only one of two limits; both
       calls are refused here.
    4. Complex parameters are refused: Keras squares them without taking the magnitude.

    Keras keeps the learning rate in float32 even for float64 variables; here it is not rounded. `use_ema` and
    what goes with it, `loss_scale_factor` and `gradient_accumulation_steps` are left out, because optax has
    functions for them (`optax.incremental_update` of the parameters, `optax.MultiSteps`); so is `name`.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      rho: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. With a Python 0 there is no buffer.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. With None there is no decay.
      clipnorm: The largest norm of each leaf's gradient, above 0. A number; may be traced. None does not clip.
      clipvalue: The largest magnitude of a gradient's element, above 0. A number; may be traced. None does not clip.
      global_clipnorm: The largest norm of all gradients together, above 0. A number; may be traced. None does not clip.

    Returns:
      The transformation. Its state has `nu` for Keras' `velocity`, or when centered `variance` for `velocity` minus
      `average_gradient` squared and `mu` for `average_gradient`, and `trace` for `momentum`; the trace has the
      opposite sign.

    Raises:
      ValueError: A number is out of range; more than one limit is given; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` is not a bool; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.keras_rmsprop(learning_rate=0.1, rho=0.75, epsilon=0.0, weight_decay=0.5)
      >>> params = jnp.array([1.0])
      >>> print(tx.update(jnp.array([6.0]), tx.init(params), params)[0])  # -0.1 * (6 / 3 + 0.5 * 1)
      [-0.25]

    References:
      Keras 3.15.1, keras/src/optimizers/rmsprop.py, lines 109-154, and base_optimizer.py, lines 870-881 (clipping)
      and 952-959 (decay); the arguments: rmsprop.py, lines 53-71. tf_keras 2.21.0,
      tf_keras/src/optimizers/rmsprop.py, lines 185-197.
    """
    at_most_one(clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm)
    return assemble(
        ROW,
        before=[
            *clip_norm("clipnorm", clipnorm, each=True),
            *clip_value("clipvalue", clipvalue),
            *clip_norm("global_clipnorm", global_clipnorm),
        ],
        learning_rate=learning_rate,
        decay=rho,
        eps=epsilon,
        momentum=none_if_zero(momentum),
        centered=centered,
        weight_decay=weight_decay,
    )
