"""Learning-rate schedules as published: down to 0, or in steps."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks


def linear_to_zero(learning_rate: Any, steps: int | None) -> optax.ScalarOrSchedule:
    """Let a learning rate fall linearly to 0 over so many steps; None keeps it constant."""
    learning_rate = _checks.number("learning_rate", learning_rate)
    if steps is None:
        return learning_rate
    steps = _checks.positive("steps", steps, hint=" Pass None to keep the learning rate.")
    return lambda count: learning_rate * (1 - jnp.minimum(count, steps) / steps)


def staircase(learning_rate: Any, steps_per_epoch: float, epochs: float, factor: float) -> optax.Schedule:
    """Multiply a learning rate by a factor every so many epochs."""
    learning_rate = _checks.number("learning_rate", learning_rate)
    return optax.exponential_decay(learning_rate, steps_of_epoch(steps_per_epoch) * epochs, factor, staircase=True)


def steps_of_epoch(steps_per_epoch: Any) -> float:
    """Return the updates of an epoch as a float, or refuse a number that may be traced."""
    if isinstance(steps_per_epoch, jax.Array):
        raise TypeError(f"`steps_per_epoch` must be a Python number, got {steps_per_epoch!r}.")
    return _checks.positive("steps_per_epoch", steps_per_epoch, hint=" It is the number of updates of an epoch.")
