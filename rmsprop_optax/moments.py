"""The moments of an optimizer: their names, where they are in a state, and how one is made beside its parameter.

A moment is a tree with the structure of the parameters in a field of a named tuple, as optax's states are. The field's
name says what it is, and no name means two things.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import SequenceKey

try:
    from jax.experimental.shard_alike import shard_alike
except ImportError:  # removed in jax 0.12
    shard_alike = None  # type: ignore[assignment]

__all__ = [
    "NAMES",
    "SECOND",
    "average_in",
    "beside",
    "counter",
    "entries",
    "full_like",
    "is_rms",
    "mesh_of",
    "of",
    "offloaded",
    "parameter_classes",
    "second",
    "zeros_like",
]

SECOND = ("nu", "variance")
"""The second moments, of which a state has one: the mean square, or the mean square less the squared mean."""

NAMES = (*SECOND, "mu", "trace", "ema")
"""All moments: the second ones, the mean, and the momentum as a sum or as an average of the steps."""

_OF_OPTAX = ("ScaleByRmsState", "ScaleByRmsWithCountState", "ScaleByRStdDevState", "ScaleByRStdDevWithCountState")


def of(entry: Any) -> dict[str, Any]:
    """Return the moments of one named tuple by name, in the order of `NAMES`."""
    fields = getattr(entry, "_fields", ()) if isinstance(entry, tuple) else ()
    if "ema" in fields and not isinstance(entry, optax.EmaState):  # an average of weights, say
        fields = [name for name in fields if name != "ema"]
    return {name: getattr(entry, name) for name in NAMES if name in fields and getattr(entry, name) is not None}


def second(entry: Any) -> str | None:
    """Return the name of the second moment that one named tuple keeps."""
    return next((name for name in of(entry) if name in SECOND), None)


def entries(state: Any) -> list[tuple[Any, Any]]:
    """Find the named tuples that keep moments, wherever they are in a state, each with its path.

    An `optax.EmaState` is one of them where it is the momentum of an RMSprop: its place tells it from other averages.
    """
    found, parameters, averages = _candidates(state), parameter_classes(state), set(_averages(state))
    return [
        (path, entry)
        for path, entry in found
        if type(entry) not in parameters and (not isinstance(entry, optax.EmaState) or path in averages)
    ]


def is_rms(entry: Any) -> bool:
    """Whether an entry is the memory of RMSprop's rule: ours, or optax's."""
    package, name = type(entry).__module__.partition(".")[0], type(entry).__name__
    return second(entry) is not None and (package == "rmsprop_optax" or (package == "optax" and name in _OF_OPTAX))


def average_in(chain: Any) -> int | None:
    """Return where in a chain the average of its RMSprop's steps is: behind the rule, or behind the rule and the rate.

    Elsewhere an `optax.EmaState` is that of a link of the user's own.
    """
    rules = [i for i, entry in enumerate(chain) if is_rms(entry)] if type(chain) is tuple else []
    if len(rules) != 1:
        return None
    rest = chain[rules[0] + 1 :]
    if rest and isinstance(rest[0], optax.EmptyState | optax.ScaleByScheduleState):
        rest = rest[1:]
    return len(chain) - len(rest) if rest and isinstance(rest[0], optax.EmaState) else None


def _averages(state: Any, above: Any = ()) -> list[Any]:
    """Return the paths of the averages that are the momentum of an RMSprop."""
    found = []
    for path, node in jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda node: average_in(node) is not None):
        at = average_in(node)
        if at is not None:
            found.append((*above, *path, SequenceKey(at)))
            for i, child in enumerate(node):
                found += _averages(child, (*above, *path, SequenceKey(i)))
    return found


def parameter_classes(state: Any) -> set[type]:
    """Return the classes of the nodes in a state's moments, which are those of the parameters.

    Parameters may be named tuples, too, with a field that is called like a moment: this tells them from entries.
    """
    classes: set[type] = set()

    def note(node):
        classes.add(type(node))
        return False

    for _, entry in _candidates(state):
        jax.tree.leaves(of(entry), is_leaf=note)
    return classes


def _candidates(state: Any) -> list[tuple[Any, Any]]:
    nodes = jax.tree_util.tree_leaves_with_path(state, is_leaf=lambda node: bool(of(node)))
    return [(path, node) for path, node in nodes if of(node)]


def zeros_like(param: Any, fill: Any = 0.0, *, real: bool = False) -> jax.Array:
    """Return a moment of a parameter's shape and sharding, in float32 or better, full of zeros or of another number."""
    dtype = jnp.result_type(param)
    wide = jnp.float64 if jnp.finfo(dtype).bits == 64 else jnp.float32
    if jnp.issubdtype(dtype, jnp.complexfloating) and not real:
        wide = jnp.complex128 if wide == jnp.float64 else jnp.complex64
    return full_like(param, fill, wide)


def full_like(param: Any, fill: Any, dtype: Any) -> jax.Array:
    """Return an array full of one number, of a parameter's shape, sharding and memory."""
    if _is_offloaded(param):
        made = jnp.full(param.shape, fill, dtype, device=param.sharding.with_memory_kind(None))
        return jax.device_put(made, param.sharding)
    return beside(param, jnp.full_like(param, fill, dtype=dtype))


def beside(param: Any, x: jax.Array) -> jax.Array:
    """Return an array made for a parameter of its shape, under jit with its sharding: there it would be a constant."""
    if not isinstance(param, jax.core.Tracer):
        return x
    if shard_alike is not None:
        return shard_alike(param, x)[1]
    zero = jax.lax.optimization_barrier(jnp.zeros((), x.dtype))  # which no compiler knows to be 0
    return x + jnp.isnan(param).astype(x.dtype) * zero  # shardings propagate through a sum


def counter(params: Any, start: int = 0, dtype: Any = jnp.int32) -> jax.Array:
    """Return a number that counts for all parameters: on their mesh, so that several processes hold it together.

    Where they are not on one mesh, it is free to follow what it is used with.
    """
    mesh = mesh_of(params)
    return jnp.full((), start, dtype, device=None if mesh is None else NamedSharding(mesh, PartitionSpec()))


def mesh_of(tree: Any) -> Mesh | None:
    """Return the mesh that all arrays of a tree are on, None if there is no such mesh or none that has devices."""
    leaves = jax.tree.leaves(tree)
    concrete = all(isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) for x in leaves)
    shardings = [x.sharding for x in leaves] if concrete else []
    meshes = {x.mesh if isinstance(x, NamedSharding) else None for x in shardings}
    mesh = meshes.pop() if len(meshes) == 1 else None
    return mesh if isinstance(mesh, Mesh) else None


def offloaded(function: Any, x: Any, *rest: Any, **options: Any) -> Any:
    """Call a function with arrays that may be in the host's memory, where nothing is computed: its results join `x`."""
    result = function(*jax.tree.map(_on_device, (x, *rest)), **options)
    if not _is_offloaded(x):
        return result
    return jax.tree.map(lambda y: jax.device_put(y, y.sharding.with_memory_kind(x.sharding.memory_kind)), result)


def _is_offloaded(x: Any) -> bool:
    concrete = isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer)
    return concrete and x.sharding.memory_kind == "pinned_host"


def _on_device(x: Any) -> Any:
    return jax.device_put(x, x.sharding.with_memory_kind(None)) if _is_offloaded(x) else x
