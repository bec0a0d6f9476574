"""Move a state to an optimizer with other options."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint import restoring, states
from rmsprop_optax.checkpoint.variance import to_mean_square


def adapt(
    old_state: Any,
    tx: optax.GradientTransformation,
    params: optax.Params,
    *,
    learning_rate: jax.typing.ArrayLike | None = None,
    count: int | None = None,
    allow_rounding: bool = False,
) -> tuple[Any, dict[str, str]]:
    r"""Return the state with which `tx` carries on from a state made with other options, and what became of each field.

    What both states have is carried over, what is new starts as `tx.init(params)` does:

    - `centered` switched on: `mu` starts at 0, with which the variance is the mean square, so `nu` stays. Switched
      off: :math:`\nu + |\mu|^2` is the mean square.
    - Momentum switched on: the trace starts at 0. Switched off: it is dropped.
    - The learning rate moved into or out of the momentum: the trace is multiplied or divided by
      :math:`-\alpha`, exact if the learning rate has been constant.
    - A schedule or a bias correction goes on from the count that the old state has. If it has none, a schedule starts
      at 0 unless `count` is given; a bias correction of an old average needs it.
    - Moments in codes are carried as they are, or refused: `compression.decompress` makes numbers of them first.
    - Numbers (learning rate, decay, eps, momentum, weight decay) are not in the state and may change freely.

    Args:
      old_state: A state of `rmsprop` or `scale_by_rms`, in any chain. It is left alone.
      tx: The transformation that carries on.
      params: The parameters, with the paths and shapes of those of `old_state`. A float64 parameter's moments become
        float64.
      learning_rate: :math:`\alpha` of the old state's trace, above 0. A number; only for the third case.
      count: The steps taken, if `old_state` doesn't have them. A whole number.
      allow_rounding: Whether float64 moments may become float32.

    Returns:
      The new state, and a dictionary from each of `nu`, `mu`, `trace`, `count` that is in either state to one of
      carried, converted, fresh and dropped; and the same for the path of each leaf of other links, which is carried
      where the same class keeps the same shape and dtype in the same place.

    Raises:
      ValueError: Missing or unexpected parameters, another shape, a trace whose order changes without a
        `learning_rate`, a bias correction without a count.
      TypeError: A dtype that would lose precision; moments in codes that can't be carried as they are.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import checkpoint, rmsprop
      >>> params = {"w": jnp.ones(2)}
      >>> state = rmsprop(0.1).init(params)
      >>> state, report = checkpoint.adapt(state, rmsprop(0.1, momentum=0.9), params)
      >>> report
      {'nu': 'carried', 'trace': 'fresh'}
    """
    allow_rounding = _checks.switch("allow_rounding", allow_rounding)
    new_state = tx.init(params)
    old, new = states.gather(old_state), states.gather(new_state)
    report: dict[str, str] = {}
    given = {}
    for field in states.FIELDS:
        if field in old.moments and field in new.moments:
            given[field], report[field] = old.moments[field], "carried"
            restoring.same_paths(f"old_state's {field}", given[field], "the state of `tx`", new.moments[field])
        elif field in new.moments:
            given[field], report[field] = new.moments[field], "fresh"
        elif field in old.moments:
            report[field] = "dropped"
    _check_codes(old, new)
    if report.get("mu") == "dropped":
        given["nu"], report["nu"] = to_mean_square(old.moments["nu"], old.moments["mu"]), "converted"
    if _reorders(old, new):
        given["trace"], report["trace"] = _reordered(given["trace"], learning_rate, new), "converted"

    filled = {}
    for field, tree in given.items():
        likes = new.moments[field]
        filled[field] = {
            path: restoring.placed(field, path, leaf, likes[path], allow_rounding) for path, leaf in tree.items()
        }
        if report[field] == "carried" and any(leaf.dtype != likes[path].dtype for path, leaf in tree.items()):
            report[field] = "converted"
    step = _step(old, new, count, report)
    state = states.fill(
        new_state, filled, lambda like: like if step is None else restoring.placed("count", "", step, like)
    )
    return _with_others(state, old_state, report)


def _check_codes(old: states.Found, new: states.Found) -> None:
    """Refuse codes, unless they are carried as they are."""
    calculated = {"nu", "mu"} if "mu" in old.moments and "mu" not in new.moments else set()
    calculated |= {"trace"} if _reorders(old, new) else set()
    for owner, ours, others in (("`old_state`", old, new), ("the state of `tx`", new, old)):
        moments = restoring.differing(ours.moments, others.moments)
        moments |= {field: tree for field, tree in ours.moments.items() if field in calculated}
        restoring.no_codes(owner, moments)


def _reorders(old: states.Found, new: states.Found) -> bool:
    return "trace" in old.moments and "trace" in new.moments and old.lr_in_momentum != new.lr_in_momentum


def _reordered(trace: dict[str, Any], learning_rate: Any, new: states.Found) -> dict[str, Any]:
    if learning_rate is None:
        raise ValueError(
            f"`tx` has lr_in_momentum={new.lr_in_momentum}, `old_state` was made with the other order, so its trace "
            "differs by a factor of minus the learning rate. Pass `learning_rate`, that of the last steps."
        )
    rate = _checks.number("learning_rate", learning_rate)
    if isinstance(rate, float) and rate == 0:
        raise ValueError("`learning_rate` must be above 0, got 0: the trace that it scaled is gone.")
    scale = (lambda leaf: -rate * leaf) if new.lr_in_momentum else (lambda leaf: -leaf / rate)
    return {path: scale(jnp.asarray(leaf)).astype(leaf.dtype) for path, leaf in trace.items()}


def _step(old: states.Found, new: states.Found, count: int | None, report: dict[str, str]) -> int | None:
    """Return the count that the new state starts with, None for that of init."""
    known = states.step_of(old.counts)
    if count is not None:
        count = restoring.whole(count)
        if known is not None and known != count:
            raise ValueError(f"`count` must be that of `old_state`, {known}, or left out; got {count}.")
    step = known if known is not None else count
    if new.counts:
        report["count"] = "fresh" if step is None else "carried"
    elif old.counts:
        report["count"] = "dropped"
    if step is None and new.counts_for_bias:
        raise ValueError(
            "`tx` has bias_correction, `old_state` has no count of its steps: counted from 0, the correction would "
            "divide an old average by 1 - decay. Pass `count`, the steps taken."
        )
    return step


def _with_others(state: Any, old_state: Any, report: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Carry what other links remember, where the same class keeps the same shapes in the same place."""
    ours, theirs = states.others(state), states.others(old_state)
    kept = {
        path: restoring.placed("count", "", theirs[path][1], leaf)
        for path, (owner, leaf) in ours.items()
        if path in theirs
        and (owner, leaf.shape, leaf.dtype) == (theirs[path][0], theirs[path][1].shape, theirs[path][1].dtype)
    }
    report = report | dict.fromkeys(theirs, "dropped") | dict.fromkeys(ours, "fresh") | dict.fromkeys(kept, "carried")
    carry = lambda path, leaf: kept.get(states.place(path), leaf)  # noqa: E731
    return jax.tree_util.tree_map_with_path(carry, state), report
