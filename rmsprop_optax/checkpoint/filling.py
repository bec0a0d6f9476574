"""Put arrays in the place of those of a state, or refuse them by name."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rmsprop_optax import _checks, moments
from rmsprop_optax.checkpoint.contents import Contents, Item, Path, describe, name_of

__all__ = ["check_codecs", "check_scales", "copy_like", "filled", "home", "is_code", "no_codes", "paired", "whole"]


def filled(state: Any, arrays: Mapping[Path, Any]) -> Any:
    """Return the state with these arrays at their paths; where there is none it keeps its own."""
    treedef: Any = jax.tree.structure(state)
    return treedef.unflatten([arrays.get(item.path, item.value) for item in describe(state).items])


def paired(name: str, given: Iterable[Path], wanted_name: str, wanted: Iterable[Path]) -> dict[Path, Path]:
    """Return, for each wanted path, the given one, or refuse paths that are missing or unexpected.

    The two names are phrases.
    Paths match if they are equal, or equal when written out (`a/b`), or equal except for a last `value`, which a box
    around a parameter adds in some libraries' trees and not in others.
    """
    given, wanted = list(given), list(wanted)
    for key in (lambda path: path, "/".join, lambda path: "/".join(path).removesuffix("/value")):
        ours, theirs = {key(path): path for path in wanted}, {key(path): path for path in given}
        if ours.keys() == theirs.keys() and len(ours) == len(wanted) and len(theirs) == len(given):
            return {path: theirs[short] for short, path in ours.items()}
    here, there = [name_of(path) for path in wanted], [name_of(path) for path in given]
    lists = {
        "missing": [path for path in here if path not in there],
        "unexpected": [path for path in there if path not in here],
    }
    found = "; ".join(f"{word}: {_checks.listed(paths)}" for word, paths in lists.items() if paths)
    raise ValueError(f"{name} must have the leaves of {wanted_name}; {found or 'two paths are written alike'}.")


def copy_like(
    where: str, x: Any, like: Any, *, mesh: Any = None, allow_rounding: bool = False, memory_kind: str | None = None
) -> Any:
    """Return a copy of x with the dtype and the sharding of `like`, in the kind of memory that is asked for.

    Where `like` is free to follow what it is used with, the copy stays on the mesh of the state if x is there. Where
    `like` is a shape, an array that is in its place is returned as it is.
    """
    inexact = jnp.issubdtype(like.dtype, jnp.inexact)
    x = x if hasattr(x, "dtype") else np.asarray(x, like.dtype if inexact and not is_code(like.dtype) else None)
    if x.shape != like.shape:
        raise ValueError(f"{where} must have shape {like.shape}, got {x.shape}. Nothing is broadcast or reshaped.")
    if inexact or jnp.issubdtype(x.dtype, jnp.inexact):
        _check_dtype(where, x.dtype, like.dtype, allow_rounding)
    elif x.dtype != like.dtype:
        raise TypeError(f"{where} must be {like.dtype}, got {x.dtype}.")
    if jnp.issubdtype(like.dtype, jax.dtypes.extended):  # keys of random numbers
        return jax.device_put(jnp.copy(x), like.sharding)
    sharding, moves = _in_memory(getattr(like, "sharding", None), memory_kind)
    if isinstance(like, jax.Array) and not like.committed and not moves:
        if mesh is not None and isinstance(x, jax.Array) and moments.mesh_of(x) == mesh:
            return jnp.array(x, like.dtype, copy=True)
        return jnp.array(np.asarray(x, like.dtype), copy=True)
    if isinstance(x, jax.Array) and x.dtype == like.dtype:
        return jax.device_put(x if isinstance(like, jax.ShapeDtypeStruct) else jnp.array(x, copy=True), sharding)
    return jax.device_put(np.array(x, like.dtype), sharding)


def _in_memory(sharding: Any, kind: str | None) -> tuple[Any, bool]:
    """Return a sharding in a kind of memory, and whether its own kind is a different one."""
    moves = None not in (sharding, kind) and sharding.memory_kind != kind
    return (sharding.with_memory_kind(kind) if moves else sharding), moves


def home(state: Contents) -> Any:
    """Return the mesh that a state is on: that of all its arrays that are committed, None if there is none."""
    return moments.mesh_of([item.value for item in state.items if getattr(item.value, "committed", True)])


def check_codecs(item: Item, x: Any) -> None:
    """Refuse codes if their codecs are not those of the state to fill: both states have a checksum of them."""
    if item.owner != "rmsprop_optax.CompressedState" or item.inside != ("made_by",):
        return
    if isinstance(item.value, jax.Array) and not np.array_equal(np.asarray(x), np.asarray(item.value)):
        raise ValueError(
            f"The codes at {name_of(item.path[:-1])} were made by other codecs than those of the state to fill. Build "
            "`compressed` with the codecs of the run before, or change them: compression.decompress with the old ones, "
            "compression.recompress with the new ones."
        )


def check_scales(owner: str, contents: Contents, paths: Iterable[Path]) -> None:
    """Refuse codes that would be put at these paths without the scales that they count from."""
    paths = set(paths)
    coded = {_scale_of(item) for item in contents.items if item.path not in paths}
    for item in contents.items:
        if item.path in paths and (item.field, item.parameter) in coded:
            raise ValueError(
                f"`{item.field}` at {name_of(item.parameter)} is in codes that count from scales, which {owner} has "
                "not in their place. Restore the whole state to that of its optimizer; compression.decompress makes "
                "float32 of the codes, and compression.recompress the way back."
            )


def no_codes(owner: str, contents: Contents) -> None:
    """Refuse moments that are kept in fewer than 32 bits: they are codes, and need not be the numbers."""
    for item in contents.items:
        if item.field in moments.NAMES and is_code(item.value.dtype):
            raise TypeError(codes_message(f"`{item.field}` at {name_of(item.parameter)}", item.value.dtype, owner))


def is_code(dtype: Any) -> bool:
    """Whether arrays of this dtype stand for moments without being their numbers."""
    return not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits < 32


def codes_message(where: str, dtype: Any, owner: str) -> str:
    """Say that codes can't be calculated with, and what to do."""
    return (
        f"{where} is kept in {dtype} in {owner}, and codes can't be copied for numbers or calculated with. "
        "compression.decompress makes float32 of them, and compression.recompress the way back."
    )


def whole(count: Any, name: str = "`count`") -> Any:
    """Return a number of steps, or one for each member of an ensemble, or refuse it; `name` is a phrase."""
    try:
        number = np.asarray(count)
    except (TypeError, ValueError):  # rows of several lengths
        number = np.asarray(None)
    numeric = number.dtype.kind in "iuf" and number.size > 0
    if not numeric or not ((number >= 0) & (number < 2**31) & (number == np.floor(number))).all():
        raise ValueError(f"{name} must be a whole number of steps in [0, 2**31), got {_checks.shown(count)}.")
    return int(number) if number.shape == () else number.astype(np.int32)


def _scale_of(item: Item) -> tuple[str, Path] | None:
    """Return the moment and the parameter for whose codes an array is a scale, None if it is none."""
    if item.owner != "rmsprop_optax.CompressedState" or item.inside[:1] != ("scales",):
        return None
    return next(name for name in moments.NAMES if item.inside[2].startswith(f"{name}_")), item.inside[3:]


def _check_dtype(where: str, given: Any, wanted: Any, allow_rounding: bool) -> None:
    if given == wanted:
        return
    if not jnp.issubdtype(given, jnp.inexact):
        raise TypeError(codes_message(where, given, "`moments`"))
    if not jnp.issubdtype(wanted, jnp.inexact):
        raise TypeError(codes_message(where, wanted, "`state`"))
    if jnp.issubdtype(given, jnp.complexfloating) != jnp.issubdtype(wanted, jnp.complexfloating):
        raise TypeError(
            f"{where} must be {wanted}, got {given}: PyTorch keeps a mean square for each part of a complex number, "
            "optax one for both. Build the optimizer with the same rule (dialects.torch_rmsprop has PyTorch's)."
        )
    if jnp.promote_types(given, wanted) != wanted and not allow_rounding:
        raise TypeError(
            f"{where} must fit {wanted}, got {given}, which would be rounded. Moments are float64 for float64 "
            "parameters under jax.enable_x64; or allow it, where there is an `allow_rounding`."
        )
