"""The arguments of a sweep: each is checked before anything is compiled."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rmsprop_optax import _checks


def check_function(name: str, function: Any, what: str) -> None:
    """Refuse what can't be called."""
    if not callable(function):
        raise TypeError(f"`{name}` must be a function {what}, got {function!r}.")


def rates(learning_rates: Any) -> np.ndarray:
    """Return the learning rates as an array, or refuse them."""
    array = np.asarray(learning_rates, float)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"`learning_rates` must have shape (rates,) with one rate at least, got shape {array.shape}.")
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"`learning_rates` must be positive and finite, got {array.tolist()}.")
    if not (np.diff(array) > 0).all():
        raise ValueError(f"`learning_rates` must ascend, got {array.tolist()}. Pass sorted(set(learning_rates)).")
    return array


def seeds(seeds: Any) -> tuple[int, ...] | None:
    """Return each seed, or None if there are none."""
    if seeds is None:
        return None
    listed = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    valid = all(isinstance(seed, int | np.integer) and 0 <= seed < 2**32 for seed in listed)
    if not listed or not valid or len(set(listed)) < len(listed):
        raise ValueError(f"`seeds` must be a number from 1 or different integers in [0, 2**32), got {seeds!r}.")
    return tuple(int(seed) for seed in listed)


def start(params: Any, seeds: tuple[int, ...] | None) -> tuple[Any, Any, Any]:
    """Return what makes the parameters, or None; the parameters, or None; and the dtype of the learning rate."""
    makes = callable(params) and jax.tree_util.all_leaves([params])
    if makes and seeds is None:
        raise ValueError(
            "`params` is a function of a key, and `seeds` is None. Pass seeds=3, say, or call it yourself."
        )
    tree = jax.eval_shape(params, jax.random.key(0)) if makes else params
    _checks.inexact("params", tree)
    bits = [jnp.finfo(jnp.result_type(leaf)).bits for leaf in jax.tree.leaves(tree)]
    if not bits:
        raise ValueError("`params` must have a leaf at least, got none.")
    return (params if makes else None), (None if makes else params), np.float64 if max(bits) == 64 else np.float32


def stacked(batches: Any, steps: int | None) -> tuple[Any, int]:
    """Return the batches as arrays with the steps in front, and the number of steps."""
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1):
        raise ValueError(f"`steps` must be an integer from 1, got {steps!r}.")
    unread = hasattr(batches, "__next__") or (jax.tree_util.all_leaves([batches]) and not hasattr(batches, "shape"))
    if steps is None and (unread or not jax.tree.leaves(batches)):
        raise ValueError("`steps` must be given, got None: these `batches` do not tell how many they are.")
    if unread:
        batches = _read(iter(batches), steps or 0)
    lengths = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(batches):
        if not np.shape(leaf):
            raise ValueError(f"`batches` at {jax.tree_util.keystr(path)} must have shape (steps, ...), got a scalar.")
        lengths[jax.tree_util.keystr(path)] = np.shape(leaf)[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`batches` must all have the steps as their first axis, got lengths {lengths}.")
    available = min(lengths.values(), default=steps or 0)
    if not 0 < (steps or available) <= available:
        raise ValueError(f"`batches` run out after {available} of {steps} steps. Pass more of them, or fewer `steps`.")
    return jax.tree.map(jnp.asarray, batches), int(steps or available)


def _read(batches: Iterator[Any], steps: int) -> Any:
    taken = list(itertools.islice(batches, steps))
    if len(taken) < steps:
        raise ValueError(f"`batches` ran out after {len(taken)} of {steps} steps. Pass more of them, or fewer `steps`.")
    for i, batch in enumerate(taken):
        _checks.like(f"batches at step {i}", batch, "batches at step 0", taken[0])
    return jax.tree.map(lambda *leaves: (jnp if isinstance(leaves[0], jax.Array) else np).stack(leaves), *taken)


def at_once(at_once: Any, runs: int) -> int:
    """Return how many runs advance together."""
    if at_once is None:
        return 1 if jax.default_backend() == "cpu" else runs
    if isinstance(at_once, bool) or not isinstance(at_once, int | np.integer) or at_once < 1:
        raise ValueError(f"`at_once` must be an integer from 1, got {at_once!r}. None chooses by the backend.")
    return min(int(at_once), runs)
