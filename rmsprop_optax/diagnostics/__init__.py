"""What an optimizer does to a run, in numbers: pure functions of its state and updates that run under `jax.jit`."""

from rmsprop_optax.diagnostics.measuring import measure, oscillation
from rmsprop_optax.diagnostics.rates import effective_learning_rate
from rmsprop_optax.diagnostics.responding import step_response
from rmsprop_optax.diagnostics.sharpness import sharpness

__all__ = ["effective_learning_rate", "measure", "oscillation", "sharpness", "step_response"]


def __dir__() -> list[str]:
    return __all__
