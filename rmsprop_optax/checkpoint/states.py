"""Find moments by the names of their fields, wherever they sit in a state, and put others in their place."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks
from rmsprop_optax.transform import ScaleByRmsState

OF_OPTAX = ("ScaleByRmsState", "ScaleByRmsWithCountState", "ScaleByRStdDevState", "ScaleByRStdDevWithCountState")
FIELDS = ("nu", "mu", "trace")


class Found(NamedTuple):
    """What a state remembers: moments by field and by the path of their leaf, and its counts of steps by place."""

    moments: dict[str, dict[str, Any]]
    counts: dict[str, Any]
    lr_in_momentum: bool | None  # None if there is no trace, or if the chain does not tell
    counts_for_bias: bool = False


def gather(state: Any, *, optax_s: bool = False) -> Found:
    """Find the moments of RMSprop in a state: ours, or those of optax's own RMSprop."""
    entries = jax.tree_util.tree_leaves_with_path(state, is_leaf=_is_entry)
    rms = [entry for _, entry in entries if is_rms(entry, optax_s=optax_s)]
    if not rms:
        raise ValueError(_nothing(state, entries, optax_s=optax_s))
    moments: dict[str, dict[str, Any]] = {}
    for entry in rms:
        for field in ("nu", "mu"):
            if getattr(entry, field, None) is not None:
                _merge(moments.setdefault(field, {}), by_path(getattr(entry, field)), field)
    for _, entry in entries:
        if _is_trace_of(entry, moments["nu"]):
            _merge(moments.setdefault("trace", {}), by_path(entry.trace), "trace")
    counts = {}
    for path, entry in entries:
        if counted := _count(path, entry, optax_s=optax_s):
            counts[place((*path, jax.tree_util.GetAttrKey("count"))) if _is_entry(entry) else place(path)] = counted[0]
    return Found(moments, counts, _lr_in_momentum(state), any(_count((), e, optax_s=optax_s) for e in rms))


def fill(state: Any, moments: dict[str, dict[str, Any]], count: Any, *, optax_s: bool = False) -> Any:
    """Return the state with the given moments; `count` makes the array that stands in for each count."""

    def replaced(tree, field):
        return jax.tree_util.tree_map_with_path(lambda path, _: moments[field][place(path)], tree)

    def visit(path, entry):
        new = {}
        if is_rms(entry, optax_s=optax_s):
            fields = [field for field in ("nu", "mu") if getattr(entry, field, None) is not None]
            new = {field: replaced(getattr(entry, field), field) for field in fields}
        elif _is_trace_of(entry, moments["nu"]):
            new = {"trace": replaced(entry.trace, "trace")}
        counted = _count(path, entry, optax_s=optax_s)
        if counted and not _is_entry(entry):
            return count(entry)
        if counted:
            new["count"] = jax.tree.map(count, entry.count)  # in Flax NNX a variable
        return entry._replace(**new) if new else entry

    return jax.tree_util.tree_map_with_path(visit, state, is_leaf=_is_entry)


def others(state: Any) -> dict[str, tuple[str, Any]]:
    """Return the leaves that are neither moments nor counts of steps, by path, with the class that keeps them."""
    nu, named = gather(state).moments["nu"], {}
    for path, entry in jax.tree_util.tree_leaves_with_path(state, is_leaf=_is_entry):
        injected = any(getattr(key, "name", None) == "hyperparams" for key in path)  # options, not memory
        if not (is_rms(entry) or _is_trace_of(entry, nu) or _count(path, entry)):
            for rest, leaf in jax.tree_util.tree_leaves_with_path(entry):
                named[place((*path, *rest))] = (
                    f"hyperparams of {id(state)}" if injected else type(entry).__name__,
                    leaf,
                )
    return named


def step_of(counts: Mapping[str, Any]) -> int | None:
    """Return the one number of steps that all counts agree on, None if there are no counts."""
    steps = {name: int(count) for name, count in counts.items()}
    if len(set(steps.values())) > 1:
        listed = ", ".join(f"{name}: {step}" for name, step in steps.items())
        raise ValueError(f"The counts of steps differ ({listed}): which one goes on? Pass the state of one run.")
    return next(iter(steps.values()), None)


def by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by path, `layer/kernel`; a dictionary by such paths is a tree, too."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {place(path): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        paths = [place(path) for path, _ in leaves]
        raise ValueError(f"Two leaves have the path {next(p for p in paths if paths.count(p) > 1)}. Rename one.")
    return named


def place(path: Any) -> str:
    """Write a path as `layer/kernel`; a variable of Flax NNX goes by its own path, not by that of its value."""
    if path and getattr(path[-1], "name", None) == "value":
        path = path[:-1]
    return _checks.place(path)


def is_rms(entry: Any, *, optax_s: bool = False) -> bool:
    """Whether an entry holds the moments of our RMSprop, or of optax's."""
    if not optax_s:
        return isinstance(entry, ScaleByRmsState)
    return type(entry).__name__ in OF_OPTAX and type(entry).__module__.partition(".")[0] == "optax"


def holds_states(tree: Any) -> bool:
    """Whether a tree is a state of optax's kind and not a plain mapping of moments."""
    entries = jax.tree.leaves(tree, is_leaf=_is_entry)
    return any(_is_entry(entry) for entry in entries)


def _is_entry(node: Any) -> bool:
    """Whether a node is one transformation's own state; those that wrap other states are not."""
    fields = getattr(node, "_fields", ())
    wraps = any(field.startswith("inner") for field in fields)
    return isinstance(node, tuple) and not wraps and bool({"count", "nu", "trace"} & {*fields})


def _is_trace_of(entry: Any, nu: Mapping[str, Any]) -> bool:
    """Whether an entry is the momentum of the parameters that have a `nu`, not that of another branch."""
    if not isinstance(entry, optax.TraceState):
        return False
    paths = by_path(entry.trace).keys()
    return not paths or bool(paths & nu.keys())


def _count(path: Any, entry: Any, *, optax_s: bool = False) -> list[Any]:
    """Return an entry's count of steps in a list, which is empty if it has none, or one that is not ours to move."""
    if is_rms(entry, optax_s=optax_s) or getattr(entry, "_fields", ()) == ("count",):
        return jax.tree.leaves(entry.count) if "count" in entry._fields else []  # else it is the tuple's method
    of_a_wrapper = path and isinstance(path[-1], jax.tree_util.GetAttrKey) and path[-1].name == "count"
    number = getattr(entry, "shape", None) == () and jnp.issubdtype(entry.dtype, jnp.integer)
    return [entry] if of_a_wrapper and number else []


def _lr_in_momentum(state: Any) -> bool | None:
    """Tell from a chain whether its learning rate stands between the rule and the trace."""
    chains: list[Any] = []

    def visit(node):
        if type(node) is tuple:
            chains.append(node)
        return False

    jax.tree.leaves(state, is_leaf=visit)
    for chain in chains:
        rule = [i for i, entry in enumerate(chain) if is_rms(entry) or is_rms(entry, optax_s=True)]
        trace = [i for i, entry in enumerate(chain) if isinstance(entry, optax.TraceState)]
        if rule and trace:
            return trace[0] - rule[0] > 1
    return None


def _merge(into: dict[str, Any], more: dict[str, Any], field: str) -> None:
    if twice := into.keys() & more.keys():
        raise ValueError(f"The state has two `{field}` for {', '.join(sorted(twice))}: two RMSprops in one chain.")
    into.update(more)


def _nothing(state: Any, entries: list[Any], *, optax_s: bool) -> str:
    found = sorted({f"{type(e).__module__.partition('.')[0]}.{type(e).__name__}" for _, e in entries if _is_entry(e)})
    came = f"found {', '.join(found) or type(state).__name__}"
    if any(is_rms(entry, optax_s=not optax_s) for _, entry in entries):
        way = (
            "It is a state of this package: restore and adapt take it as it is."
            if optax_s
            else "It is a state of optax's own RMSprop: convert it with checkpoint.from_optax."
        )
        return f"Expected the state of {'optax' if optax_s else 'rmsprop_optax'}'s RMSprop, {came}. {way}"
    return f"Expected a state with the moments of RMSprop, as `init` makes it, {came}."
