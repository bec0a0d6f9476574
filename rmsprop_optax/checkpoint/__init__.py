"""Move a run in mid-training: from another framework and back, to other options, another precision or another mesh.

Every way in ends in :func:`restore`, which fills the state that `tx.init(params)` made and refuses what does not fit,
or in :func:`adapt`, which moves a state to another optimizer and reports what became of each part:

- `restore(tx.init(params), from_torch(optimizer.state_dict(), ...))`, and the same with `from_keras`, `from_tf1`,
  `from_optax` and the moments of `from_sb3`; `to_torch` and `to_optax` lead back.
- `restore(tx.init(params), state)` with a state read from a file, for the checks.
- `adapt(old_state, tx, params)` for a state that was made with other options, or by `optax.rmsprop` in any wrapper.
- `preview(old_state, tx, params)` says in words what `adapt` would do.

The guide "Move a run" of the documentation says which library keeps what under which name, and how to read and write
files.
"""

from rmsprop_optax.checkpoint.adapting import Report, adapt
from rmsprop_optax.checkpoint.keras import from_keras
from rmsprop_optax.checkpoint.optax import from_optax, to_optax
from rmsprop_optax.checkpoint.previewing import preview
from rmsprop_optax.checkpoint.restoring import restore
from rmsprop_optax.checkpoint.sb3 import Agent, from_sb3
from rmsprop_optax.checkpoint.tf1 import from_tf1
from rmsprop_optax.checkpoint.torch import from_torch, to_torch

__all__ = [
    "Agent",
    "Report",
    "adapt",
    "from_keras",
    "from_optax",
    "from_sb3",
    "from_tf1",
    "from_torch",
    "preview",
    "restore",
    "to_optax",
    "to_torch",
]


def __dir__() -> list[str]:
    return __all__
