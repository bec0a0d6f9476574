"""Fill the state that `init` made with moments from elsewhere, or refuse them by name."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint import states

_OPTION = {"nu": "RMSprop", "mu": "centered=True", "trace": "momentum"}
_KEYS = (*states.FIELDS, "count", "lr_in_momentum")


def restore(state: Any, moments: Any, *, allow_rounding: bool = False) -> Any:
    """Return `state`, as `tx.init` made it, with the given moments in place of its own.

    The moments are found and placed by the names of their fields, `nu`, `mu`, `trace` and `count`, wherever these sit
    in a chain; masked and partitioned trees are put together. Structure, shapes and dtypes must agree: nothing is
    broadcast, dropped, made up or rounded. The new arrays are copies with the sharding of those of `state`; the
    arguments are left alone. Codes of the same dtype are copied as they are: take the codec they were made with.

    Args:
      state: What `tx.init(params)` returned; where each array goes on is where its array is.
      moments: One of these. A dictionary as `from_torch`, `from_keras`, `from_tf1` and `from_optax` return it: from
        `nu`, `mu`, `trace` to trees like the parameters, or dictionaries from a leaf's path (`layer/kernel`), and
        from `count` to the number of steps taken; `nu` is the variance if there is a `mu`. Or a state of the same
        optimizer, read from a file. Or nested dictionaries and lists of its fields, or a dictionary from its leaves'
        paths (`0/nu/layer/kernel`), as readers that know no types return a state: all its leaves, or the moments alone.
      allow_rounding: Whether float64 may become float32.

    Returns:
      A state with the structure, shapes, dtypes and shardings of `state`.

    Raises:
      ValueError: Missing or unexpected moments, leaves or counts; another shape; a state made with other options.
      TypeError: A dtype that would lose precision; numbers for codes or codes for numbers; complex moments for a
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
    wanted = states.gather(state)
    if states.holds_states(moments):
        _check_state(state, moments)
        return _copied(state, moments, allow_rounding)
    if _is_whole(moments, state):
        same_paths("moments", states.by_path(moments), "the state that init made", states.by_path(state))
        return _copied(state, moments, allow_rounding)
    given = read(moments)
    no_codes("`state`", differing(wanted.moments, given.moments))
    return filled(state, wanted, given, allow_rounding)


def filled(
    state: Any, wanted: states.Found, given: states.Found, allow_rounding: bool, *, optax_s: bool = False
) -> Any:
    """Return the state with what was given, if that is all that is wanted."""
    match(wanted, given)
    count = states.step_of(given.counts)
    if wanted.counts and count is None:
        raise ValueError(
            f"`state` counts steps at {', '.join(wanted.counts)}, `moments` has no `count`: a schedule or a bias "
            'correction would start again. Add the number of steps taken: moments | {"count": 1000}.'
        )
    moments = {
        field: {
            path: placed(field, path, leaf, wanted.moments[field][path], allow_rounding) for path, leaf in new.items()
        }
        for field, new in given.moments.items()
    }
    return states.fill(state, moments, lambda like: placed("count", "", count, like), optax_s=optax_s)


def read(moments: Any) -> states.Found:
    """Find moments in plain mappings and lists; what is no moment would be lost, and is refused."""
    found: dict[str, dict[str, Any]] = {}
    counts: dict[str, Any] = {}
    orders, lost = set(), []

    def visit(node, path):
        if isinstance(node, Mapping):
            entry = bool({"nu", "trace"} & {*node})
            for key, value in node.items():
                here = f"{path}/{key}" if path else str(key)
                if value is None:
                    continue
                if entry and key in states.FIELDS:
                    states._merge(found.setdefault(key, {}), states.by_path(value), key)
                elif entry and key == "lr_in_momentum":
                    orders.add(_checks.switch("lr_in_momentum", value))
                elif key == "count" and not isinstance(value, Mapping | list | tuple):
                    counts[here] = whole(value)
                else:
                    visit(value, here)
        elif isinstance(node, list | tuple):
            for i, value in enumerate(node):
                visit(value, f"{path}/{i}" if path else str(i))
        elif node is not None:
            lost.append(path or type(node).__name__)

    visit(moments, "")
    if lost or "nu" not in found:
        raise ValueError(
            f"`moments` must have nothing but {', '.join(_KEYS)}, and nu in any case; found "
            f"{', '.join([*found, *counts]) or 'none of them'}; unexpected: {', '.join(lost[:5]) or 'nothing'}."
        )
    return states.Found(found, counts, orders.pop() if orders else None)


def match(wanted: states.Found, given: states.Found) -> None:
    """Refuse moments that another optimizer left, and those of other parameters."""
    for field in states.FIELDS:
        ours, theirs = field in wanted.moments, field in given.moments
        if theirs and not ours:
            raise ValueError(
                f"`moments` has `{field}`, `state` does not, so it would be lost. Build the optimizer with "
                f"{_OPTION[field]}, take the field away, or move a state to other options with checkpoint.adapt."
            )
        if ours and not theirs:
            raise ValueError(
                f"`state` has `{field}`, `moments` does not: the run before had no {_OPTION[field]}. Build the "
                "optimizer without, restore, and switch it on with checkpoint.adapt."
            )
    for field, tree in wanted.moments.items():
        same_paths(f"moments[{field!r}]", given.moments[field], f"state's {field}", tree)
    orders = (wanted.lr_in_momentum, given.lr_in_momentum)
    if None not in orders and orders[0] != orders[1]:
        raise ValueError(
            f"`moments` has a trace with lr_in_momentum={orders[1]}, `state` one with lr_in_momentum={orders[0]}: they "
            "differ by a factor of minus the learning rate. Build the optimizer with the order of the run before (the "
            "functions of `dialects` have it), then move to the other with checkpoint.adapt. In a chain of your own "
            "whose order is right, take `lr_in_momentum` out of `moments`."
        )


def same_paths(name: str, tree: Mapping[str, Any], reference_name: str, reference: Mapping[str, Any]) -> None:
    """Refuse leaves that are missing or unexpected."""
    lists = {
        "missing": [path for path in reference if path not in tree],
        "unexpected": [path for path in tree if path not in reference],
    }
    if any(lists.values()):
        listed = "; ".join(
            f"{word}: {', '.join(paths[:5])}{f' and {len(paths) - 5} more' if len(paths) > 5 else ''}"
            for word, paths in lists.items()
            if paths
        )
        raise ValueError(f"`{name}` must have the leaves of {reference_name}; {listed}.")


def placed(field: str, path: str, x: Any, like: Any, allow_rounding: bool = False) -> jax.Array:
    """Return a copy of x with the dtype and the place of `like`, or refuse it."""
    where = f"`{field}` at {path}" if path else f"`{field}`"
    x = x if hasattr(x, "dtype") else np.asarray(x, None if field == "count" or _narrow(like.dtype) else like.dtype)
    if x.shape != like.shape:
        raise ValueError(f"{where} must have shape {like.shape}, got {x.shape}. Nothing is broadcast or reshaped.")
    if field != "count":
        _check_dtype(where, x.dtype, like.dtype, allow_rounding)
    if isinstance(like, jax.Array) and not like.committed:  # free to follow what it is used with
        return jnp.array(np.asarray(x, like.dtype), copy=True)
    in_place = isinstance(x, jax.Array) and x.dtype == like.dtype
    copied = jnp.array(x, copy=True) if in_place else np.array(x, like.dtype)
    return jax.device_put(copied, getattr(like, "sharding", None))


def no_codes(owner: str, moments: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse moments that are kept in fewer than 32 bits: they are codes, and need not be the numbers."""
    for field, tree in moments.items():
        for path, leaf in tree.items():
            if _narrow(leaf.dtype):
                raise TypeError(_codes(f"`{field}` at {path}", leaf.dtype, owner))


def differing(moments: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return those moments that have another dtype there."""
    return {
        field: {
            path: leaf
            for path, leaf in tree.items()
            if path in others[field] and leaf.dtype != getattr(others[field][path], "dtype", None)
        }
        for field, tree in moments.items()
        if field in others
    }


def _narrow(dtype: Any) -> bool:
    return not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits < 32


def _codes(where: str, dtype: Any, owner: str) -> str:
    return (
        f"{where} is kept in {dtype} in {owner}, and codes can't be copied for numbers or calculated with. "
        "compression.decompress makes float32 of them, and compression.recompress the way back."
    )


def _check_dtype(where: str, given: Any, wanted: Any, allow_rounding: bool) -> None:
    if given == wanted:
        return
    if not jnp.issubdtype(given, jnp.inexact):
        raise TypeError(_codes(where, given, "`moments`"))
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


def _is_whole(moments: Any, state: Any) -> bool:
    """Whether plain containers hold a state and not moments alone: all its leaves, or some that are no moments."""
    if isinstance(moments, Mapping) and "nu" in moments:
        return False
    paths = states.by_path(moments).keys()
    return paths == states.by_path(state).keys() or bool(paths & states.others(state).keys())


def _check_state(state: Any, saved: Any) -> None:
    """Refuse a state of another optimizer, or one that was made with other options."""
    states.gather(saved)  # says so if it is another optimizer's
    try:
        same_paths("moments", states.by_path(saved), "the state that init made", states.by_path(state))
        expected: Any = jax.tree.structure(state)
        if expected != jax.tree.structure(saved):
            raise ValueError(f"`moments` has other containers: expected {expected}, got {jax.tree.structure(saved)}.")
    except ValueError as error:
        raise ValueError(f"{error} It was made with other options: move it with checkpoint.adapt.") from None


def _copied(state: Any, saved: Any, allow_rounding: bool) -> Any:
    """Copy all leaves by their paths, each checked: the moments, and whatever other links remember."""
    leaves = states.by_path(saved)

    def copied(path, like):
        place = states.place(path)
        x = leaves[place] if hasattr(leaves[place], "dtype") else np.asarray(leaves[place])
        moment = jnp.issubdtype(jnp.result_type(like), jnp.inexact)
        if moment and x.dtype != like.dtype and (_narrow(x.dtype) or _narrow(like.dtype)):
            codes, owner = (x, "`moments`") if _narrow(x.dtype) else (like, "`state`")
            raise TypeError(_codes(f"`moments` at {place}", codes.dtype, owner))
        if not moment and x.dtype != like.dtype:
            raise TypeError(f"`moments` at {place} must be {like.dtype}, got {x.dtype}.")
        return placed("moments" if moment else "count", place, x, like, allow_rounding)

    return jax.tree_util.tree_map_with_path(copied, state)


def whole(count: Any) -> int:
    """Return a count of steps as an int, or refuse it."""
    number = np.asarray(count)
    if number.shape != () or number.dtype.kind not in "iuf" or not (0 <= number < 2**31 and number == np.floor(number)):
        raise ValueError(f"`count` must be a whole number of steps in [0, 2**31), got {count!r}.")
    return int(number)
