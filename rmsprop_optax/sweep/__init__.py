"""Many learning rates in one compiled program: which trains best, and up to which training is stable."""

from rmsprop_optax.sweep.result import Suggestion, Sweep
from rmsprop_optax.sweep.sweeping import learning_rates

__all__ = ["Suggestion", "Sweep", "learning_rates"]


def __dir__() -> list[str]:
    return __all__
