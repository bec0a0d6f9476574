"""RMSprop, exactly: one rule, every framework's dialect of it, at any precision, at any scale."""

from rmsprop_optax import (
    _versions,  # noqa: F401  (comes first: the others import what it refuses)
    checkpoint,
    compression,
    diagnostics,
    dialects,
    plots,
    recipes,
    scaling,
    sharding,
    sweep,
)
from rmsprop_optax.alias import Variant, rmsprop
from rmsprop_optax.transform import ScaleByRmsState, ScaleByRmsWithCountState, ScaleByStddevState, scale_by_rms

__all__ = [
    "ScaleByRmsState",
    "ScaleByRmsWithCountState",
    "ScaleByStddevState",
    "Variant",
    "checkpoint",
    "compression",
    "diagnostics",
    "dialects",
    "plots",
    "recipes",
    "rmsprop",
    "scale_by_rms",
    "scaling",
    "sharding",
    "sweep",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return __all__
