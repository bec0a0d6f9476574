"""What an optimizer answers to gradients given in advance."""

from __future__ import annotations  # signatures in help() read as written here

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks

__all__ = ["step_response"]


@_checks.keywords
def step_response(tx: optax.GradientTransformation, gradients: jax.typing.ArrayLike) -> jax.Array:
    """Return the updates of an optimizer for gradients given in advance.

    Gradients whose size jumps show how the optimizer adapts: its updates are large at first and when gradients grow,
    and small when gradients shrink.

    Args:
      tx: Any optax transformation.
      gradients: Shape (steps, ...), floating-point: one gradient for each step.

    Returns:
      The updates, like `gradients`.

    Raises:
      ValueError: `gradients` is a scalar or has no steps.
      TypeError: `gradients` is not one floating-point array; `tx` is not a transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import diagnostics, rmsprop
      >>> updates = diagnostics.step_response(rmsprop(1.0, decay=0.75), jnp.array([1.0, 1.0, 1.0, 10.0]))
      >>> [f"{update:.3f}" for update in updates]
      ['-2.000', '-1.512', '-1.315', '-1.983']
    """
    _checks.transformation("tx", tx)
    _checks.inexact("gradients", gradients)
    gradients = _one_array(gradients)

    def step(state, gradient):
        update, state = tx.update(gradient, state, jnp.zeros_like(gradient))
        return state, update

    return jax.lax.scan(step, tx.init(jnp.zeros_like(gradients[0])), gradients)[1]


def _one_array(gradients: Any) -> jax.Array:
    """Return gradients as an array with the steps in front, or refuse a tree, a scalar and no steps."""
    expected = "`gradients` must be an array of shape (steps, ...) with at least one step"
    try:
        array = jnp.asarray(() if gradients is None else gradients)
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, got a {type(gradients).__name__}. Pass a tree's leaves one by one.") from None
    if not array.shape:
        raise ValueError(f"{expected}, got a scalar. Repeat it: numpy.full(steps, gradient).")
    if not len(array):
        raise ValueError(f"{expected}, got {'None' if gradients is None else f'shape {array.shape}'}.")
    return array
