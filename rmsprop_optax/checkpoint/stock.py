"""From the state of optax's own RMSprop, in all its classes, and back to it."""

from typing import Any

import numpy as np

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint import restoring, states
from rmsprop_optax.checkpoint.variance import to_mean_square, to_variance


def from_optax(opt_state: Any) -> dict[str, Any]:
    r"""Read the moments from a state of `optax.rmsprop`, `optax.scale_by_rms` or `optax.scale_by_stddev`.

    In optax's centered states `nu` is the mean square; ours keep the variance :math:`\nu - |\mu|^2`.

    Args:
      opt_state: The state, in any chain, masked or partitioned: `ScaleByRmsState`, `ScaleByRmsWithCountState`,
        `ScaleByRStdDevState` or `ScaleByRStdDevWithCountState`, with a `TraceState` and counts of steps or without.

    Returns:
      For :func:`restore`: from `nu`, and `mu` and `trace` if there are any, to dictionaries from a leaf's path to its
      array; from `count` to the steps taken, if the state counts them.

    Raises:
      ValueError: A state of another optimizer, or two RMSprops for one parameter.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import checkpoint, rmsprop
      >>> params = {"w": jnp.ones(2)}
      >>> old = optax.rmsprop(0.1, initial_scale=4.0, centered=True).init(params)
      >>> state = checkpoint.restore(rmsprop(0.1, centered=True).init(params), checkpoint.from_optax(old))
      >>> print(state[0].nu["w"])
      [4. 4.]

    References:
      optax 0.2.8, optax/_src/transform.py, lines 80-236.
    """
    found = states.gather(opt_state, optax_s=True)
    moments: dict[str, Any] = dict(found.moments)
    moments["nu"] = {
        path: np.real(leaf) for path, leaf in moments["nu"].items()
    }  # complex there, without imaginary part
    if "mu" in moments:
        moments["nu"] = to_variance(moments["nu"], moments["mu"])
    if (count := states.step_of(found.counts)) is not None:
        moments["count"] = count
    if found.lr_in_momentum is not None:
        moments["lr_in_momentum"] = found.lr_in_momentum
    return moments


def to_optax(state: Any, opt_state: Any, *, allow_rounding: bool = False) -> Any:
    """Return `opt_state`, as `optax.rmsprop(...).init` made it, with the moments of `state`.

    Args:
      state: A state of `rmsprop` or `scale_by_rms`, in any chain.
      opt_state: The state to fill: of optax's RMSprop with the same options.
      allow_rounding: Whether moments may be rounded to the dtype that optax keeps them in, that of the parameters.

    Returns:
      A state with the structure, shapes, dtypes and shardings of `opt_state`.

    Raises:
      ValueError: Other options, parameters or shapes; a count that `state` doesn't have.
      TypeError: A dtype that would lose precision.

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
    wanted, given = states.gather(opt_state, optax_s=True), states.gather(state)
    restoring.no_codes("`state`", given.moments)
    if "mu" in given.moments:
        mean_square = to_mean_square(given.moments["nu"], given.moments["mu"])
        given = given._replace(moments=given.moments | {"nu": mean_square})
    nu = {  # complex for complex parameters, without an imaginary part
        path: leaf + 0j if np.iscomplexobj(wanted.moments["nu"].get(path, 0.0)) else leaf
        for path, leaf in given.moments["nu"].items()
    }
    given = given._replace(moments=given.moments | {"nu": nu})
    return restoring.filled(opt_state, wanted, given, allow_rounding, optax_s=True)
