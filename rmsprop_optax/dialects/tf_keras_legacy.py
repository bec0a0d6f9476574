"""Keras' RMSprop in TensorFlow 2.0 to 2.10: momentum decides where eps is added.

The common mistake is to turn a momentum on and keep `epsilon`: outside the root until then, it moves inside.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.clipping import at_most_one, clip_norm, clip_value
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "tf_keras_legacy_rmsprop"]

ROW = Row(
    api="tf_keras.optimizers.legacy.RMSprop",
    version="2.21.0",
    variant=Variant(eps_in_sqrt=False, complex_pairs=None),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "rho",
        "momentum": "momentum",
        "eps": "epsilon",
        "centered": "centered",
    },
    defaults={"learning_rate": 1e-3, "decay": 0.9, "momentum": 0.0, "eps": 1e-7, "centered": False},
    state={"nu": "rms", "mu": "mg", "trace": "momentum", "count": "iter"},
    source="tf_keras/src/optimizers/legacy/rmsprop.py 149-166, 192-250",
    function="tf_keras_legacy_rmsprop",
    set_by={"eps_in_sqrt": "momentum"},
    remark="also tf.keras 2.0 to 2.10; eps is inside the root as soon as momentum is above 0",
)


@value
def tf_keras_legacy_rmsprop(
    learning_rate: optax.ScalarOrSchedule = 0.001,
    rho: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-7,
    centered: bool = False,
    *,
    clipnorm: jax.typing.ArrayLike | None = None,
    clipvalue: jax.typing.ArrayLike | None = None,
    global_clipnorm: jax.typing.ArrayLike | None = None,
    decay: jax.typing.ArrayLike = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `tf.keras.optimizers.RMSprop` of TensorFlow 2.0 to 2.10 does.

    .. math::
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \eta_t g_t / (\sqrt{v_t} + \epsilon)
            && \text{at momentum } 0 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon}, \quad \theta_t = \theta_{t-1} - b_t
            && \text{with momentum}

    It differs from `rmsprop` with its defaults:

    1. eps is outside the root at momentum 0 and inside it with any momentum above 0, however small. A traced momentum
       counts as above 0, even if it is 0, as a tensor does there: under `optax.inject_hyperparams` name it in
       `static_args`.
    2. `epsilon` is 1e-7, and 0 is refused: Keras silently replaces it by its default.
    3. The clipping acts on the raw gradient: `clipvalue` first, then a norm.
    4. With `decay` the learning rate of step :math:`t`, from 0, is divided by :math:`1 + \text{decay} \cdot t`.
    5. Complex parameters are refused: there is no such kernel with momentum.

    Keras rounds `learning_rate`, `rho` and `momentum` to float32 even for float64 variables; here they are not.
    `name` is left out; what Keras takes as keywords is keyword-only.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      rho: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced. With a Python 0 there is no buffer, and
        eps is outside the root.
      epsilon: :math:`\epsilon`, in (0, inf), in units of the squared gradient, or of the gradient at momentum 0. A
        number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      clipnorm: The largest norm of each leaf's gradient, above 0. A number; may be traced. None does not clip.
      clipvalue: The largest magnitude of a gradient's element, above 0. A number; may be traced. None does not clip.
      global_clipnorm: The largest norm of all gradients together, above 0. A number; may be traced. None does not clip.
      decay: In [0, inf). A number; may be traced. A Python 0 does not change the learning rate.

    Returns:
      The transformation. Its state has `nu` for Keras' `rms`, or when centered `variance` for `rms` minus `mg` squared
      and `mu` for `mg`, and `trace` for `momentum`; the trace has the opposite sign.

    Raises:
      ValueError: A number is out of range; both norms are given; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` is not a bool; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> for momentum in (0.0, 0.5):  # 1 / (0.5 + 0.75) and 1 / sqrt(0.25 + 0.75)
      ...     tx = dialects.tf_keras_legacy_rmsprop(1.0, rho=0.75, momentum=momentum, epsilon=0.75)
      ...     print(tx.update(jnp.array([1.0]), tx.init(jnp.zeros(1)))[0])
      [-0.8]
      [-1.]

    References:
      tf_keras 2.21.0, tf_keras/src/optimizers/legacy/rmsprop.py, lines 149-166 (momentum, epsilon) and 192-250, and
      legacy/optimizer_v2.py, lines 549-554 (clipping) and 1189-1192 (decay); the arguments: lines 99-108.
    """
    epsilon = _checks.positive("epsilon", epsilon, hint=" Keras silently replaces 0 by 1e-7: say which you mean.")
    at_most_one(clipnorm=clipnorm, global_clipnorm=global_clipnorm)
    momentum = none_if_zero(momentum)
    return assemble(
        ROW,
        before=[
            *clip_value("clipvalue", clipvalue),
            *clip_norm("clipnorm", clipnorm, each=True),
            *clip_norm("global_clipnorm", global_clipnorm),
        ],
        switches={"eps_in_sqrt": momentum is not None},
        learning_rate=_divided(learning_rate, none_if_zero(decay)),
        decay=rho,
        eps=epsilon,
        momentum=momentum,
        centered=centered,
    )


def _divided(learning_rate: optax.ScalarOrSchedule, decay: jax.typing.ArrayLike | None) -> optax.ScalarOrSchedule:
    """Divide a learning rate by 1 + decay * step."""
    if decay is None:
        return learning_rate
    decay = _checks.number("decay", decay)
    rate = learning_rate if callable(learning_rate) else optax.constant_schedule(learning_rate)
    return lambda count: rate(count) / (1.0 + decay * count)
