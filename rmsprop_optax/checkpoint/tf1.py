"""From the checkpoint of TensorFlow 1's RMSPropOptimizer."""

from __future__ import annotations  # signatures in help() read as written here

import re
from collections.abc import Mapping
from typing import Any

import optax

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint import hyperparameters
from rmsprop_optax.checkpoint.converting import Convert, check_convert, numpy_of
from rmsprop_optax.checkpoint.filling import whole
from rmsprop_optax.checkpoint.statistics import in_our_terms

__all__ = ["from_tf1"]

_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # the end of a key in an object-based checkpoint
_SLOTS = {"nu": "rms", "mu": "mg", "trace": "momentum"}  # their names there


@_checks.keywords
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
    `variance`; `mg` becomes `mu`, and `momentum` becomes `trace` with its sign changed. An object-based
    `tf.train.Checkpoint`, which names its slots rms, mg and momentum, is read, too, of this optimizer and of
    tf.keras' legacy one; weights are then named by their place among the objects, `model/dense/kernel`.

    Args:
      variables: All variables by name, as `tf.train.load_checkpoint(path)` reads them:
        `{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}`. Those without slots are left
        alone.
      convert: A function that converts the model's weights, a dictionary from names to NumPy arrays, to parameters.
        It is applied to each statistic, so it may rename, reshape, transpose, split and join, and nothing else. None
        leaves a dictionary by name.
      name: The optimizer's name.
      global_step: The name of the variable that counts the steps, or of its object; without it there is no `count`.
        tf.keras' legacy optimizer has its own.
      tx: The new optimizer, made by `rmsprop` or a function of `dialects`: only `centered` is compared. The file
        has no other hyperparameters. None compares nothing.

    Returns:
      A dictionary for :func:`restore`, from `trace` and `nu`, or `variance` and `mu`, to a tree of NumPy arrays as
      `convert` returns it; from `count` to an int; from `lr_in_momentum` to True.

    Raises:
      ValueError: Missing or extra slots; those of another optimizer; a `convert` that loses, doubles or changes
        numbers; damaged values.
      TypeError: Variables that are not floating-point arrays; a `convert` that casts.

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
    check_convert(convert)
    for argument, value in (("name", name), ("global_step", global_step)):
        if not isinstance(value, str):
            raise TypeError(f"`{argument}` must be a string, got {_checks.shown(value)}.")
    if not isinstance(variables, Mapping) or not all(isinstance(key, str) for key in variables):
        raise TypeError(
            f"`variables` must be a mapping from names to arrays, got {_checks.shown(variables)}. Read a "
            "checkpoint with tf.train.load_checkpoint."
        )
    if any(key.endswith(_VALUE) for key in variables):
        slots, count = _slots_of_objects(variables), _count_of_objects(variables, global_step)
        present = {slot for found in slots.values() for slot in found}
        foreign = {field: slot for field, slot in _SLOTS.items() if field == "nu" or slot in present}
        _check_slots(slots, [*foreign.values()])
    else:
        slots = _slots(variables, name)
        fields = ("nu", "mu", "trace") if any(f"{name}_2" in found for found in slots.values()) else ("nu", "trace")
        foreign = {field: name + suffix for field, suffix in zip(fields, ("", "_1", "_2"), strict=False)}
        _check_slots(slots, [*foreign.values()])
        step = variables.get(global_step)
        count = None if step is None else whole(numpy_of(step), f"`variables` at {global_step}")
    if tx is not None:
        legacy = hyperparameters.framework_of(tx) == "tf_keras_legacy"
        hyperparameters.compare(
            "tf_keras_legacy" if legacy else "tf1", {"centered": "mu" in foreign}, tx, None, "`variables`"
        )
    arrays = {
        field: {weight: numpy_of(found[slot]) for weight, found in slots.items()} for field, slot in foreign.items()
    }
    return in_our_terms(arrays, foreign, convert, lr_in_momentum=True, count=count)


def _slots_of_objects(variables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the slots of each variable by name in an object-based checkpoint, which has them below the variable."""
    slots: dict[str, dict[str, Any]] = {}
    optimizers = set()
    for key in sorted(variables):
        found = re.fullmatch(rf"(.+)/\.OPTIMIZER_SLOT/(.+)/([^/]+){re.escape(_VALUE)}", key)
        if found:
            slots.setdefault(found[1].replace(".S", "/"), {})[found[3]] = variables[key]
            optimizers.add(found[2])
    if len(optimizers) > 1:
        raise ValueError(
            "`variables` are an object-based tf.train.Checkpoint with the slots of "
            f"{' and '.join(sorted(optimizers))}. Pass the keys of one."
        )
    if not optimizers:
        raise ValueError(
            "`variables` are an object-based tf.train.Checkpoint without slots. Keras since 2.11 numbers its variables "
            "there (optimizer/_variables/2), and nothing says what they are: load the file with Keras, and pass "
            "{v.path: v.numpy() for v in optimizer.variables} to checkpoint.from_keras."
        )
    return slots


def _count_of_objects(variables: Mapping[str, Any], global_step: str) -> int | None:
    counts = [key for key in variables if key == f"{global_step}{_VALUE}" or key.endswith(f"/iter{_VALUE}")]
    return whole(numpy_of(variables[counts[0]]), f"`variables` at {counts[0]}") if len(counts) == 1 else None


def _slots(variables: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Return the slots of each variable by name: the optimizer's, with a number from the second on."""
    slots: dict[str, dict[str, Any]] = {}
    for key in variables:
        found = re.fullmatch(rf"(.+)/({re.escape(name)}(?:_\d+)?)", key)
        if found:
            slots.setdefault(found[1], {})[found[2]] = variables[key]
    if not slots:
        seen = sorted({re.sub(r"_\d+$", "", key.rpartition("/")[2]) for key in variables})
        raise ValueError(
            f"`variables` has no slots named {name}; the last parts of its names are {', '.join(seen[:8]) or 'none'}. "
            "They are another optimizer's, or it has another `name`."
        )
    return dict(sorted(slots.items()))


def _check_slots(slots: dict[str, dict[str, Any]], expected: list[str]) -> None:
    for weight, found in slots.items():
        if set(found) != set(expected):
            raise ValueError(
                f"{weight} must have the slots {', '.join(expected)}, got "
                f"{', '.join(sorted(found))}. The file is not whole, or two optimizers have written it, or another one."
            )
