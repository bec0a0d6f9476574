"""Where each array of a state belongs, told before any of them is made."""

from __future__ import annotations  # signatures in help() read as written here

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import GetAttrKey, tree_leaves_with_path, tree_map_with_path

from rmsprop_optax import _checks, moments
from rmsprop_optax.compression.compressed_moments import is_compressed

__all__ = ["state_shardings"]


def __dir__() -> list[str]:
    return __all__


@_checks.keywords
def state_shardings(tx: optax.GradientTransformation, params: optax.Params, shardings: Any = None) -> Any:
    """Return the shardings of the state that `tx.init(params)` makes, from shapes alone.

    Nothing is computed and nothing is moved. With the result, `jax.jit(tx.init, out_shardings=...)` makes each array
    where it belongs, a step can name the state's layout in its `in_shardings` and `out_shardings`, and a checkpoint can
    be read straight to its devices.

    Each array of the state is matched with a parameter by its path: the longest one at the end of the array's own path
    (`w` for `0/nu/w`). Where no path is complete, as in `optax.lookahead`, whose parameters have a container more than
    its state, the end of a parameter's path will do. Then

    - an array of its parameter's shape has its parameter's sharding, kind of memory included: moments, accumulated
      gradients, averages, low halves;
    - a moment of another shape but as many axes, as some codes are, and the scales of such codes are split as their
      parameter is along each axis whose length is a multiple of the number of parts, and not along the others;
    - everything else is replicated on the mesh, in the memory of the devices: counters, injected numbers, random keys,
      and whatever has no parameter's shape, such as the rows and columns of `optax.adafactor`, the vectors of
      `optax.flatten` and the history of `optax.lbfgs`. Give such a state other shardings by hand if it is large.

    Args:
      tx: Any optax transformation.
      params: The parameters: arrays, or `jax.ShapeDtypeStruct`, with shardings unless `shardings` are given. A leaf may
        be None.
      shardings: How to lay out what has a parameter's shape, if not as the parameters: a tree of `NamedSharding` like
        the parameters, or a prefix of it, such as one for all. Their mesh may be a `jax.sharding.AbstractMesh`.

    Returns:
      A `NamedSharding` for each array, in a tree like the state.

    Raises:
      ValueError: Parameters on no mesh or on several, without `shardings`; `shardings` on several meshes, or
        without the structure of the parameters.
      TypeError: `tx` is not a transformation; `shardings` has something else in it, such as a `PartitionSpec`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jax.sharding import NamedSharding, PartitionSpec
      >>> from rmsprop_optax import rmsprop, sharding
      >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
      >>> rows = NamedSharding(mesh, PartitionSpec("data"))
      >>> params = {"w": jax.ShapeDtypeStruct((16, 4), jnp.float32, sharding=rows)}
      >>> layout = sharding.state_shardings(rmsprop(0.1, bias_correction=True), params)
      >>> print(layout[0].nu["w"] == rows, layout[0].count.is_fully_replicated)
      True True
    """
    _checks.transformation("tx", tx)
    _checks.arrays("params", params)
    homes = _homes(params, shardings)
    replicated = NamedSharding(_mesh(homes, given=shardings is not None), PartitionSpec())
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(jnp.shape(p), jnp.result_type(p)), params)
    state = jax.eval_shape(tx.init, shapes)
    by_end, named = _by_end(homes), _moments(state)

    def sharding(path, x):
        home = _home(path, by_end) or (_home(path[:-1], by_end) if path in named else None)  # parts of complex numbers
        if home is None or _is_counter(x):
            return replicated
        if x.shape == home.shape:
            return home.sharding
        return _split_alike(home, x.shape) if path in named and len(x.shape) == len(home.shape) else replicated

    return tree_map_with_path(sharding, state)


class _Home(NamedTuple):
    """What a parameter says of where its state belongs."""

    path: Any
    shape: tuple[int, ...]
    sharding: Any


def _homes(params: Any, shardings: Any) -> list[_Home]:
    leaves = tree_leaves_with_path(params)
    if shardings is None:
        found = [getattr(p, "sharding", None) for _, p in leaves]
    else:
        try:
            spread = jax.tree.map(lambda s, below: jax.tree.map(lambda _: s, below), shardings, params)
        except ValueError:
            here, there = (
                _checks.listed([_checks.leaf_name(path) for path, _ in tree_leaves_with_path(tree)])
                for tree in (params, shardings)
            )
            raise ValueError(
                f"`shardings` must have the structure of `params` or be a prefix of it; `params` has {here}, and "
                f"`shardings` {there or 'no leaves'}. One for all will do, too."
            ) from None
        found = jax.tree.leaves(spread)
    return [_Home(path, jnp.shape(p), s) for (path, p), s in zip(leaves, found, strict=True)]


def _mesh(homes: list[_Home], *, given: bool) -> Any:
    """Return the one mesh that all are on, or refuse them by name."""
    if not homes:
        raise ValueError("`params` must have an array at least, got none: there is no mesh to replicate counters on.")
    for home in homes:
        if isinstance(home.sharding, NamedSharding):
            continue
        place = _checks.leaf_name(home.path)
        if given:
            raise TypeError(
                f"`shardings` at {place} must be a NamedSharding, got {_checks.shown(home.sharding)}. Write "
                "NamedSharding(mesh, PartitionSpec(...))."
            )
        raise ValueError(
            f"`params` at {place} must be on a mesh, got {home.sharding}. Pass `shardings`: a tree of "
            "NamedSharding(mesh, PartitionSpec(...)) like the parameters, or one for all."
        )
    for home in homes:
        if home.sharding.mesh != homes[0].sharding.mesh:
            raise ValueError(
                f"{'`shardings`' if given else '`params`'} must be on one mesh, got {homes[0].sharding.mesh} at "
                f"{_checks.leaf_name(homes[0].path)} and {home.sharding.mesh} at {_checks.leaf_name(home.path)}."
                + ("" if given else " Pass `shardings` that are.")
            )
    return homes[0].sharding.mesh


def _by_end(homes: list[_Home]) -> dict[Any, tuple[int, _Home]]:
    """Return, for each end of a path, the parameter of which it leaves out least, and how much that is."""
    found: dict[Any, tuple[int, _Home]] = {}
    for home in homes:
        for missing in range(max(1, len(home.path))):
            end = home.path[missing:]
            if end not in found or missing < found[end][0]:
                found[end] = missing, home
    return found


def _home(path: Any, by_end: dict[Any, tuple[int, _Home]]) -> _Home | None:
    """Return the parameter of an array of the state: the one with most of its path at the end of the array's path."""
    ends = [path[start:] for start in range(len(path) + 1)]  # the longest first
    return min((by_end[end] for end in ends if end in by_end), key=lambda found: found[0], default=(0, None))[1]


def _moments(state: Any) -> set[Any]:
    """Return the paths of the moments in a state, and of the scales of those that are in codes."""
    trees = [
        ((*path, GetAttrKey(field)), tree)
        for path, entry in moments.entries(state)
        for field, tree in moments.of(entry).items()
    ]
    nodes = tree_leaves_with_path(state, is_leaf=is_compressed)
    trees += [((*path, GetAttrKey("scales")), node.scales) for path, node in nodes if is_compressed(node)]
    return {(*path, *rest) for path, tree in trees for rest, _ in tree_leaves_with_path(tree)}


def _is_counter(x: Any) -> bool:
    return x.shape == () and x.dtype in (jnp.int32, jnp.uint32)


def _split_alike(home: _Home, shape: tuple[int, ...]) -> NamedSharding:
    """Return a parameter's sharding for an array of other lengths, without the axes that do not divide them."""
    mesh, spec = home.sharding.mesh, home.sharding.spec

    def parts(names):
        return math.prod(mesh.shape[name] for name in (names if isinstance(names, tuple) else (names,)))

    kept = [None if names is None or n % parts(names) else names for n, names in zip(shape, spec, strict=False)]
    return NamedSharding(mesh, PartitionSpec(*kept), memory_kind=home.sharding.memory_kind)
