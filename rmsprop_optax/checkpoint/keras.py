"""From the variables of Keras' RMSprop."""

from __future__ import annotations  # signatures in help() read as written here

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optax

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint import hyperparameters
from rmsprop_optax.checkpoint.converting import Convert, check_convert, check_names
from rmsprop_optax.checkpoint.filling import whole
from rmsprop_optax.checkpoint.keras_layouts import Layout, check_config, inner_config, layout
from rmsprop_optax.checkpoint.statistics import in_our_terms
from rmsprop_optax.dialects import ROWS

__all__ = ["from_keras"]


@_checks.keywords
def from_keras(
    variables: Mapping[str, Any] | Sequence[Any],
    names: Sequence[str],
    convert: Convert = None,
    *,
    config: Mapping[str, Any] | None = None,
    tx: optax.GradientTransformation | None = None,
) -> dict[str, Any]:
    r"""Read the moments from the variables of `keras.optimizers.RMSprop`.

    `velocity` becomes `nu`, or if centered, less `average_gradient` squared, `variance`; `average_gradient` becomes
    `mu`, `momentum` becomes `trace` with its sign changed, and `iteration` becomes `count`. Variables are read by their
    paths. Where they are numbered, `config` says what they are: iteration, learning rate unless it is a schedule, then
    for all weights their averages, the accumulated gradients, velocity, momentum and average gradient, as far as there
    are any.

    Memory that is not RMSprop's (averages of the weights, accumulated gradients, the loss scale) is left alone, and a
    warning names it.

    Args:
      variables: By path, `{v.path: v.numpy() for v in optimizer.variables}`; or a file that h5py opened, of Keras 3 or
        tf_keras: a legacy `.h5`, a `.weights.h5`, or the `model.weights.h5` in a `.keras` archive; or the arrays in
        order.
      names: The path of each trainable weight, `[v.path for v in model.trainable_variables]`; in tf_keras `v.name`.
        Where variables are numbered, names of your own, in Keras' order.
      convert: A function that converts the model's weights, a dictionary from names to NumPy arrays, to parameters.
        It is applied to each statistic, so it may rename, reshape, transpose, split and join, and nothing else. None
        leaves a dictionary by name.
      config: `optimizer.get_config()`, or the `compile_config` of a `.keras` archive's `config.json`, at `optimizer`,
        `config`. It is compared with `tx`. Variables without paths need it if there is more than one for each weight.
      tx: The new optimizer, made by `rmsprop` or a function of `dialects`. None compares nothing.

    Returns:
      A dictionary for :func:`restore`, from `nu`, or `variance` and `mu`, and `trace` if there is one, to a tree of
      NumPy arrays as `convert` returns it; from `count` to an int; from `lr_in_momentum` to True if there is a trace.

    Raises:
      ValueError: Missing or extra variables, or variables in another order; those of another optimizer; other
        hyperparameters; a `convert` that loses, doubles or changes numbers; damaged values.
      TypeError: Variables that are not floating-point arrays; a `config` that is not a mapping; a `convert` that casts.

    Example:
      >>> import numpy as np
      >>> from rmsprop_optax import checkpoint, dialects
      >>> variables = [np.array(7), np.float32(0.1), np.ones((2, 3), np.float32)]
      >>> tx = dialects.keras_rmsprop(learning_rate=0.1)
      >>> moments = checkpoint.from_keras(variables, ["dense/kernel"], tx=tx)
      >>> moments["nu"]["dense/kernel"].shape, moments["count"]
      ((2, 3), 7)

    References:
      Keras 3.15.1, keras/src/optimizers/rmsprop.py, lines 87-107, base_optimizer.py (build,
      save_own_variables) and loss_scale_optimizer.py; tf_keras 2.21.0, tf_keras/src/optimizers/optimizer.py.
    """
    check_convert(convert)
    check_names(names, optional=False)
    names = list(names)
    check_config(config)
    found = layout(variables, names, config)
    config = None if config is None else inner_config(config)
    count = _steps(found, config)
    if found.extras:
        uncounted = "" if count is not None else " `iteration` counts gradients, not steps: `config` gives a `count`."
        warnings.warn(
            f"`variables` also hold {', '.join(dict.fromkeys(found.extras))}. They are not read, as RMSprop does not "
            f"remember them.{uncounted}",
            stacklevel=3,  # the caller of the decorated function
        )
    if tx is not None:
        recorded = dict(config or {})
        if found.learning_rate is not None:
            recorded["learning_rate"] = float(found.learning_rate)
        for option, field in (("centered", "mu"), ("momentum", "trace")):
            _check_option(option, field in found.moments, tx)
        hyperparameters.compare("keras", recorded, tx, count, "`variables`")
    return in_our_terms(found.moments, ROWS["keras"].state, convert, lr_in_momentum=True, count=count)


def _steps(found: Layout, config: Mapping[str, Any] | None) -> int | None:
    """Return the steps taken: `iteration`, or with accumulated gradients as many of it as make a step."""
    iteration: int = whole(found.iteration, "`iteration` in `variables`")
    if not any("gradient_accumulation_steps" in words for words in found.extras):
        return iteration
    each = (config or {}).get("gradient_accumulation_steps")
    return iteration // each if each else None


def _check_option(option: str, present: bool, tx: optax.GradientTransformation) -> None:
    """Refuse a transformation that keeps other moments than there are."""
    ours = hyperparameters.options(tx).get(option)
    if present != (ours is not None and ours is not False and not (isinstance(ours, int | float) and ours == 0)):
        raise ValueError(
            f"`tx` has {option}={ours}, but the variables are those of an optimizer {'with' if present else 'without'} "
            f"{option}. Build it with the run's own numbers (dialects.keras_rmsprop takes them)."
        )
