"""Compare the hyperparameters that another framework recorded with those of the new optimizer."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax.dialects import ROWS

__all__ = ["compare", "decays", "framework_of", "options"]

_SWITCHES = ("eps_in_sqrt", "average_momentum", "lr_in_momentum", "decoupled_weight_decay", "bias_correction")
_MEANING_0 = ("momentum", "weight_decay")  # where None and 0 take the same path
_BY_FUNCTION = {row.function: name for name, row in ROWS.items() if row.function}


def framework_of(tx: Any) -> str | None:
    """Return the key in `ROWS` of the dialect that made a transformation, or None."""
    calls = _calls(getattr(tx, "init", None))
    return _BY_FUNCTION.get(calls[0].factory.__name__) if len(calls) == 1 else None


def options(tx: optax.GradientTransformation) -> dict[str, Any]:
    """Return the arguments that a transformation was made with, and its switches, under our names."""
    calls = _calls(getattr(tx, "init", None))
    if len(calls) != 1:
        raise TypeError(
            f"`tx` must come from rmsprop or a function of `dialects` or `recipes`, so that its arguments can be read, "
            f"got {_checks.shown(tx)}. optax.chain and optax.partition hide them: of a chain, pass the RMSprop alone; "
            "for optax.partition, pass a list with one optimizer for each of `param_groups`; None compares nothing."
        )
    name, arguments = calls[0].factory.__name__, calls[0].arguments
    if name == "rmsprop":
        return dict(arguments)
    row = ROWS[_BY_FUNCTION[name]]
    found = {ours: arguments[theirs] for ours, theirs in row.arguments.items() if theirs in arguments}
    switches = {
        ours: arguments[theirs] for ours, theirs in row.set_by.items() if isinstance(arguments.get(theirs), bool)
    }
    return dict(arguments) | dict(row.fixed) | vars(row.variant) | switches | found


def decays(tx: optax.GradientTransformation, params: Any) -> Any:
    """Return a tree like the parameters that says which of them the mask of a transformation lets decay."""
    mask = options(tx)["weight_decay_mask"]
    if callable(mask) and all(map(callable, jax.tree.leaves(mask))):
        mask = mask(params)
    try:
        return jax.tree.map(lambda flag, subtree: jax.tree.map(lambda _: bool(flag), subtree), mask, params)
    except ValueError as error:
        raise ValueError(f"`weight_decay_mask` of `tx` must fit what `convert` returns. {error}") from None


def compare(
    framework: str,
    recorded: Mapping[str, Any],
    tx: optax.GradientTransformation,
    count: int | None,
    where: str,
    off: tuple[str, ...] = (),
    decays: bool = True,
) -> None:
    """Refuse a transformation with other hyperparameters than the recorded ones.

    Args:
      framework: A key of `ROWS`.
      recorded: Numbers and switches, under the framework's names; what is absent is not compared.
      tx: The new optimizer.
      count: The steps taken, at which schedules are compared: at the last step and at the next, as the record may have
        been made before or after its own schedule went on.
      where: Where the record is, for the message.
      off: Switches of the framework that have no counterpart unless `tx` has one of the same name.
      decays: Whether the mask of `tx` lets these parameters decay.
    """
    row, ours = ROWS[framework], options(tx) | ({} if decays else {"weight_decay": None})
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
            f"`tx` does not continue the run of {where}: {'; '.join(wrong)}. Build it with the run's own numbers "
            f"({function} takes them), or pass tx=None to compare nothing."
        )


def _matters(name: str, recorded: Mapping[str, Any], row: Any) -> bool:
    """Whether a switch changes the path: the kind and order of momentum only with one, the kind of decay likewise."""
    needs = {
        "average_momentum": "momentum",
        "lr_in_momentum": "momentum",
        "decoupled_weight_decay": "weight_decay",
    }.get(name)
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


def _calls(init: Any) -> list[Any]:
    """Return the calls of rmsprop or of a dialect that made a transformation: in a recipe, or in what wraps it."""
    call: Any = getattr(init, "call", None)
    if not hasattr(call, "factory"):
        return []
    if call.factory.__name__ in ("rmsprop", *_BY_FUNCTION):
        return [call]
    arguments = [x for given in call.arguments.values() for x in (given if type(given) is tuple else (given,))]
    inside = [found for x in arguments for found in _calls(getattr(x, "init", None))]
    return inside or _calls(init.function)
