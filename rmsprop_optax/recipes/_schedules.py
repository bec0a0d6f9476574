"""Learning-rate schedules as published: down to 0, in steps, or up at first."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks


def linear_to_zero(learning_rate: Any, steps: int | None, every: Any = 1) -> optax.ScalarOrSchedule:
    """Let a learning rate fall linearly to 0 over so many steps, once every so many; None keeps it constant."""
    learning_rate = _checks.number("learning_rate", learning_rate)
    if steps is None:
        return learning_rate
    steps = _checks.positive("steps", steps, hint=" Pass None to keep the learning rate.")
    every = _checks.positive("every", every, hint=" Pass 1 to let the learning rate fall at each update.")
    return lambda count: learning_rate * (1 - jnp.minimum(count // every * every, steps) / steps)


def warmed_up(learning_rate: Any, steps: int) -> optax.Schedule:
    """Let a learning rate rise linearly over so many steps: the first has one part of steps + 1, the next two."""
    learning_rate = _checks.number("learning_rate", learning_rate)
    return lambda count: learning_rate * jnp.minimum(1.0, (count + 1) / (steps + 1))


def staircase(learning_rate: Any, steps_per_epoch: float, epochs: float, factor: float) -> optax.Schedule:
    """Multiply a learning rate by a factor every so many epochs."""
    learning_rate = _checks.number("learning_rate", learning_rate)
    return optax.exponential_decay(learning_rate, steps_of_epoch(steps_per_epoch) * epochs, factor, staircase=True)


def steps_of_epoch(steps_per_epoch: Any) -> float:
    """Return the updates of an epoch as a float, or refuse a number that may be traced."""
    if isinstance(steps_per_epoch, jax.Array):
        raise TypeError(f"`steps_per_epoch` must be a Python number, got {steps_per_epoch!r}.")
    return _checks.positive("steps_per_epoch", steps_per_epoch, hint=" It is the number of updates of an epoch.")
