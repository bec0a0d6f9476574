"""Compare each group of a PyTorch optimizer with the new optimizer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmsprop_optax.checkpoint import hyperparameters
from rmsprop_optax.checkpoint.contents import by_path
from rmsprop_optax.checkpoint.converting import Convert, converted, origins

__all__ = ["compare_groups"]

_OFF = ("maximize", "caution", "corrected_weight_decay")


def compare_groups(
    framework: str,
    groups: list[dict[str, Any]],
    name_of: Mapping[Any, Any],
    arrays: Mapping[Any, np.ndarray],
    convert: Convert,
    tx: Any,
    count: int,
) -> None:
    """Refuse transformations with other hyperparameters than the groups'.

    Args:
      framework: A key of `ROWS`.
      groups: The `param_groups`.
      name_of: From the keys in `params` to the names of the parameters.
      arrays: An array of each parameter, by name: its shape is read.
      convert: The function that converts weights to parameters.
      tx: One transformation for all groups, or a list with one for each.
      count: The steps taken.
    """
    listed = list(tx) if type(tx) in (list, tuple) else [tx] * len(groups)
    if len(listed) != len(groups):
        raise ValueError(
            f"`tx` must be one optimizer, or a list with one for each of the {len(groups)} `param_groups`, got "
            f"{len(listed)}. Groups that the flattened form of a state_dict gives equal numbers are one."
        )
    for i, (group, one) in enumerate(zip(groups, listed, strict=True)):
        decays = _decays(i, {name_of[key] for key in group["params"]}, arrays, convert, one)
        hyperparameters.compare(framework, group, one, count, f"`param_groups[{i}]`", _OFF, decays)


def _decays(i: int, names: set[Any], arrays: Mapping[Any, np.ndarray], convert: Convert, tx: Any) -> bool:
    """Return whether the mask of `tx` lets the parameters of a group decay, or refuse one that divides them."""
    if not names or hyperparameters.options(tx).get("weight_decay_mask") is None:
        return True
    mask = hyperparameters.decays(tx, converted(convert, {"nu": dict(arrays)})["nu"])
    sources = origins(convert, {name: x.shape for name, x in arrays.items()})
    flags = {path: flag for path, flag in by_path(mask).items() if sources[path] & names}
    if len(set(flags.values())) > 1:
        one, other = (next(path for path, flag in flags.items() if flag is value) for value in (True, False))
        raise ValueError(
            f"`weight_decay_mask` of `tx` divides `param_groups[{i}]`: {one} decays and {other} does not, but a group "
            "has one weight decay. Let the mask follow the groups."
        )
    return all(flags.values())
