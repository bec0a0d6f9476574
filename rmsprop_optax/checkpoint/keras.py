"""From the variables of Keras' RMSprop."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optax

from rmsprop_optax.checkpoint import hyperparameters
from rmsprop_optax.checkpoint.converting import Convert, numpy_of
from rmsprop_optax.checkpoint.filling import whole
from rmsprop_optax.checkpoint.statistics import in_our_terms
from rmsprop_optax.dialects import ROWS

__all__ = ["from_keras"]

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
    if centered the average gradient. `velocity` becomes `nu`, or if centered, less `average_gradient` squared,
    `variance`; `average_gradient` becomes `mu`, `momentum` becomes `trace` with its sign changed, and `iteration`
    becomes `count`.

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
      For :func:`restore`: from `nu`, or `variance` and `mu`, and `trace` if there is one, to a tree of NumPy arrays
      as `convert` returns it; from `count` to an int; from `lr_in_momentum` to True if there is a trace.

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
    count = whole(listed[0])
    arrays = {}
    for k, field in enumerate(kept):
        block = listed[2 + k * len(names) : 2 + (k + 1) * len(names)]
        arrays[field] = dict(zip(names, block, strict=True))
    if tx is not None:
        recorded = dict(config or {}) | {"learning_rate": float(listed[1])}
        hyperparameters.compare("keras", recorded, tx, count, "`variables`")
    return in_our_terms(arrays, _KERAS, convert, lr_in_momentum=True, count=count)


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
