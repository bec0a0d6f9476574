"""RMSprop, exactly: one rule, every framework's dialect of it, at any precision, at any scale."""

from rmsprop_optax import compression, plots
from rmsprop_optax.alias import rmsprop
from rmsprop_optax.transform import ScaleByRmsState, scale_by_rms

__all__ = ["ScaleByRmsState", "compression", "plots", "rmsprop", "scale_by_rms"]
