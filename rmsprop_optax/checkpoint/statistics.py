"""What all sources end in: statistics in a library's terms become moments in ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmsprop_optax.checkpoint.converting import Convert, converted
from rmsprop_optax.checkpoint.variance import variance

__all__ = ["in_our_terms"]


def in_our_terms(
    arrays: Mapping[str, Mapping[Any, np.ndarray]],
    foreign: Mapping[str, str],
    convert: Convert,
    *,
    lr_in_momentum: bool,
    count: int | None,
) -> dict[str, Any]:
    """Return what :func:`restore` takes.

    Args:
      arrays: From `nu` (the mean square, centered or not), `mu` and `trace` to arrays by the name of the parameter.
      foreign: The library's names of these, for messages.
      convert: The function that converts weights to parameters.
      lr_in_momentum: Whether the learning rate is in the library's buffer, which is then added and not subtracted.
      count: The steps taken, or None.

    Raises:
      ValueError: Values that are not finite, a mean square below 0, a shape that differs from that of the mean square.
      TypeError: What is not a floating-point array.
    """
    moments = {field: dict(tree) for field, tree in arrays.items()}
    for field, tree in moments.items():
        for name, x in tree.items():
            _check(foreign, field, name, x, moments["nu"][name])
    if "mu" in moments:
        nu = moments.pop("nu")
        moments = {"variance": {name: variance(x, moments["mu"][name]) for name, x in nu.items()}} | moments
    if "trace" in moments and lr_in_momentum:
        moments["trace"] = {name: -x for name, x in moments["trace"].items()}
    found = converted(convert, moments)
    found |= {} if count is None else {"count": count}
    return found | ({"lr_in_momentum": lr_in_momentum} if "trace" in moments else {})


def _check(foreign: Mapping[str, str], field: str, name: Any, x: np.ndarray, nu: np.ndarray) -> None:
    """Refuse statistics that no run could go on with."""
    where = f"`{foreign[field]}` of {name}"
    if x.dtype.kind not in "fc":
        raise TypeError(f"{where} must be a floating-point or complex array, got {x.dtype}.")
    negative = field == "nu" and (np.minimum(x.real, x.imag) < 0).any()
    if negative or not np.isfinite(x).all():
        bad = "a mean square below 0" if np.isfinite(x).all() else "values that are not finite"
        raise ValueError(f"{where} has {bad}: the run diverged, or the file is damaged.")
    if x.shape != nu.shape or x.dtype != nu.dtype:
        raise ValueError(
            f"{where} must be {nu.dtype} of shape {nu.shape}, like its `{foreign['nu']}`, got {x.dtype} of shape "
            f"{x.shape}: it is another parameter's, or the arrays are in another order."
        )
