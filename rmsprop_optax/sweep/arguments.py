"""The arguments of a sweep, checked and brought into one form before anything is compiled."""

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rmsprop_optax import _checks

__all__ = [
    "at_once",
    "check_factory",
    "check_function",
    "check_held_out",
    "check_progress",
    "check_threshold",
    "mesh",
    "rate_dtype",
    "rates",
    "seeds",
    "stacked",
    "start",
]

_RATES = {"learning_rate", "lr", "rate"}  # names of a learning rate
_OTHERS = {"b1", "decay", "eps", "max_delta", "max_norm", "momentum", "steps"}  # first arguments that are no rate


def check_factory(make_tx: Any) -> None:
    """Refuse what isn't a function of a learning rate, and one that would take the rate for something else."""
    check_function("make_tx", make_tx, "that takes a learning rate: `rmsprop`, not `rmsprop(0.01)`")
    try:
        signature = inspect.signature(make_tx)
    except ValueError:  # functions written in C need not have one
        return
    function = getattr(make_tx, "func", make_tx)  # of a functools.partial
    call = f"{getattr(function, '__name__', type(function).__name__)}({', '.join(signature.parameters)})"
    way = "Pass a function of the rate alone, such as `lambda rate: recipes.impala(None, rate)`."
    try:
        first = next(iter(signature.bind(0.1).arguments))
    except TypeError:
        raise TypeError(f"`make_tx` must take a learning rate and nothing else, got {call}. {way}") from None
    written_here = getattr(function, "__name__", "") == "<lambda>"  # to sweep another number is the user's to choose
    if first not in _RATES and not written_here and (first in _OTHERS or _RATES & signature.parameters.keys()):
        raise TypeError(
            f"`make_tx` must take the learning rate first, got {call}: this would sweep its `{first}`. {way}"
        )


def check_function(name: str, function: Any, what: str) -> None:
    """Refuse what can't be called."""
    if not callable(function):
        raise TypeError(f"`{name}` must be a function {what}, got {_checks.shown(function)}.")


def rates(learning_rates: Any) -> np.ndarray:
    """Return the learning rates as an array, or refuse them."""
    try:
        given = np.asarray(learning_rates)
    except (TypeError, ValueError):  # traced, or rows of several lengths
        given = np.asarray(None)
    if not (jnp.issubdtype(given.dtype, jnp.floating) or jnp.issubdtype(given.dtype, jnp.integer)):
        raise TypeError(
            f"`learning_rates` must be a sequence of numbers, got {_checks.shown(learning_rates)}. "
            "Pass 2.0 ** numpy.arange(-12, 0, 0.5), say."
        )
    array = given.astype(float)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"`learning_rates` must have shape (rates,) with at least one rate, got shape {array.shape}.")
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"`learning_rates` must be positive and finite, got {array.tolist()}.")
    if not (np.diff(array) > 0).all():
        raise ValueError(f"`learning_rates` must ascend, got {array.tolist()}. Pass sorted(set(learning_rates)).")
    return array


def seeds(seeds: Any) -> tuple[int, ...] | None:
    """Return each seed, or None if there are none."""
    if seeds is None:
        return None
    listed = (
        tuple(range(seeds))
        if _is_integer(seeds)
        else tuple(seeds)
        if hasattr(seeds, "__iter__") and not isinstance(seeds, bytes)
        else ()
    )
    valid = all(_is_integer(seed) and 0 <= seed < 2**32 for seed in listed)
    if not listed or not valid or len(set(listed)) < len(listed):
        raise ValueError(
            f"`seeds` must be a number from 1 or different integers in [0, 2**32), got {_checks.shown(seeds)}."
        )
    return tuple(int(seed) for seed in listed)


def check_threshold(diverged_above: Any) -> None:
    """Refuse a multiple of the first loss that isn't above 1."""
    shown = _checks.shown(diverged_above)
    expected = f"`diverged_above` must be a number in (1, inf], got {shown}: it multiplies the first loss."
    scalar = isinstance(diverged_above, int | float) or getattr(diverged_above, "shape", None) == ()
    if not scalar or np.asarray(diverged_above).dtype.kind not in "fiu":
        raise TypeError(expected)
    if not diverged_above > 1:
        raise ValueError(expected)


def check_progress(progress: Any) -> None:
    """Refuse what isn't a bool: the bar has no styles to choose from."""
    if not isinstance(progress, bool | np.bool_):
        raise TypeError(
            f"`progress` must be True or False, got {_checks.shown(progress)}. True shows a bar, with tqdm."
        )


def start(params: Any, seeds: tuple[int, ...] | None) -> tuple[Any, Any, Any]:
    """Return the function that makes the parameters, or None; the parameters, or None; and their shapes and dtypes."""
    makes = callable(params) and jax.tree_util.all_leaves([params])
    if makes and seeds is None:
        raise ValueError(
            "`params` is a function of a key, and `seeds` is None. Pass seeds=3, say, or call it yourself."
        )
    tree = jax.eval_shape(params, jax.random.key(0)) if makes else params
    _checks.arrays("params", tree, shapes=makes)
    _checks.inexact("params", tree)
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(np.shape(p), jnp.result_type(p)), tree)
    if not jax.tree.leaves(shapes):
        raise ValueError("`params` must have at least one leaf, got none.")
    return (params if makes else None), (None if makes else params), shapes


def rate_dtype(shapes: Any) -> Any:
    """Return the dtype of learning rates and losses: float64 if a parameter is."""
    bits = [jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(shapes)]
    return np.float64 if max(bits) == 64 else np.float32


def stacked(batches: Any, steps: Any) -> tuple[Any, int]:
    """Return the batches as arrays with the steps in front, and the number of steps."""
    if steps is not None and not (_is_integer(steps) and 1 <= steps < 2**31):
        raise ValueError(f"`steps` must be an integer in [1, 2**31), got {_checks.shown(steps)}.")
    one = jax.tree_util.all_leaves([batches])
    unread = hasattr(batches, "__next__") or (one and not hasattr(batches, "shape"))
    _check_kind(batches, unread)
    if steps is None and (unread or not jax.tree.leaves(batches)):
        raise ValueError("`steps` must be given, got None: the number of these `batches` isn't known.")
    if unread:
        batches = _read(iter(batches), steps)
    lengths = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(batches):
        if not np.shape(leaf):
            raise ValueError(
                f"`batches` at {_checks.leaf_name(path)} must have shape (steps, ...), got a scalar, {leaf!r}."
            )
        lengths[_checks.leaf_name(path)] = np.shape(leaf)[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`batches` must all have the steps as their first axis, got lengths {lengths}.")
    available = min(lengths.values(), default=steps)
    if not 0 < (steps or available) <= available:
        raise ValueError(f"`batches` run out after {available} of {steps} steps. Pass more of them, or fewer `steps`.")
    return jax.tree_util.tree_map_with_path(_array, batches), int(steps or available)


def _check_kind(batches: Any, unread: bool) -> None:
    """Refuse what is neither a tree of arrays nor an iterator of batches, and a list, which could be either."""
    expected = "`batches` must be a tree of arrays, each with the steps in front, or an iterator of batches"
    if unread and (isinstance(batches, str | bytes) or not (hasattr(batches, "__iter__") or _is_sequence(batches))):
        way = " Call it: pass what it returns." if callable(batches) else ""
        raise TypeError(f"{expected}, got {_checks.shown(batches)}.{way}")
    if isinstance(batches, list) and _are_alike(batches):
        raise ValueError(
            f"{expected}, got a list of {len(batches)} alike, which could be either. If each is a batch, pass "
            f"iter(batches) and steps={len(batches)}; if together they are a tree, pass tuple(batches)."
        )
    if batches is not None and not unread and not jax.tree.leaves(batches):
        raise ValueError(f"{expected}, got {batches!r}. Pass None if the loss needs no data.")


def _is_sequence(batches: Any) -> bool:
    """Say whether `iter` works without `__iter__`, as for PyTorch's data sets."""
    return hasattr(batches, "__getitem__") and hasattr(batches, "__len__")


def _are_alike(elements: list[Any]) -> bool:
    """Say whether these are containers of one structure, or several arrays of one shape."""
    structures = {jax.tree.structure(element) for element in elements}
    if len(structures) != 1:
        return False
    if jax.tree_util.all_leaves(elements):
        return len(elements) > 1 and len({np.shape(element) for element in elements}) == 1
    return True


def _read(batches: Iterator[Any], steps: int) -> Any:
    taken = list(itertools.islice(batches, steps))
    if len(taken) < steps:
        raise ValueError(f"`batches` ran out after {len(taken)} of {steps} steps. Pass more of them, or fewer `steps`.")
    for i, batch in enumerate(taken):
        _checks.like(f"batches at step {i}", batch, "batches at step 0", taken[0])
    return jax.tree.map(lambda *leaves: (jnp if isinstance(leaves[0], jax.Array) else np).stack(leaves), *taken)


def _array(path: Any, leaf: Any) -> jax.Array:
    try:
        return jnp.asarray(leaf)
    except TypeError as error:  # strings, objects
        kind = getattr(leaf, "dtype", type(leaf).__name__)
        name = _checks.leaf_name(path)
        raise TypeError(f"`batches` at {name} must be numbers, got {kind}. Encode them, or leave them out.") from error


def at_once(at_once: Any, runs: int) -> int:
    """Return how many runs advance together."""
    if at_once is None:
        return 1 if jax.default_backend() == "cpu" else runs
    if not (_is_integer(at_once) and 1 <= at_once <= runs):
        raise ValueError(
            f"`at_once` must be an integer in [1, {runs}], one to all of the runs, got "
            f"{_checks.shown(at_once)}. None chooses by the backend."
        )
    return int(at_once)


def check_held_out(held_out: Any, batches: Any, evaluate: Any) -> None:
    """Refuse what differs from a batch in structure or number of axes, or what the loss can't be evaluated on.

    `evaluate` traces the loss on a batch, or on the shapes of one. The number of examples may differ.
    """
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), batches)
    expected, got = _shapes(batch), _shapes(held_out)
    _checks.arrays("held_out", held_out, shapes=False)
    way = f"Got shapes {got}; a batch has shapes {expected}, of which the number of examples may differ."
    if batches is not None and expected.keys() != got.keys():
        raise ValueError(f"`held_out` must have the structure of a batch. {way}")
    for name, shape in expected.items():
        if len(got[name]) != len(shape):
            raise ValueError(f"`held_out` at {name} must have as many axes as in a batch. {way}")
    try:
        evaluate(held_out)
    except Exception as error:
        if batches is not None:
            evaluate(batch)  # if it raises here too, then it isn't because of `held_out`
        raised = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(f"`held_out` must be a batch that `loss_fn` takes. {way} It raised {raised}") from error


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {_checks.leaf_name(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _is_integer(x: Any) -> bool:
    return isinstance(x, int | np.integer) and not isinstance(x, bool)


def mesh(devices: Any) -> jax.sharding.Mesh | None:
    """Return a mesh of the devices that share the runs, or None for the default device; refuse what can't be one."""
    if devices is None:
        return None
    expected = "`devices` must be a sequence of different devices of this process, such as jax.local_devices()"
    listed = list(devices) if hasattr(devices, "__iter__") else [devices]
    if not hasattr(devices, "__iter__") or not all(isinstance(device, jax.Device) for device in listed):
        raise TypeError(f"{expected}, got {devices!r}.")
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"{expected}, got {listed}.")
    if len({device.platform for device in listed}) > 1:
        raise ValueError(f"`devices` must be of one kind, which one program is compiled for, got {listed}.")
    elsewhere = [device for device in listed if device.process_index != jax.process_index()]
    if elsewhere:
        raise ValueError(
            f"{expected}, got {elsewhere}, of other processes. Call it in each process with its own rates."
        )
    return jax.sharding.Mesh(np.array(listed), ("runs",))
