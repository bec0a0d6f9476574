"""Move a state to an optimizer with other options, or from optax's RMSprop to ours and back."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Callable, Sequence, Set
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax import moments as names
from rmsprop_optax.checkpoint import contents
from rmsprop_optax.checkpoint.contents import Contents, Item, Path, agreed, name_of
from rmsprop_optax.checkpoint.filling import (
    check_codecs,
    check_scales,
    codes_message,
    copy_like,
    filled,
    home,
    is_code,
    paired,
    whole,
)
from rmsprop_optax.checkpoint.variance import mean_square, variance

__all__ = ["Report", "adapt"]


class Report(dict[str, str]):
    """What became of each part of a state: `continued`, `started` or `dropped`, by its path.

    The path of what continued or started is that in the new state, of what was dropped that in the old one; a moment is
    one part. Printed, it is a paragraph for each of the three words.
    """

    def __str__(self) -> str:
        """Write a line for each of the three words that occurs."""
        said = {
            "continued": "goes on as it was",
            "started": "starts as init starts it",
            "dropped": "has no counterpart and is dropped",
        }
        lines = []
        for word, meaning in said.items():
            paths = [path for path, became in self.items() if became == word]
            if paths:
                lines.append(f"{word} ({meaning}): {', '.join(paths)}")
        return "\n".join(lines) or "nothing: neither state has memory"


@_checks.keywords
def adapt(
    old_state: Any,
    tx: optax.GradientTransformation,
    params: optax.Params,
    *,
    learning_rate: jax.typing.ArrayLike | None = None,
    count: Any = None,
    start: Sequence[str] = (),
    allow_rounding: bool = False,
) -> tuple[Any, Report]:
    r"""Return the state with which `tx` continues from another optimizer's state, and what became of each part.

    The old state is one of `rmsprop`, `scale_by_rms`, `optax.rmsprop` and its parts, in any chain or wrapper; so is
    the new one. What both have goes on, what is new starts as `tx.init(params)` starts it:

    - `centered` switched on: `mu` starts at 0, with which the variance is the mean square. Switched off:
      `variance` :math:`+ |\mu|^2` is the mean square. A centered state of optax keeps the mean square instead of the
      variance; it is converted.
    - Momentum switched on: the trace starts at 0. Switched off: it is dropped. A sum and an average of the steps
      (`average_momentum`) are not made of each other: the one is dropped, the other starts, its count of steps at 0.
    - The learning rate moved into or out of the momentum: the trace or the average is multiplied or divided by
      :math:`-\alpha`, exact if the learning rate has been constant.
    - A schedule or a bias correction goes on from the count in the same place, or from the one number of steps on which
      all counts agree. If there is none, a schedule starts at 0 unless `count` is given; a bias correction of an old
      average needs it.
    - Whatever other links and wrappers remember goes on where the same class keeps the same shape: in the same place,
      or elsewhere if there is just one such array. That includes the numbers of `optax.inject_hyperparams`: set new
      ones afterwards.
    - Parameters that are new, such as those of a layer that was frozen, start as `init` starts them if `start` names
      them. They share the counts of the others, so a bias correction does not correct them.
    - Moments in codes are copied as they are, or refused: `compression.decompress` converts them to numbers first.
    - Numbers (learning rate, decay, eps, momentum, weight decay) that are not injected are not in the state and may
      change freely.

    What goes on keeps the kind of memory that it was in (device or host); what starts is where `tx.init(params)` makes
    it, beside the parameters. A state vmapped over the members of an ensemble is known by the shape of its counts.

    Args:
      old_state: The state to go on from. It is left alone.
      tx: The new optimizer.
      params: The parameters, with the paths and shapes of those of `old_state`, and those in `start`. A float64
        parameter's moments become float64.
      learning_rate: :math:`\alpha` of the old state's momentum, not 0. A number; only if the order changes.
      count: The steps taken, if `old_state` doesn't have them. A whole number, or one for each member of an ensemble.
      start: The paths of parameters that `old_state` knows nothing of, `layer/kernel`, or `layer` for all below it.
      allow_rounding: Whether float64 may become float32.

    Returns:
      The new state, and a dictionary from paths to "continued", "started" or "dropped". Print it.

    Raises:
      ValueError: Parameters are missing or unexpected; `start` names one that is not new; a shape differs; the order of
        learning rate and momentum changes and there is no `learning_rate`, or can't be told; a bias correction has no
        count.
      TypeError: A dtype would lose precision; moments in codes can't be copied as they are.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import checkpoint, rmsprop
      >>> params = {"w": jnp.ones(2)}
      >>> state = optax.rmsprop(0.1).init(params)
      >>> state, report = checkpoint.adapt(state, rmsprop(0.1, momentum=0.9), params)
      >>> print(report)
      continued (goes on as it was): 0/nu
      started (starts as init starts it): 2/trace
    """
    allow_rounding = _checks.switch("allow_rounding", allow_rounding)
    old = contents.describe_rmsprop("`old_state`", old_state)
    if learning_rate is not None:
        learning_rate = _checks.number("learning_rate", learning_rate, signed=True)
    _check_start(start)
    count = _count(old, count)
    new_state = _init(tx, params, np.shape(count) or old.members)
    return continued(
        old, new_state, learning_rate=learning_rate, count=count, start=start, allow_rounding=allow_rounding
    )


def continued(
    old: Contents,
    new_state: Any,
    *,
    called: tuple[str, str] = ("`old_state`", "the state of `tx`"),
    learning_rate: Any = None,
    count: Any = None,
    start: Sequence[str] | None = None,
    allow_rounding: bool = False,
) -> tuple[Any, Report]:
    """Return the new state with everything that goes on from the old one, and the report.

    Args:
      old: What the old state has.
      new_state: The state to fill.
      called: What messages call the two states.
      learning_rate: As for :func:`adapt`.
      count: As for :func:`adapt`.
      start: As for :func:`adapt`; None where nothing can start.
      allow_rounding: As for :func:`adapt`.
    """
    new = contents.describe_rmsprop(called[1], new_state)
    sources: dict[Path, tuple[Item | None, Any]] = {}  # by path in the new state: whose memory kind, and the array
    used: set[Path] = set()

    def take(item: Item, value: Any, *from_items: Item) -> None:
        sources[item.path] = (from_items[0] if from_items else None, value)
        used.update(source.path for source in from_items)

    _take_moments(old, new, called, learning_rate, None if start is None else _starting(old, new, start), take)
    _take_counts(old, new, count, take)
    if "ema" in old.moments:
        _take_average_counts(old, new, take)
    _take_others(old, new, take)
    check_scales(called[0], new, sources)
    arrays, mesh = {}, home(new)
    for item in new.items:
        if item.path in sources:
            source, value = sources[item.path]
            check_codecs(item, value)
            arrays[item.path] = copy_like(
                f"`{item.field or 'old_state'}` at {name_of(item.parameter if item.field else item.path)}",
                value,
                item.value,
                mesh=mesh,
                allow_rounding=allow_rounding,
                memory_kind=_memory_kind(source),
            )
    return filled(new_state, arrays), _report(old, new, set(sources), used)


def _check_start(start: Any) -> None:
    if not isinstance(start, Sequence | Set) or isinstance(start, str) or not all(isinstance(x, str) for x in start):
        raise TypeError(
            f"`start` must be a list of paths of parameters, layer/kernel or layer, got {_checks.shown(start)}."
        )


def _starting(old: Contents, new: Contents, start: Any) -> set[Path]:
    """Return the parameters that `start` names, which the old state must not know."""
    known = {path for tree in old.moments.values() for path in tree}
    there = {path for tree in new.moments.values() for path in tree}
    starting: set[Path] = set()
    for name in start:
        below = {path for path in there if f"{'/'.join(path)}/".startswith(f"{name.rstrip('/')}/")}
        if not below or below & known:
            why = "`old_state` has moments for it, which would be lost" if below else "`tx` has no such parameter"
            raise ValueError(f"`start` names {name}, but {why}. It is for parameters that are new in `params`.")
        starting |= below
    return starting


def _take_moments(
    old: Contents,
    new: Contents,
    called: tuple[str, str],
    learning_rate: Any,
    starting: set[Path] | None,
    take: Callable[..., None],
) -> None:
    theirs = old.moments
    reference = called[1] if starting is None else "`params`"
    hint = "" if starting is None else " Parameters that are new start as `init` starts them if `start` names them."
    for field, all_items in new.moments.items():
        items = {path: item for path, item in all_items.items() if path not in (starting or ())}
        needed = names.SECOND if field in names.SECOND else (field,)
        source = next((name for name in needed if name in theirs), None)
        if source is None:
            continue
        try:
            pairs = paired(f"`{source}` of {called[0]}", theirs[source], reference, items)
        except ValueError as error:
            raise ValueError(f"{error}{hint if 'missing:' in str(error) else ''}") from None
        for parameter, item in items.items():
            parts = {name: tree[pairs[parameter]] for name, tree in theirs.items() if pairs[parameter] in tree}
            take(item, *_moment(field, item, parts, old, new, learning_rate))


def _moment(
    field: str, item: Item, parts: dict[str, Item], old: Contents, new: Contents, learning_rate: Any
) -> tuple[Any, Item]:
    """Return a moment in the terms of the new state, and what it was made of."""
    if field in names.SECOND:
        return _second(field, item, parts, old, new)
    source = parts[field]
    if field not in ("trace", "ema") or old.lr_in_momentum == new.lr_in_momentum is not None:
        _check_codes(source, item, numbers=old.of_optax or new.of_optax)
        return source.value, source
    if old.lr_in_momentum is None or new.lr_in_momentum is None:
        if (old.lr_in_momentum, source.path) == (new.lr_in_momentum, item.path):
            return source.value, source  # the same chain of the user's own
        raise ValueError(
            f"The chain of {'`old_state`' if old.lr_in_momentum is None else '`tx`'} does not tell whether its "
            "learning rate stands before or behind its momentum, which differ by a factor of minus the learning rate. "
            "Move the state of an optimizer that rmsprop or optax.rmsprop made, or one with the same chain."
        )
    _check_codes(source, item, calculated=True)
    return _reordered(source.value, learning_rate, new.lr_in_momentum), source


def _second(field: str, item: Item, parts: dict[str, Item], old: Contents, new: Contents) -> tuple[Any, Item]:
    """Return a mean square or a variance, and what it was made of."""
    same = field in parts and not (field == "nu" and old.of_optax != new.of_optax)
    source = parts.get(field) or parts["nu" if field == "variance" else "variance"]
    converts = (field == "nu" and "variance" in parts) or (field == "variance" and "nu" in parts and "mu" in parts)
    numbers = old.of_optax or new.of_optax
    _check_codes(source, item, calculated=converts, numbers=numbers)
    if converts:
        _check_codes(parts["mu"], item, calculated=True, numbers=numbers)
    value = source.value
    if old.of_optax and not same:
        value = value.real if np.iscomplexobj(value) else value  # complex there, without an imaginary part
    if converts:
        value = (mean_square if field == "nu" else variance)(value, parts["mu"].value)
    if new.of_optax and not old.of_optax and jnp.issubdtype(item.value.dtype, jnp.complexfloating):
        if jnp.iscomplexobj(value):
            raise TypeError(
                f"`nu` at {name_of(item.parameter)} has a mean square for each part of a complex number, optax's has "
                "one for both. Wrap optax's in optax.contrib.split_real_and_imaginary, or stay here."
            )
        value = value + 0j
    return value, source


def _reordered(trace: Any, learning_rate: Any, inside: bool | None) -> Any:
    if learning_rate is None:
        raise ValueError(
            f"`tx` has lr_in_momentum={inside}, `old_state` was made with the other order, so its momentum differs by "
            "a factor of minus the learning rate. Pass `learning_rate`, that of the last steps: "
            "checkpoint.adapt(old_state, tx, params, learning_rate=...)."
        )
    rate = learning_rate
    if isinstance(rate, float) and rate == 0:
        raise ValueError("`learning_rate` must be above 0, got 0: the momentum that it scaled is gone.")
    trace = jnp.asarray(trace)
    return (-rate * trace if inside else -trace / rate).astype(trace.dtype)


def _check_codes(source: Item, item: Item, *, calculated: bool = False, numbers: bool = False) -> None:
    """Refuse codes, unless they are copied as they are. With `numbers`, as in optax, half precision is a number."""
    if calculated or source.value.dtype != item.value.dtype:
        for owner, one in (("`old_state`", source), ("the state of `tx`", item)):
            if is_code(one.value.dtype) and not (numbers and jnp.issubdtype(one.value.dtype, jnp.floating)):
                where = f"`{one.field}` at {name_of(one.parameter)}"
                raise TypeError(codes_message(where, one.value.dtype, owner))


def _count(old: Contents, count: Any) -> Any:
    """Return the number of steps that is known for the whole state, None if there is none."""
    given = None if count is None else whole(count)
    if not old.counts:
        return given
    try:
        known = agreed(old.counts)
    except ValueError:
        if given is None:
            return None  # each goes on in its own place
        raise
    if given is not None and not np.array_equal(known, given):
        raise ValueError(f"`count` must be that of `old_state`, {known}, or left out; got {given}.")
    return known


def _init(tx: Any, params: Any, members: tuple[int, ...]) -> Any:
    """Make the new state; for an ensemble, that of all its members."""
    _checks.transformation("tx", tx)
    _checks.arrays("params", params, empty=False)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if np.shape(leaf)[: len(members)] != members:
            raise ValueError(
                f"`params` at {_checks.leaf_name(path)} must have the members of an ensemble in front, {members}, as "
                f"the number of steps has; got shape {np.shape(leaf)}. A single run has one number: pass it as `count`."
            )
    init = tx.init
    for _ in members:
        init = jax.vmap(init)
    return init(params)


def _take_counts(old: Contents, new: Contents, count: Any, take: Callable[..., None]) -> None:
    for path, item in new.counts.items():
        if path in old.counts and old.counts[path].value.shape == item.value.shape:
            take(item, old.counts[path].value, old.counts[path])
        elif count is not None:
            take(item, jnp.full(item.value.shape, count, item.value.dtype), *old.counts.values())
        elif old.counts:
            agreed(old.counts)  # says how they differ
        elif item.owner.endswith("WithCountState"):
            raise ValueError(
                "`tx` has bias_correction, `old_state` has no count of its steps: counted from 0, the correction would "
                "divide an old average by 1 - decay. Pass `count`, the steps taken."
            )


def _take_average_counts(old: Contents, new: Contents, take: Callable[..., None]) -> None:
    """Take the steps of an average with the average: one that starts counts from 0, however long the run is."""
    counts = list(old.average_counts.values())
    for path, item in new.average_counts.items():
        here = [source for source in counts if source.path == path] or counts
        if len({np.asarray(source.value).tobytes() for source in here}) > 1:
            agreed(old.average_counts)  # says how they differ
        take(item, here[0].value, *here)


def _take_others(old: Contents, new: Contents, take: Callable[..., None]) -> None:
    """Take what other links remember: in the same place, or where there is just one array of its kind."""
    theirs, ours = old.others, new.others
    kind = lambda item: (item.owner, item.inside, item.value.shape)  # noqa: E731
    rest = {}
    for path, item in ours.items():
        if path in theirs and kind(theirs[path]) == kind(item):
            take(item, theirs[path].value, theirs.pop(path))
        else:
            rest[path] = item
    for item in rest.values():
        alike = [other for other in theirs.values() if kind(other) == kind(item)]
        if len(alike) == sum(kind(other) == kind(item) for other in rest.values()) == 1:
            take(item, alike[0].value, alike[0])


def _memory_kind(source: Item | None) -> str | None:
    sharding = getattr(source.value, "sharding", None) if source is not None else None
    return None if sharding is None else sharding.memory_kind


def _report(old: Contents, new: Contents, taken: set[Path], used: set[Path]) -> Report:
    """Name the parts of both states: a field of a class is one, if all its arrays met the same fate."""
    report = Report()
    for items, fate in (
        (new.items, lambda item: "continued" if item.path in taken else "started"),
        ([item for item in old.items if item.path not in used], lambda item: "dropped"),
    ):
        parts: dict[Path, list[Item]] = {}
        for item in items:
            parts.setdefault(item.path[: len(item.path) - len(item.inside) + 1], []).append(item)
        for path, members in parts.items():
            fates = {fate(item) for item in members}
            for item in members if len(fates) > 1 else members[:1]:
                name = name_of(item.path if len(fates) > 1 else path)
                report[f"{name} (of the old state)" if name in report else name] = fate(item)
    return report
