"""RMSprop, exactly: one rule, every framework's dialect of it, at any precision, at any scale."""

from rmsprop_optax import diagnostics, plots, sweep
from rmsprop_optax.alias import rmsprop
from rmsprop_optax.transform import ScaleByRmsState, scale_by_rms

__all__ = ["ScaleByRmsState", "diagnostics", "plots", "rmsprop", "scale_by_rms", "sweep"]
