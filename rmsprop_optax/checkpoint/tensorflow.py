"""From the variables of Keras' RMSprop and of TensorFlow 1's RMSPropOptimizer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optax

from rmsprop_optax.checkpoint import hyperparameters, restoring
from rmsprop_optax.checkpoint.conversion import Convert, converted, finite, numpy_of
from rmsprop_optax.checkpoint.variance import to_variance
from rmsprop_optax.dialects import ROWS

_KERAS = ROWS["keras"].state  # nu: velocity, mu: average_gradient, trace: momentum
_IN_ORDER = ("nu", "trace", "mu")  # as Keras creates them


def from_keras(
    variables: Mapping[str, Any] | Sequence[Any],
    names: Sequence[str],
    convert: Convert = None,
    *,
    config: Mapping[str, Any] | None = None,
    tx: optax.GradientTransformation | None = None,
) -> dict[str, Any]:
    r"""Read the moments from the variables of `keras.optimizers.RMSprop`.

    They are, in this order: iteration, learning rate, then for all weights velocity, with momentum the momentum, and
    if centered the average gradient. `velocity`, less `average_gradient` squared if centered, becomes `nu`,
    `average_gradient` becomes `mu`, `momentum` becomes `trace` with its sign changed, and `iteration` becomes `count`.

    Args:
      variables: The arrays in order, `optimizer.variables`; or by path, `{v.path: v.numpy() for v in
        optimizer.variables}`; or by number, the group `optimizer/vars` of a `.weights.h5` file, or of the
        `model.weights.h5` in a `.keras` archive, as h5py opens it.
      names: A name for each trainable weight, in Keras' order, for `convert` and for messages:
        `[v.path for v in model.trainable_variables]`.
      convert: The function that makes the parameters of the model's weights, a dictionary from names to NumPy arrays.
        It is applied to each statistic, so it may rename, reshape, transpose, split and join, and nothing else. None
        leaves a dictionary by name.
      config: `optimizer.get_config()`, or the `compile_config` of a `.keras` archive's `config.json`, at `optimizer`,
        `config`. It says what is kept, and is compared with `tx`. None takes both from `tx`.
      tx: What carries on, made by `rmsprop` or a function of `dialects`. None compares nothing.

    Returns:
      For :func:`restore`: from `nu`, and `mu` and `trace` if there are any, to a tree of NumPy arrays as `convert`
      returns it; from `count` to an int; from `lr_in_momentum` to True if there is a trace.

    Raises:
      ValueError: Missing or extra variables, or variables in another order; those of another optimizer; other
        hyperparameters; a `convert` that loses, doubles or changes numbers; damaged values.
      TypeError: Variables that are no floating-point arrays; a `convert` that casts.

    Example:
      >>> import numpy as np
      >>> from rmsprop_optax import checkpoint, dialects
      >>> variables = [np.array(7), np.float32(0.1), np.ones((2, 3), np.float32)]
      >>> tx = dialects.keras_rmsprop(learning_rate=0.1)
      >>> moments = checkpoint.from_keras(variables, ["dense/kernel"], tx=tx)
      >>> moments["nu"]["dense/kernel"].shape, moments["count"]
      ((2, 3), 7)

    References:
      Keras 3.15.1, keras/src/optimizers/rmsprop.py, lines 87-107, and base_optimizer.py (save_own_variables).
    """
    names = list(names)
    listed, paths = _in_order(variables)
    kept = _kept_by_keras(config, tx, (len(listed) - 2) / max(len(names), 1), paths)
    if len(listed) != 2 + len(kept) * len(names) or len(set(names)) != len(names):
        raise ValueError(
            f"`variables` must be iteration, learning_rate and {', '.join(_KERAS[field] for field in kept)} of each of "
            f"{len(names)} different `names`: {2 + len(kept) * len(names)} arrays, got {len(listed)}. They are another "
            "optimizer's, or of other weights, or the file is not whole."
        )
    _check_paths(paths, kept, len(names))
    count = restoring.whole(listed[0])
    arrays = {}
    for k, field in enumerate(kept):
        block = listed[2 + k * len(names) : 2 + (k + 1) * len(names)]
        arrays[field] = dict(zip(names, block, strict=True))
    if tx is not None:
        recorded = dict(config or {}) | {"learning_rate": float(listed[1])}
        hyperparameters.compare("keras", recorded, tx, count, "`variables`")
    return _in_our_terms(arrays, convert, {field: _KERAS[field] for field in kept}) | {"count": count}


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
    momentum, or, if centered, rms, mg and momentum. `rms`, less `mg` squared if centered, becomes `nu`, `mg` becomes
    `mu`, and `momentum` becomes `trace` with its sign changed.

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
      For :func:`restore`: from `nu`, `trace`, and `mu` if there is one, to a tree of NumPy arrays as `convert` returns
      it; from `count` to an int; from `lr_in_momentum` to True.

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
    moments = _in_our_terms(arrays, convert, foreign)
    if global_step in variables:
        moments["count"] = restoring.whole(numpy_of(variables[global_step]))
    return moments


def _in_our_terms(arrays: dict[str, dict[str, Any]], convert: Convert, foreign: Mapping[str, str]) -> dict[str, Any]:
    """Check the statistics, and make the variance and the trace of them."""
    for field, tree in arrays.items():
        for weight, x in tree.items():
            finite(foreign[field], weight, x, square=field == "nu")
            if x.shape != arrays["nu"][weight].shape:
                raise ValueError(
                    f"`{foreign[field]}` of {weight} must have the shape of its `{foreign['nu']}`, "
                    f"{arrays['nu'][weight].shape}, got {x.shape}: the variables are in another order."
                )
    if "mu" in arrays:
        arrays["nu"] = to_variance(arrays["nu"], arrays["mu"])
    if "trace" in arrays:
        arrays["trace"] = {weight: -x for weight, x in arrays["trace"].items()}
    return converted(convert, arrays) | ({"lr_in_momentum": True} if "trace" in arrays else {})


def _in_order(variables: Any) -> tuple[list[np.ndarray], list[str] | None]:
    """Return arrays in order, and their paths if they have any."""
    if isinstance(variables, str | bytes) or not isinstance(variables, Mapping | Sequence):
        raise TypeError(
            f"`variables` must be a mapping or a sequence of arrays, got {type(variables).__name__}. Open a file with "
            "h5py and pass its group optimizer/vars."
        )
    if not isinstance(variables, Mapping):
        return [numpy_of(x) for x in variables], None
    keys = list(variables)
    if all(re.fullmatch(r"\d+", str(key)) for key in keys):
        if sorted(map(int, keys)) != list(range(len(keys))):
            raise ValueError(f"`variables` must be numbered 0, 1, ..., got {', '.join(map(str, sorted(keys)))}.")
        return [numpy_of(variables[key]) for key in sorted(keys, key=int)], None
    return [numpy_of(variables[key]) for key in keys], keys


def _kept_by_keras(config: Any, tx: Any, blocks: float, paths: list[str] | None) -> tuple[str, ...]:
    """Return the fields that the optimizer keeps, in Keras' order: its paths, its options or their number tell."""
    if paths is not None:
        kept = [field for field in _IN_ORDER if any(path.endswith(_KERAS[field]) for path in paths[2:])]
        return tuple(kept) or ("nu",)
    if config is not None:
        centered, momentum = config.get("centered", False), config.get("momentum", 0) or 0
    elif tx is not None:
        ours = hyperparameters.options(tx)
        centered, momentum = ours.get("centered", False), 0 if ours.get("momentum") is None else ours["momentum"]
    elif blocks == 2:
        raise ValueError(
            "`variables` are two for each weight, and the second is the momentum or the average gradient. Pass "
            "`config`, or pass `tx`."
        )
    else:
        centered = momentum = blocks == 3
    switches = {"nu": True, "trace": not isinstance(momentum, int | float) or momentum > 0, "mu": centered}
    return tuple(field for field in _IN_ORDER if switches[field])


def _check_paths(paths: list[str] | None, kept: tuple[str, ...], weights: int) -> None:
    if paths is None:
        return
    expected = ["iteration", "learning_rate", *(_KERAS[field] for field in kept for _ in range(weights))]
    for path, ending in zip(paths, expected, strict=True):
        if not re.search(rf"{ending}(:0)?$", path):
            raise ValueError(
                f"`variables` must be in Keras' order: expected one that ends in {ending}, got {path}. They are "
                "another optimizer's, or have been sorted."
            )


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
