"""A function that turns another framework's weights into parameters also turns its statistics, and back again."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint.contents import by_path

__all__ = ["Convert", "check_convert", "check_names", "converted", "numpy_of", "origins", "reverted"]

Convert = Callable[[dict[Any, np.ndarray]], Any] | None


def check_convert(convert: Any) -> None:
    """Refuse what is not a function of weights."""
    if convert is not None and not callable(convert):
        raise TypeError(
            "`convert` must be a function from a dictionary of weights to the parameters, or None, got "
            f"{_checks.shown(convert)}."
        )


def check_names(names: Any, *, optional: bool = True) -> None:
    """Refuse what is not a list of names, or a dictionary from names."""
    if names is None and optional:
        return
    given = list(names) if isinstance(names, Iterable) and not isinstance(names, str | bytes) else [None]
    if not all(isinstance(name, str) for name in given) or hasattr(names, "shape"):
        wrong = next((name for name in given if not isinstance(name, str)), None)
        inside = f", with {_checks.shown(wrong)} in it" if wrong is not None else ""
        raise TypeError(f"`names` must be a list of strings, got {_checks.shown(names)}{inside}.")
    for name in names if isinstance(names, Mapping) else ():
        if not hasattr(names[name], "shape"):
            raise TypeError(f"`names` at {name} must be a weight, of which the shape is read, got {names[name]!r}.")


def converted(convert: Convert, fields: Mapping[str, dict[Any, np.ndarray]]) -> dict[str, Any]:
    """Apply the function to each field, after a check that it loses, doubles and changes nothing."""
    if convert is None:
        return {field: {str(name): np.array(x) for name, x in arrays.items()} for field, arrays in fields.items()}
    _check(convert, {name: x.shape for name, x in next(iter(fields.values())).items()})
    trees = {}
    for field, arrays in fields.items():
        trees[field] = convert({name: np.array(x) for name, x in arrays.items()})
        went_in = {x.dtype for x in arrays.values()}
        for path, leaf in by_path(trees[field]).items():
            if leaf.dtype not in went_in:
                raise TypeError(
                    f"`convert` must keep the dtype: {path} came out as {leaf.dtype}, and what went in is "
                    f"{', '.join(map(str, went_in))}. Leave casts out of it; jax.numpy casts float64 unless under "
                    "jax.enable_x64, NumPy does not."
                )
    return trees


def reverted(convert: Convert, tree: dict[str, Any], shapes: Mapping[Any, tuple[int, ...]]) -> dict[Any, np.ndarray]:
    """Undo the function: return the arrays, by name, that it would turn into the tree with these leaves."""
    if convert is None:
        sources = {str(name): (np.full(shape, i), np.arange(_size(shape)).reshape(shape))
                   for i, (name, shape) in enumerate(shapes.items())}  # fmt: skip
    else:
        _check(convert, shapes)
        sources = _sources(convert, shapes)
    _same(tree, {path: parameter.shape for path, (parameter, _) in sources.items()})
    dtype = np.result_type(*(leaf.dtype for leaf in tree.values())) if tree else np.float32
    flat = [np.zeros(_size(shape), dtype) for shape in shapes.values()]
    for path, (parameter, position) in sources.items():
        leaf = np.asarray(tree[path])
        for i in np.unique(parameter):
            flat[i][position[parameter == i]] = leaf[parameter == i]
    return {name: x.reshape(shape) for (name, shape), x in zip(shapes.items(), flat, strict=True)}


def origins(convert: Convert, shapes: Mapping[Any, tuple[int, ...]]) -> dict[str, set[Any]]:
    """Return, by path, the names of the weights of which a parameter is made."""
    if convert is None:
        return {str(name): {name} for name in shapes}
    names = list(shapes)
    probe = {name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(shapes.items())}
    return {path: {names[int(i)] for i in np.unique(leaf)} for path, leaf in by_path(convert(probe)).items()}


def _check(convert: Callable[[dict[Any, np.ndarray]], Any], shapes: Mapping[Any, tuple[int, ...]]) -> None:
    """Send through arrays that hold the number of their parameter, and count what comes out."""
    probe = {name: np.full(shape, i + 1, np.float32) for i, (name, shape) in enumerate(shapes.items())}
    try:
        leaves = by_path(convert(probe))
    except KeyError as error:
        known = _checks.listed([*map(str, shapes)])
        raise ValueError(f"`convert` asks for {error}, which has no statistics; those that have: {known}.") from None
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise ValueError(
            "`convert` must take a dictionary from the names of weights to NumPy arrays, and return the parameters; "
            f"called with {_checks.listed([*map(str, shapes)])}, it raised {said}"
        ) from error
    wrong = [path for path, leaf in leaves.items() if not hasattr(leaf, "dtype")]
    if wrong:
        raise TypeError(f"`convert` must return a tree of arrays, got {_checks.shown(leaves[wrong[0]])} at {wrong[0]}.")
    came = np.concatenate([np.ravel(leaf) for leaf in leaves.values()]) if leaves else np.zeros(0)
    numbers = came.astype(np.int64)
    if (numbers != came).any() or (numbers < 1).any() or (numbers > len(shapes)).any():
        raise ValueError(
            "`convert` changes values. It also converts mean squares, so it may rename, reshape, transpose, split and "
            "join, but not scale, negate, pad or round: do that outside of it."
        )
    counted = np.bincount(numbers, minlength=len(shapes) + 1)[1:]
    wrong = [
        f"{name} ({_size(shape)} numbers went in, {n} came out)"
        for (name, shape), n in zip(shapes.items(), counted, strict=True)
        if n != _size(shape)
    ]
    if wrong:
        raise ValueError(f"`convert` must return each number once. Lost or doubled: {', '.join(wrong[:5])}.")


def _sources(convert: Callable[[dict[Any, np.ndarray]], Any], shapes: Mapping[Any, tuple[int, ...]]) -> dict[str, Any]:
    """Return, by path, which parameter and which of its elements each element of a leaf comes from.

    Positions go through the function in two halves, each exact in float32, which jax.numpy casts to.
    """
    half = 2**20

    def through(number):
        probe = {
            name: number(i, np.arange(_size(shape))).astype(np.float32).reshape(shape)
            for i, (name, shape) in enumerate(shapes.items())
        }
        return {path: np.asarray(leaf).astype(np.int64) for path, leaf in by_path(convert(probe)).items()}

    which = through(lambda i, at: np.full(at.shape, i))
    high, low = through(lambda i, at: at // half), through(lambda i, at: at % half)
    return {path: (which[path], half * high[path] + low[path]) for path in which}


def _same(tree: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    from_state = {path: np.shape(leaf) for path, leaf in tree.items()}
    if from_state != shapes:
        differ = [
            f"{path}: {shapes.get(path, 'nothing')} from the weights, {from_state.get(path, 'nothing')} in the state"
            for path in {**shapes, **from_state}
            if shapes.get(path) != from_state.get(path)
        ]
        raise ValueError(f"`convert` does not turn `weights` into the tree of `state`. {'; '.join(differ[:5])}.")


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def numpy_of(x: Any) -> np.ndarray:
    """Return a NumPy copy of an array or a tensor, on whatever device; half precision becomes float32."""
    if hasattr(x, "full_tensor") or hasattr(x, "local_shards"):  # a DTensor or a ShardedTensor
        raise ValueError(
            "A statistic is a sharded tensor, of which each process has a part. Gather it before: "
            "get_optimizer_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True)) in "
            "torch.distributed.checkpoint.state_dict, or x.full_tensor()."
        )
    if hasattr(x, "detach"):  # a tensor
        x = x.detach().cpu()
        x = (x.float() if "bfloat16" in str(x.dtype) else x).numpy()
    x = np.array(x)
    return x.astype(np.float32) if str(x.dtype) in ("bfloat16", "float16") else x
