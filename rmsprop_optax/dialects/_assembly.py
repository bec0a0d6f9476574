"""From a framework's numbers to a transformation: the switches of its row, its names in errors, its clipping first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax.alias import rmsprop
from rmsprop_optax.dialects.clipping import chain_in_float32
from rmsprop_optax.dialects.complex_numbers import in_real_pairs, refusing_complex
from rmsprop_optax.dialects.row import Row

_BELOW = {"decay": 1, "momentum": 1}  # the others have no upper bound


def assemble(
    row: Row,
    *,
    before: Sequence[optax.GradientTransformation] = (),
    switches: dict[str, Any] | None = None,
    learning_rate: Any,
    decay: Any,
    eps: Any,
    momentum: Any = None,
    centered: bool = False,
    nesterov: bool = False,
    weight_decay: Any = None,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Build `rmsprop` with the switches of a framework's row, after links that work on the raw gradient.

    Args:
      row: The framework's row. Errors name the numbers as it does.
      before: Links on the raw gradient, in order.
      switches: The switches that the call sets, where they may differ from the row.
      learning_rate: A number or a schedule.
      decay: A number.
      eps: A number.
      momentum: A number, or None for no buffer.
      centered: As in `rmsprop`.
      nesterov: As in `rmsprop`.
      weight_decay: A number or a schedule, or None for no decay.
      weight_decay_mask: As in `rmsprop`.

    Returns:
      The transformation; the caller's `@value` gives it equality, a hash and a repr.
    """
    numbers = {
        "learning_rate": learning_rate, "decay": decay, "eps": eps, "momentum": momentum, "weight_decay": weight_decay,
    }  # fmt: skip
    required = {"learning_rate", "decay", "eps"} | ({"momentum"} if row.keeps_trace else set())
    for ours, number in numbers.items():
        if number is not None or ours in required:
            numbers[ours] = _checked(row.arguments.get(ours, ours), number, ours)
    chosen = vars(row.variant) | (switches or {})
    pairs = chosen.pop("complex_pairs")
    tx = rmsprop(**numbers, **chosen, centered=centered, nesterov=nesterov, weight_decay_mask=weight_decay_mask)
    if pairs is None:
        tx = refusing_complex(tx, row.api)
    elif pairs:
        tx = in_real_pairs(tx)
    return chain_in_float32(*before, tx) if before else tx


def none_if_zero(number: Any) -> Any:
    """Return None for a Python or NumPy 0, with which the framework keeps no buffer; a traced number stays."""
    scalar = isinstance(number, int | float | np.number) and not isinstance(number, bool)
    return None if scalar and number == 0 else number


def _checked(name: str, number: Any, ours: str) -> Any:
    if callable(number) and ours in ("learning_rate", "weight_decay"):
        return lambda count: _checks.number(name, number(count))
    return _checks.number(name, number, below=_BELOW.get(ours))
