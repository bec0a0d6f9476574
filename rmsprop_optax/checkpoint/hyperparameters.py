"""Compare the hyperparameters that another framework recorded with those of the transformation that carries on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optax

from rmsprop_optax.dialects import ROWS

__all__ = ["compare", "framework_of", "options"]

_SWITCHES = ("eps_in_sqrt", "lr_in_momentum", "decoupled_weight_decay", "bias_correction")
_MEANING_0 = ("momentum", "weight_decay")  # where None and 0 take the same path
_BY_FUNCTION = {row.function: name for name, row in ROWS.items() if row.function}


def framework_of(tx: optax.GradientTransformation | None) -> str | None:
    """Return the key in `ROWS` of the dialect that made a transformation, or None."""
    return _BY_FUNCTION.get(_call(tx)[0]) if tx is not None else None


def options(tx: optax.GradientTransformation) -> dict[str, Any]:
    """Return the arguments that a transformation was made with, and its switches, under our names."""
    name, arguments = _call(tx)
    if name == "rmsprop":
        return dict(arguments)
    if name not in _BY_FUNCTION:
        raise TypeError(
            "`tx` must come from rmsprop or a function of `dialects`, so that its arguments can be read, got "
            f"{name or type(tx).__name__}. If it is part of a chain, pass the part; None compares nothing."
        )
    row = ROWS[_BY_FUNCTION[name]]
    found = {ours: arguments[theirs] for ours, theirs in row.arguments.items() if theirs in arguments}
    moved = {ours: arguments[theirs] for ours, theirs in row.set_by.items() if isinstance(arguments.get(theirs), bool)}
    return dict(arguments) | dict(row.fixed) | vars(row.variant) | moved | found


def compare(
    framework: str,
    recorded: Mapping[str, Any],
    tx: optax.GradientTransformation,
    count: int | None,
    where: str,
    off: tuple[str, ...] = (),
) -> None:
    """Refuse a transformation with other hyperparameters than the recorded ones.

    Args:
      framework: A key of `ROWS`.
      recorded: Numbers and switches, under the framework's names; what is absent is not compared.
      tx: The transformation that carries on.
      count: The steps taken, at which schedules are compared: at the last step and at the next, as the record may have
        been made before or after its own schedule moved on.
      where: Where the record is, for the message.
      off: Switches of the framework that have no counterpart unless `tx` has one of the same name.
    """
    row, ours = ROWS[framework], options(tx)
    wrong = []
    for name, theirs in row.arguments.items():
        if theirs in recorded and name in ours and not _equal(name, recorded[theirs], ours[name], count):
            at = f" (a schedule, at steps {count - 1} and {count})" if callable(ours[name]) and count else ""
            wrong.append(f"`{theirs}` is {_plain(recorded[theirs])}, but `{name}` is {ours[name]!r}{at}")
    for name in _SWITCHES:
        expected = recorded.get(row.set_by.get(name, name), getattr(row.variant, name))
        matters = _matters(name, recorded, row)
        if isinstance(expected, bool) and matters and ours.get(name, expected) != expected:
            wrong.append(f"{row.api} has {name}={expected}, but `{name}` is {ours[name]}")
    for name in off:
        if bool(recorded.get(name, False)) != bool(ours.get(name, False)):
            wrong.append(f"`{name}` is {recorded.get(name, False)}, but the transformation has {ours.get(name, False)}")
    if wrong:
        function = f"dialects.{row.function}" if row.function else "rmsprop"
        raise ValueError(
            f"`tx` does not carry on the run of {where}: {'; '.join(wrong)}. Build it with the run's own numbers "
            f"({function} takes them), or pass tx=None to compare nothing."
        )


def _matters(name: str, recorded: Mapping[str, Any], row: Any) -> bool:
    """Whether a switch changes the path: the order only with momentum, the kind of decay only with decay."""
    needs = {"lr_in_momentum": "momentum", "decoupled_weight_decay": "weight_decay"}.get(name)
    return needs is None or bool(recorded.get(row.arguments.get(needs, needs)))


def _equal(name: str, theirs: Any, ours: Any, count: int | None) -> bool:
    if isinstance(theirs, Mapping):  # a schedule, written down as its configuration
        return True
    if callable(ours):
        return count is None or any(_equal(name, theirs, ours(max(t, 0)), count) for t in (count - 1, count))
    theirs, ours = (0 if x is None and name in _MEANING_0 else x for x in (theirs, ours))
    if theirs is None or ours is None:
        return theirs is ours
    return bool(np.isclose(float(theirs), float(ours), rtol=1e-6, atol=0))  # float32 is as far as some record them


def _plain(x: Any) -> Any:
    return x.item() if hasattr(x, "item") else x


def _call(tx: Any) -> tuple[str, dict[str, Any]]:
    call: Any = getattr(getattr(tx, "init", None), "call", None)
    return (call.factory.__name__, call.arguments) if hasattr(call, "factory") else ("", {})
