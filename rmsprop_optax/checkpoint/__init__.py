"""Carry a run over: from another framework and back, to other options, another precision, other hardware.

Every way in ends in :func:`restore`, which fills the state that `tx.init(params)` made and refuses what does not fit:

- `restore(tx.init(params), from_torch(optimizer.state_dict(), ...))`, and the same with `from_keras`, `from_tf1` and
  `from_optax`; `to_torch` and `to_optax` lead back.
- `restore(tx.init(params), state)` with a state read from a file, for the checks.
- `adapt(old_state, tx, params)` for a state that was made with other options.

Which library keeps what under which name, and how to write and read files: docs/checkpoints.md.
"""

from rmsprop_optax.checkpoint.adapting import adapt
from rmsprop_optax.checkpoint.pytorch import from_torch, to_torch
from rmsprop_optax.checkpoint.restoring import restore
from rmsprop_optax.checkpoint.stock import from_optax, to_optax
from rmsprop_optax.checkpoint.tensorflow import from_keras, from_tf1

__all__ = ["adapt", "from_keras", "from_optax", "from_tf1", "from_torch", "restore", "to_optax", "to_torch"]
