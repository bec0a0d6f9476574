"""Files that trainers wrote in the middle of a run, and how each went on: tests/recorded/files_of_trainers."""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kit import training

FOLDER = pathlib.Path(__file__).parent.parent / "recorded" / "files_of_trainers"


class Continuation(NamedTuple):
    start: dict[str, np.ndarray]  # the weights in the file
    grads: list[dict[str, np.ndarray]]
    path: list[dict[str, np.ndarray]]  # the weights after each gradient


def continuation(name: str) -> Continuation:
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {tuple(key.split(":")): x for key, x in file.items()}

    def steps(kind):
        trees = {name: x for (of, name), x in arrays.items() if of == kind}
        return [{name: x[i] for name, x in trees.items()} for i in range(len(next(iter(trees.values()))))]

    return Continuation(steps("start")[0], steps("grads"), steps("path"))


def go_on(tx, state, run: Continuation, convert):
    """Return the distance from the trainer's path, as a fraction of the distance that it moved, and the last state."""
    params = jax.tree.map(jnp.asarray, convert(run.start))
    here, state = training.path(tx, [jax.tree.map(jnp.asarray, convert(g)) for g in run.grads], params, state)
    theirs = [convert(weights) for weights in run.path]
    return max(map(apart, here, theirs)) / apart(theirs[-1], convert(run.start)), state


def apart(one, other):
    """Return the largest difference of any element of two trees."""
    return max(
        float(np.max(np.abs(np.asarray(a) - b))) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True)
    )
