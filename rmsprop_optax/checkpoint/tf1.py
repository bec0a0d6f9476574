"""From the checkpoint of TensorFlow 1's RMSPropOptimizer."""

import re
from collections.abc import Mapping
from typing import Any

import optax

from rmsprop_optax.checkpoint import hyperparameters
from rmsprop_optax.checkpoint.converting import Convert, numpy_of
from rmsprop_optax.checkpoint.filling import whole
from rmsprop_optax.checkpoint.statistics import in_our_terms

__all__ = ["from_tf1"]


def from_tf1(
    variables: Mapping[str, Any],
    convert: Convert = None,
    *,
    name: str = "RMSProp",
    global_step: str = "global_step",
    tx: optax.GradientTransformation | None = None,
) -> dict[str, Any]:
    r"""Read the moments from a checkpoint of `tf.compat.v1.train.RMSPropOptimizer`.

    The slots of a variable `V` are `V/RMSProp`, `V/RMSProp_1`, `V/RMSProp_2` in the order of their creation: rms and
    momentum, or, if centered, rms, mg and momentum. `rms` becomes `nu`, or if centered, less `mg` squared,
    `variance`; `mg` becomes `mu`, and `momentum` becomes `trace` with its sign changed.

    Args:
      variables: All variables by name, as `tf.train.load_checkpoint(path)` reads them:
        `{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}`. Those without slots are left
        alone.
      convert: The function that makes the parameters of the model's weights, a dictionary from names to NumPy arrays.
        It is applied to each statistic, so it may rename, reshape, transpose, split and join, and nothing else. None
        leaves a dictionary by name.
      name: The optimizer's name.
      global_step: The name of the variable that counts the steps; without it there is no `count`.
      tx: What carries on, made by `rmsprop` or a function of `dialects`: whether it is centered is compared. The file
        has no other hyperparameters. None compares nothing.

    Returns:
      For :func:`restore`: from `trace` and `nu`, or `variance` and `mu`, to a tree of NumPy arrays as `convert`
      returns it; from `count` to an int; from `lr_in_momentum` to True.

    Raises:
      ValueError: Missing or extra slots; those of another optimizer; a `convert` that loses, doubles or changes
        numbers; damaged values.
      TypeError: Variables that are no floating-point arrays; a `convert` that casts.

    Example:
      >>> import numpy as np
      >>> from rmsprop_optax import checkpoint
      >>> weights = {name: np.ones(3) for name in ("w", "w/RMSProp", "w/RMSProp_1")}
      >>> moments = checkpoint.from_tf1(weights | {"global_step": 7})
      >>> moments["nu"]["w"], moments["trace"]["w"], moments["count"]
      (array([1., 1., 1.]), array([-1., -1., -1.]), 7)

    References:
      TensorFlow 2.21.0, tensorflow/python/training/rmsprop.py, lines 166-183 (the slots), and slot_creator.py.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(
            f"`variables` must be a mapping from names to arrays, got {type(variables).__name__}. Read a checkpoint "
            "with tf.train.load_checkpoint."
        )
    slots = _slots(variables, name)
    kept = ("nu", "mu", "trace") if any("_2" in found for found in slots.values()) else ("nu", "trace")
    suffixes = ("", "_1", "_2")[: len(kept)]
    _check_slots(slots, suffixes, name)
    if tx is not None:
        hyperparameters.compare("tf1", {"centered": "mu" in kept}, tx, None, "`variables`")
    arrays = {
        field: {weight: numpy_of(found[suffix]) for weight, found in slots.items()}
        for field, suffix in zip(kept, suffixes, strict=True)
    }
    foreign = {field: f"{name}{suffix}" for field, suffix in zip(kept, suffixes, strict=True)}
    count = whole(numpy_of(variables[global_step])) if global_step in variables else None
    return in_our_terms(arrays, foreign, convert, lr_in_momentum=True, count=count)


def _slots(variables: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Return the slots of each variable by suffix: none, _1, _2."""
    slots: dict[str, dict[str, Any]] = {}
    for key in variables:
        found = re.fullmatch(rf"(.+)/{re.escape(name)}(_\d+)?", key)
        if found:
            slots.setdefault(found[1], {})[found[2] or ""] = variables[key]
    if not slots:
        seen = sorted({re.sub(r"_\d+$", "", key.rpartition("/")[2]) for key in variables})
        raise ValueError(
            f"`variables` has no slots named {name}; the last parts of its names are {', '.join(seen[:8]) or 'none'}. "
            "They are another optimizer's, or it has another `name`."
        )
    return dict(sorted(slots.items()))


def _check_slots(slots: dict[str, dict[str, Any]], suffixes: tuple[str, ...], name: str) -> None:
    for weight, found in slots.items():
        if set(found) != set(suffixes):
            raise ValueError(
                f"{weight} must have the slots {', '.join(name + suffix for suffix in suffixes)}, got "
                f"{', '.join(name + suffix for suffix in sorted(found))}. The file is not whole, or two optimizers "
                f"have written it."
            )
