"""Fill the state that `init` made with arrays from elsewhere: one description, one match, one fill."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rmsprop_optax import _checks
from rmsprop_optax import moments as names
from rmsprop_optax.checkpoint import contents
from rmsprop_optax.checkpoint.contents import Contents, Path, describe, name_of
from rmsprop_optax.checkpoint.filling import (
    check_codecs,
    check_scales,
    codes_message,
    copy_like,
    filled,
    home,
    is_code,
    no_codes,
    paired,
    whole,
)

__all__ = ["restore"]

_OPTION = {
    "nu": "centered=False",
    "variance": "centered=True",
    "mu": "centered=True",
    "trace": "momentum, a sum",
    "ema": "average_momentum=True",
}
_KEYS = (*names.NAMES, "count", "lr_in_momentum")


@_checks.keywords
def restore(state: Any, moments: Any, *, allow_rounding: bool = False) -> Any:
    """Return `state`, as `tx.init` made it, with the given arrays in place of its own.

    Structure, shapes and dtypes must agree: nothing is broadcast, dropped, made up or rounded, and what could mean two
    things is refused. The new arrays are copies; each takes the sharding of the array it replaces. The arguments are
    left alone. Codes of the same dtype are copied as they are: use the codec they were made with.

    With shapes for `state`, nothing is made that is replaced later: an array of `moments` that is on its devices
    already is returned itself and not copied, so do not use `moments` once the new state is donated. Shapes do not
    tell which codecs a state is for, so they are not compared.

    Args:
      state: What `tx.init(params)` returned, or its shapes with shardings: a tree of `jax.ShapeDtypeStruct`, whose
        shardings `sharding.state_shardings` tells.
      moments: One of these:

        - A state of the same optimizer, read from a file.
        - All its leaves without types, as readers return them that know none: nested dictionaries and lists of its
          fields, or a dictionary from its leaves' paths (`0/nu/layer/kernel`). Nothing in it says which optimizer it
          is of, so all paths must agree: the place of a trace in the list tells the order of learning rate and
          momentum. For a file of optax's own RMSprop, fill `optax.rmsprop(...).init(params)` and pass that to
          :func:`adapt`.
        - A dictionary as `from_torch`, `from_keras`, `from_tf1` and `from_optax` return it: from `nu`, or `variance`
          and `mu`, and `trace` or `ema` to trees like the parameters, or dictionaries from a leaf's path
          (`layer/kernel`); from `count` to the number of steps taken, those of `ema` included; from `lr_in_momentum` to
          a bool. What else the state has stays as it is.

      allow_rounding: Whether float64 may become float32.

    Returns:
      A state with the structure, shapes, dtypes and shardings of `state`.

    Raises:
      ValueError: Leaves or counts are missing or unexpected; a shape differs; the state was made with other options or
        by another optimizer, or for other parameters; `nu` stands beside `mu`, which mean different things in different
        libraries; a dictionary of moments has values that are not finite, or a second moment below 0.
      TypeError: A dtype would lose precision; numbers come for codes, or codes for numbers; complex moments come for a
        real state, or the reverse.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import checkpoint, rmsprop
      >>> state = rmsprop(0.1).init({"w": jnp.zeros(2)})
      >>> state = checkpoint.restore(state, {"nu": {"w": jnp.array([4.0, 9.0])}})
      >>> print(state[0].nu["w"])
      [4. 9.]
    """
    allow_rounding = _checks.switch("allow_rounding", allow_rounding)
    for name, tree in (("`state`", state), ("`moments`", moments)):
        _checks.state(name, tree)
    wanted, statistics = describe(state), _is_statistics(moments)
    if statistics:
        arrays = _statistics(contents.describe_rmsprop("`state`", state, of_optax=False), moments)
    elif contents.holds_states(moments):
        arrays = _typed(state, wanted, moments)
    else:
        arrays = _untyped(wanted, moments)
    likes = {item.path: item for item in wanted.items}
    if statistics:
        _check_values(likes, arrays)
    else:
        _check_codes(likes, arrays)
    mesh = home(wanted)
    copies = {
        path: copy_like(_where(likes[path], statistics), x, likes[path].value, mesh=mesh, allow_rounding=allow_rounding)
        for path, x in arrays.items()
    }
    return filled(state, copies)


def _is_statistics(moments: Any) -> bool:
    return isinstance(moments, Mapping) and not {*names.NAMES}.difference({"ema"}).isdisjoint(moments)


def _statistics(wanted: Contents, given: Mapping[str, Any]) -> dict[Path, Any]:
    """Return the arrays of a dictionary by the name of the moment, by their path in the state."""
    trees = {name: contents.plain(given[name]) for name in names.NAMES if given.get(name) is not None}
    unknown = [str(key) for key, value in given.items() if key not in _KEYS and value is not None]
    if unknown:
        raise ValueError(f"`moments` must have nothing but {', '.join(_KEYS)}; unexpected: {_checks.listed(unknown)}.")
    no_codes("`state`", _differing(wanted, trees))
    _check_fields(wanted, trees)
    arrays: dict[Path, Any] = {}
    for field, items in wanted.moments.items():
        pairs = paired(f"`{field}` of `moments`", trees[field], f"`{field}` in `state`", items)
        arrays |= {item.path: trees[field][pairs[parameter]] for parameter, item in items.items()}
    _check_order(wanted.lr_in_momentum, given.get("lr_in_momentum"))
    count = None if given.get("count") is None else whole(given["count"])
    counts = wanted.counts | wanted.average_counts
    if counts and count is None:
        raise ValueError(
            f"`state` counts steps at {', '.join(map(name_of, counts))}, `moments` has no `count`: a schedule "
            'or a bias correction would start again. Add the number of steps taken: moments | {"count": 1000}.'
        )
    for path, item in counts.items():
        arrays[path] = jnp.full(item.value.shape, count, item.value.dtype) if isinstance(count, int) else count
    check_scales("`moments`", wanted, arrays)
    return arrays


def _typed(state: Any, wanted: Contents, saved: Any) -> dict[Path, Any]:
    """Return the arrays of a state by their path in the state to fill, which must be of the same optimizer."""
    given = describe(saved)
    ours = any(item.field in names.NAMES for item in wanted.items)
    if ours and wanted.of_optax != contents.describe_rmsprop("`moments`", saved).of_optax:
        contents.describe_rmsprop("`moments`", saved, of_optax=wanted.of_optax)  # says so
    _check_parameters(wanted, _paths(given))
    try:
        pairs = paired("`moments`", _paths(given), "`state`, as init made it", _paths(wanted))
        expected: Any = jax.tree.structure(state)
        if expected != jax.tree.structure(saved):
            raise ValueError(f"`moments` has other containers than `state`: {_checks.containers(saved, state)}.")
    except ValueError as error:
        raise ValueError(f"{error} It was made with other options: move it with checkpoint.adapt.") from None
    values = {item.path: item.value for item in given.items}
    return {path: values[other] for path, other in pairs.items()}


def _untyped(wanted: Contents, container: Any) -> dict[Path, Any]:
    """Return the arrays of containers without types by their path in the state; paths are all there is to tell them."""
    given = contents.plain(container)
    _check_parameters(wanted, given)
    try:
        pairs = paired("`moments`", given, "`state`, as init made it", _paths(wanted))
    except ValueError as error:
        raise ValueError(f"{error}{_why(wanted, given)}") from None
    return {path: given[other] for path, other in pairs.items()}


def _why(wanted: Contents, given: Mapping[Path, Any]) -> str:
    """Say what the paths of a container without types look like, and the way in."""
    paths = [tuple("/".join(path).split("/")) for path in given]
    found = {part: path for path in paths for part in path if part in names.NAMES}
    if any(value is None for value in given.values()):
        return " A field that is None is of a layout that no release has: start the run from its parameters."
    if "nu" in found and "mu" in found:
        return (
            " `nu` beside `mu` is optax's mean square of a centered RMSprop, or the memory of Adam and its kin; a "
            "centered state here has `variance`. If it is optax's RMSprop, fill a state that says so, "
            "checkpoint.restore(optax.rmsprop(..., centered=True).init(params), container), and move that with "
            "checkpoint.adapt."
        )
    for momentum in {"trace", "ema"} & found.keys() & wanted.moments.keys():
        here, there = next(iter(wanted.moments[momentum].values())).path, found[momentum]
        if (*here[: here.index(momentum)],) != (*there[: there.index(momentum)],):
            return (
                f" The {momentum} stands elsewhere in the list, so learning rate and momentum have another order, or "
                "it is another chain. Fill the state of the optimizer that wrote it, and move that with "
                "checkpoint.adapt."
            )
    return " Fill the state of the optimizer that wrote it, and move that with checkpoint.adapt."


def _check_parameters(wanted: Contents, given: Iterable[Path]) -> None:
    """Refuse the state of another model: one with the same moments in the same places, for other parameters."""
    here: dict[Path, list[str]] = {}  # from the place of a moment to its parameters
    for item in wanted.items:
        if item.field in names.NAMES:
            here.setdefault(item.path[: len(item.path) - len(item.parameter)], []).append("/".join(item.parameter))
    written = [tuple("/".join(path).split("/")) for path in given]
    there = {place: ["/".join(path[len(place) :]) for path in written if path[: len(place)] == place] for place in here}
    boxed = lambda paths: {path.removesuffix("/value") for path in paths}  # noqa: E731
    differing = [place for place in here if boxed(here[place]) != boxed(there[place])]
    if not differing or not all(there.values()) or len(differing) < len(here):
        return
    lists = {
        "missing": [path for path in here[differing[0]] if path not in there[differing[0]]],
        "unexpected": [path for path in there[differing[0]] if path not in here[differing[0]]],
    }
    found = "; ".join(f"{word}: {_checks.listed(paths)}" for word, paths in lists.items() if paths)
    partly = set(here[differing[0]]) & set(there[differing[0]])
    way = " For parameters that are new, checkpoint.adapt has `start`." if partly else ""
    raise ValueError(
        f"`moments` must be of the parameters of `state`, at {name_of(differing[0])}; {found}. It is the state of "
        f"another model, or of other layers: make `state` with the parameters of that run.{way}"
    )


def _paths(described: Contents) -> list[Path]:
    return [item.path for item in described.items]


def _check_fields(wanted: Contents, given: Mapping[str, Any]) -> None:
    """Refuse moments that another optimizer left."""
    if "nu" in given and "mu" in given:
        raise ValueError(
            "`moments` has `nu` beside `mu`: in optax and PyTorch that `nu` is the mean square, in Adam it belongs to "
            "another rule. A centered state has `variance`, the mean square less the squared mean, and `mu`; "
            "from_optax, from_torch, from_keras and from_tf1 calculate it."
        )
    for field in names.NAMES:
        if field in given and field not in wanted.moments:
            raise ValueError(
                f"`moments` has `{field}`, `state` does not, so it would be lost. Build the optimizer with "
                f"{_OPTION[field]}, take the field away, or move a state to other options with checkpoint.adapt."
            )
        if field in wanted.moments and field not in given:
            raise ValueError(
                f"`state` has `{field}`, `moments` does not: the run before was not made with {_OPTION[field]}. Build "
                "the optimizer as that run had it, restore, and switch the option with checkpoint.adapt."
            )


def _check_order(wanted: bool | None, given: Any) -> None:
    given = None if given is None else _checks.switch("lr_in_momentum", given)
    if None not in (wanted, given) and wanted != given:
        raise ValueError(
            f"`moments` has a momentum with lr_in_momentum={given}, `state` one with lr_in_momentum={wanted}: they "
            "differ by a factor of minus the learning rate. Build the optimizer with the order of the run before (the "
            "functions of `dialects` have it), then move to the other with checkpoint.adapt. In a chain of your own "
            "whose order is right, take `lr_in_momentum` out of `moments`."
        )


def _differing(wanted: Contents, trees: Mapping[str, Mapping[Path, Any]]) -> Contents:
    """Return what the state keeps in a dtype that differs from that of the given arrays."""
    dtypes = {field: {getattr(x, "dtype", None) for x in tree.values()} for field, tree in trees.items()}
    return wanted._replace(
        items=[item for item in wanted.items if {item.value.dtype} != dtypes.get(item.field, {item.value.dtype})]
    )


def _where(item: contents.Item, statistics: bool) -> str:
    """Name an array as it was given: by its moment, or by its place in a state."""
    if statistics and item.field in names.NAMES:
        return f"`{item.field}` at {name_of(item.parameter)}"
    return f"`moments` at {name_of(item.path)}"


def _check_values(likes: Mapping[Path, contents.Item], arrays: Mapping[Path, Any]) -> None:
    """Refuse moments from elsewhere that no run could go on with."""
    for path, given in arrays.items():
        field, where = likes[path].field, _where(likes[path], statistics=True)
        if field not in names.NAMES:
            continue
        x = given if hasattr(given, "dtype") else np.asarray(given)
        if x.dtype.kind in "OUS":
            raise TypeError(f"{where} must be an array, got {_checks.shown(given)}.")
        if x.dtype.kind in "iub" and x.dtype.itemsize > 1:
            raise TypeError(f"{where} must be floating-point, got {x.dtype}. Cast it: x.astype(numpy.float32).")
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            continue
        on_device = isinstance(x, jax.Array) and x.sharding.memory_kind != "pinned_host"
        x = x if on_device else np.asarray(x)
        finite = bool((jnp if on_device else np).isfinite(x).all())
        parts = (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)
        if not finite or (field in names.SECOND and any(bool((part < 0).any()) for part in parts)):
            bad = f"a {'mean square' if field == 'nu' else field} below 0" if finite else "values that are not finite"
            raise ValueError(f"{where} has {bad}: the run diverged, or the file is damaged.")


def _check_codes(likes: Mapping[Path, contents.Item], arrays: Mapping[Path, Any]) -> None:
    """Refuse codes for numbers and numbers for codes: in a state, half precision is a code, too."""
    for path, x in arrays.items():
        check_codecs(likes[path], x)
        dtype, like = getattr(x, "dtype", None), likes[path].value.dtype
        if likes[path].field in names.NAMES and dtype is not None and dtype != like:
            for kind, owner in ((like, "`state`"), (dtype, "`moments`")):
                if is_code(kind):
                    raise TypeError(codes_message(f"`moments` at {name_of(path)}", kind, owner))
