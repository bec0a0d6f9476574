"""Record a state of each present layout, which every later release must load.

`python tests/recorded/states_of_releases/record.py VERSION` writes the files to VERSION beside this script, and
overwrites nothing.
"""

import pathlib
import pickle
import sys

import flax.serialization
import jax
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from kit.release_states import FOLDER, LAYOUTS, PARAMS, STEPS, gradients, make
from kit.training import path


def main():
    folder = FOLDER / sys.argv[1]
    folder.mkdir()
    for layout in LAYOUTS:
        tx = make(layout)
        steps, state = path(tx, gradients(STEPS), PARAMS)
        both = jax.tree.map(np.asarray, {"params": steps[-1], "state": state})
        (folder / f"{layout}.msgpack").write_bytes(flax.serialization.to_bytes(both))
        (folder / f"{layout}.pickle").write_bytes(pickle.dumps(both))


if __name__ == "__main__":
    main()
