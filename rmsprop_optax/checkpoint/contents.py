"""What a state remembers: each array, where it is, and what it is there."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from rmsprop_optax import _checks, moments
from rmsprop_optax.transform import STATES

__all__ = [
    "Contents",
    "Item",
    "Path",
    "agreed",
    "by_path",
    "describe",
    "describe_rmsprop",
    "holds_states",
    "joined",
    "name_of",
    "plain",
]

Path = tuple[str, ...]

AVERAGE_COUNT = "ema's count"
"""What the steps of an averaged momentum are called: they may be fewer than those of the run."""


class Item(NamedTuple):
    """One array of a state."""

    path: Path
    value: Any
    owner: str  # the class that keeps it, such as optax.EmaState; "" outside of any
    inside: Path  # where it is in that class; for a moment the field, then the parameter's path
    field: str  # a moment, count or AVERAGE_COUNT in the memory of RMSprop; "" in that of anything else

    @property
    def parameter(self) -> Path:
        """The path of a moment's parameter."""
        return self.inside[1:]


class Contents(NamedTuple):
    """The arrays of a state in the order of its leaves, and how its momentum is kept."""

    items: list[Item]
    lr_in_momentum: bool | None  # None if RMSprop has no trace and no average, or if the chain does not tell

    @property
    def moments(self) -> dict[str, dict[Path, Item]]:
        """The moments of RMSprop, by name and by the path of the parameter."""
        found: dict[str, dict[Path, Item]] = {name: {} for name in moments.NAMES}
        for item in self.items:
            if item.field in found:
                if item.parameter in found[item.field]:
                    raise ValueError(
                        f"The state has two `{item.field}` for {name_of(item.parameter)}: two RMSprops in one chain. "
                        "Pass the part of the state that you mean."
                    )
                found[item.field][item.parameter] = item
        return {name: tree for name, tree in found.items() if tree}

    @property
    def counts(self) -> dict[Path, Item]:
        """The counts of steps, by path."""
        return {item.path: item for item in self.items if item.field == "count"}

    @property
    def average_counts(self) -> dict[Path, Item]:
        """The counts of steps in averaged momentums, by path."""
        return {item.path: item for item in self.items if item.field == AVERAGE_COUNT}

    @property
    def members(self) -> tuple[int, ...]:
        """The shape of an ensemble, from the shape of its counts; () for one run."""
        return max((item.value.shape for item in (self.counts | self.average_counts).values()), key=len, default=())

    @property
    def others(self) -> dict[Path, Item]:
        """What is neither a moment of RMSprop nor a count of steps, by path."""
        return {item.path: item for item in self.items if not item.field}

    @property
    def of_optax(self) -> bool:
        """Whether the RMSprop is optax's own."""
        return any(item.field in moments.NAMES and item.owner.startswith("optax.Scale") for item in self.items)


def describe(state: Any) -> Contents:
    """Describe a state of any transformation."""
    parameters = moments.parameter_classes(state)
    items: list[Item] = []
    orders: list[bool | None] = []

    def visit(node: Any, path: Path, owner: Any, at: int, in_momentum: bool) -> None:
        children = _children(node)
        if children is None:
            inside = path[at:]
            items.append(Item(path, node, _class(owner), inside, _field(owner, inside, in_momentum)))
            return
        if _is_named_tuple(node) and type(node) not in parameters:
            owner, at = node, len(path)
        momentum = _momentum(node)
        if momentum is not None:
            orders.append(_order(node, momentum))
        for i, (key, child) in enumerate(children):
            visit(child, (*path, *key), owner, at, in_momentum or i == momentum)

    visit(state, (), None, 0, False)
    return Contents(items, orders[0] if len(set(orders)) == 1 else None)


def describe_rmsprop(name: str, state: Any, *, of_optax: bool | None = None) -> Contents:
    """Describe a state with the moments of RMSprop: ours, optax's, or with None either; `name` is a phrase."""
    _checks.state(name, state)
    contents = describe(state)
    has = any(field in moments.SECOND for field in contents.moments)
    if has and of_optax in (None, contents.of_optax):
        return contents
    owners = sorted({item.owner for item in contents.items if item.owner})
    came = f"found {_checks.listed(owners) or _checks.shown(state)}"
    if has:
        way = (
            "It is a state of this package: restore and adapt take it as it is."
            if of_optax
            else "It is a state of optax's own RMSprop: move it with checkpoint.adapt, or read it with "
            "checkpoint.from_optax."
        )
        raise ValueError(f"{name} must be of {'optax' if of_optax else 'rmsprop_optax'}'s RMSprop, {came}. {way}")
    raise ValueError(f"{name} must have the moments of RMSprop, as its `init` makes them; {came}.{_untyped_way(state)}")


def agreed(counts: Mapping[Path, Item]) -> Any:
    """Return the number of steps on which all counts agree, None if there are none; an array for an ensemble."""
    values = {path: np.asarray(item.value) for path, item in counts.items()}
    if not values:
        return None
    first = next(iter(values.values()))
    if any(not np.array_equal(value, first) for value in values.values()):
        listed = _checks.listed([f"{name_of(path)}: {value}" for path, value in values.items()])
        raise ValueError(f"The counts of steps differ ({listed}): which one goes on? Pass the state of one run.")
    return int(first) if first.shape == () else first


def holds_states(tree: Any) -> bool:
    """Whether a tree is a state of optax's kind: named tuples that are not parameters."""
    return any(item.owner for item in describe(tree).items)


def plain(container: Any) -> dict[Path, Any]:
    """Return the leaves of dictionaries and lists by path.

    A None in the place of a count or of a moment is one, too: that is how a state that has no such field was once
    written.
    """
    leaves: dict[Path, Any] = {}

    def visit(node: Any, path: Path) -> None:
        if isinstance(node, Mapping):
            named = not {*moments.NAMES}.isdisjoint(node)
            for key, value in node.items():
                if value is None and named and key in (*moments.NAMES, "count"):
                    leaves[*path, str(key)] = None
                visit(value, (*path, str(key)))
        elif type(node) in (list, tuple):
            for i, value in enumerate(node):
                visit(value, (*path, str(i)))
        else:
            leaves.update({(*path, *item.path): item.value for item in describe(node).items})

    visit(container, ())
    return leaves


def by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by path, `layer/kernel`; a dictionary by such paths is a tree, too."""
    return joined({item.path: item.value for item in describe(tree).items})


def joined(tree: Mapping[Path, Any]) -> dict[str, Any]:
    """Write paths as `layer/kernel`, or refuse two that would be written alike."""
    named = {"/".join(path): leaf for path, leaf in tree.items()}
    if len(named) != len(tree):
        paths = ["/".join(path) for path in tree]
        raise ValueError(f"Two leaves have the path {next(p for p in paths if paths.count(p) > 1)}. Rename one.")
    return named


def name_of(path: Path) -> str:
    """Write a path for a message."""
    return "/".join(path) or "its root"


def _children(node: Any) -> list[tuple[Path, Any]] | None:
    """Return the children of a node, each with its step of the path; None for a leaf.

    A variable of Flax NNX is no step: it goes by its own path, not by that of its value.
    """
    found = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)[0]
    if found and not found[0][0]:
        return None
    variable = type(node).__module__.startswith("flax.nnx") and len(found) == 1
    step = lambda path: () if variable else (jax.tree_util.keystr(path, simple=True),)  # noqa: E731
    return [(step(path), child) for path, child in found]


def _is_named_tuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _class(owner: Any) -> str:
    return "" if owner is None else f"{type(owner).__module__.partition('.')[0]}.{type(owner).__name__}"


def _field(owner: Any, inside: Path, in_momentum: bool) -> str:
    """Name what an array is in the memory of RMSprop."""
    if owner is None or not inside:
        return ""
    name, fields = inside[0], owner._fields
    if moments.is_rms(owner) or (isinstance(owner, optax.TraceState) and in_momentum):
        return name
    if isinstance(owner, optax.EmaState) and in_momentum:
        return AVERAGE_COUNT if name == "count" else name
    wraps = any(field.startswith("inner") for field in fields)
    return "count" if name == "count" and (fields == ("count",) or wraps) else ""


def _momentum(chain: Any) -> int | None:
    """Return where in a chain the momentum of its RMSprop is: behind the rule, and the only one there."""
    if type(chain) is not tuple:
        return None
    if (average := moments.average_in(chain)) is not None:
        return average
    rules = [i for i, entry in enumerate(chain) if moments.is_rms(entry)]
    traces = [i for i, entry in enumerate(chain) if isinstance(entry, optax.TraceState) and rules and i > rules[0]]
    return traces[0] if len(rules) == len(traces) == 1 else None


def _order(chain: Any, momentum: int) -> bool | None:
    """Tell from a chain with a momentum whether its learning rate stands between the two.

    Next to the rule it does not. With one link between the two, that is the learning rate if the chain is laid out as
    `rmsprop` lays it out: optax's ends with the momentum, ours may decay behind it.
    """
    rule = next(i for i, entry in enumerate(chain) if moments.is_rms(entry))
    behind = len(chain) - momentum - 1
    if momentum == rule + 1:
        return False
    ours = isinstance(chain[rule], STATES)
    return True if momentum == rule + 2 and behind <= (1 if ours else 0) else None


def _untyped_way(state: Any) -> str:
    if not isinstance(state, Mapping | list):
        return ""
    return (
        " A container without types does not say whose state it is: fill a state that does, "
        "checkpoint.restore(optax.rmsprop(...).init(params), container), and pass that."
    )
