"""From the state of optax's own RMSprop, in all its classes, and back to it."""

from __future__ import annotations  # signatures in help() read as written here

from typing import Any

import numpy as np

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint import contents
from rmsprop_optax.checkpoint.adapting import continued
from rmsprop_optax.checkpoint.contents import Contents, agreed, joined, name_of
from rmsprop_optax.checkpoint.filling import no_codes
from rmsprop_optax.checkpoint.variance import variance

__all__ = ["from_optax", "to_optax"]


@_checks.keywords
def from_optax(opt_state: Any) -> dict[str, Any]:
    r"""Read the moments from a state of `optax.rmsprop`, `optax.scale_by_rms` or `optax.scale_by_stddev`.

    In optax's centered states `nu` is the mean square; ours keep the variance :math:`\nu - |\mu|^2`.

    Args:
      opt_state: The state, in any chain, masked or partitioned: `ScaleByRmsState`, `ScaleByRmsWithCountState`,
        `ScaleByRStdDevState` or `ScaleByRStdDevWithCountState`, with a `TraceState` or an `EmaState` behind it and
        counts of steps, or without.
        What other links and wrappers remember has no place in the result: :func:`adapt` moves a whole state.

    Returns:
      A dictionary for :func:`restore`, from `nu`, or `variance` and `mu`, and `trace` or `ema` if there is one, to
      dictionaries from a leaf's path to its array; from `count` to the steps taken, if the state counts them, in an
      ensemble one for each member; from `lr_in_momentum` to a bool, if there is a trace or an average.

    Raises:
      ValueError: The state is another optimizer's, or has two RMSprops for one parameter, or remembers more; its counts
        differ.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import checkpoint, rmsprop
      >>> params = {"w": jnp.ones(2)}
      >>> old = optax.rmsprop(0.1, initial_scale=4.0, centered=True).init(params)
      >>> state = checkpoint.restore(rmsprop(0.1, centered=True).init(params), checkpoint.from_optax(old))
      >>> print(state[0].variance["w"])
      [4. 4.]

    References:
      optax 0.2.8, optax/_src/transform.py, lines 80-236.
    """
    found = contents.describe_rmsprop("`opt_state`", opt_state, of_optax=True)
    if found.others:
        raise ValueError(
            f"`opt_state` remembers more than the moments of RMSprop: {_listed(found)}. The rest would start "
            "again from nothing. Move the whole state with checkpoint.adapt(opt_state, tx, params)."
        )
    moments: dict[str, Any] = {
        name: joined({path: item.value for path, item in tree.items()}) for name, tree in found.moments.items()
    }
    nu = {path: np.real(leaf) for path, leaf in moments.pop("nu").items()}  # complex there, without imaginary part
    if "mu" in moments:
        moments = {"variance": {path: variance(leaf, moments["mu"][path]) for path, leaf in nu.items()}} | moments
    else:
        moments = {"nu": nu} | moments
    if (count := agreed(found.counts | found.average_counts)) is not None:
        moments["count"] = count
    if not {"trace", "ema"}.isdisjoint(moments) and found.lr_in_momentum is not None:
        moments["lr_in_momentum"] = found.lr_in_momentum
    return moments


@_checks.keywords
def to_optax(state: Any, opt_state: Any, *, allow_rounding: bool = False) -> Any:
    """Return `opt_state`, as `optax.rmsprop(...).init` made it, with everything that `state` remembers.

    Args:
      state: A state of `rmsprop` or `scale_by_rms`, in any chain or wrapper.
      opt_state: The state to fill: of optax's RMSprop with the same options, in the same wrappers.
      allow_rounding: Whether moments may be rounded to the dtype that optax keeps them in, that of the parameters.

    Returns:
      A state with the structure, shapes, dtypes and shardings of `opt_state`.

    Raises:
      ValueError: The options, parameters or shapes differ; `state` has no count; something would start again or be
        dropped, which :func:`adapt` does and reports.
      TypeError: A dtype would lose precision.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import checkpoint, rmsprop
      >>> params = {"w": jnp.ones(2)}
      >>> state = rmsprop(0.1, initial_scale=4.0).init(params)
      >>> print(checkpoint.to_optax(state, optax.rmsprop(0.1).init(params))[0].nu["w"])
      [4. 4.]

    References:
      optax 0.2.8, optax/_src/transform.py, lines 80-236.
    """
    allow_rounding = _checks.switch("allow_rounding", allow_rounding)
    wanted = contents.describe_rmsprop("`opt_state`", opt_state, of_optax=True)
    given = contents.describe_rmsprop("`state`", state, of_optax=False)
    no_codes("`state`", given)
    count = agreed(given.counts) if given.counts and not given.counts.keys() >= wanted.counts.keys() else None
    if wanted.counts and not given.counts:
        raise ValueError(
            f"`opt_state` counts steps at {', '.join(map(name_of, wanted.counts))}, `state` has no `count`: a schedule "
            "or a bias correction would start again. Pass checkpoint.adapt its `count` instead."
        )
    filled, report = continued(
        given, opt_state, called=("`state`", "`opt_state`"), count=count, allow_rounding=allow_rounding
    )
    lost = [f"{path} {became}" for path, became in report.items() if became != "continued"]
    if lost:
        raise ValueError(
            f"`opt_state` does not go on with all of `state`: {', '.join(lost[:5])}. Build it with the options of "
            "`state`, or move the state with checkpoint.adapt(state, tx, params), which does so and reports it."
        )
    return filled


def _listed(found: Contents) -> str:
    parts = {name_of(item.path[: len(item.path) - len(item.inside) + 1]): item.owner for item in found.others.values()}
    return ", ".join(f"{path} ({owner})" for path, owner in list(parts.items())[:5])
