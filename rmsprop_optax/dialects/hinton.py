"""Hinton's RMSprop, of the lecture that introduced it.

The common mistake is to cite the lecture for an eps: it has none.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "hinton_rmsprop"]

ROW = Row(
    api="Hinton, lecture 6e",
    version="2012",
    variant=Variant(complex_pairs=None),
    arguments={"learning_rate": "learning_rate", "decay": "decay"},
    defaults={"decay": 0.9},
    state={"nu": "MeanSquare"},
    source="a transcript of the lecture",
    function="hinton_rmsprop",
    fixed={"eps": 0.0},
    remark="no eps; says nothing of the start",
)


@value
def hinton_rmsprop(
    learning_rate: optax.ScalarOrSchedule, decay: jax.typing.ArrayLike = 0.9
) -> optax.GradientTransformationExtraArgs:
    r"""Step as in Hinton's lecture, which introduced RMSprop.

    .. math::
        v_t &= \beta v_{t-1} + (1 - \beta) g_t^2, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \alpha_t g_t / \sqrt{v_t}

    It differs from `rmsprop` with its defaults:

    1. There is no eps: the step does not depend on the scale of the gradient at all. 0 over 0 is 0 here.
    2. Complex parameters are refused: the rule is for real ones.

    The lecture does not say where the mean square starts; here it starts at 0. It names no arguments; these are
    `rmsprop`'s.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\beta`, in [0, 1). A number; may be traced.

    Returns:
      The transformation. Its state has `nu`, the mean square.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.hinton_rmsprop(learning_rate=0.1, decay=0.75)
      >>> print(tx.update(jnp.array([6.0, 6e-9]), tx.init(jnp.zeros(2)))[0].round(6))  # -0.1 * 6 / sqrt(0.25 * 36)
      [-0.2 -0.2]

    References:
      Hinton, `Neural networks for machine learning, lecture 6e
      <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>`_, 2012, "rmsprop: divide the gradient
      by a running average of its recent magnitude", read in a transcript of the lecture.
    """
    return assemble(ROW, learning_rate=learning_rate, decay=decay, eps=0.0)
