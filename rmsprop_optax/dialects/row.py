"""What one framework does, as data that functions, tests, pages and `checkpoint` read."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rmsprop_optax.alias import Variant

__all__ = ["Row"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One framework's RMSprop: its switches, and the names of its arguments and of its state.

    Args:
      api: The class or function, as its users write it.
      version: The release that was read and run.
      variant: Its switches, at its defaults.
      arguments: From `learning_rate`, `decay`, `eps`, `momentum`, `centered`, `weight_decay` to its own names, in the
        order of its signature. What the framework does not have is left out.
      defaults: From our names to its default values. An argument without a default is required.
      state: From `nu`, `mu`, `trace`, `ema`, `count` to its own names. Its `nu` is the mean square, centered or not.
      source: The file and the lines of the rule. The References of the function repeat them.
      function: The name of the function in `dialects` that takes its arguments; None if it has only a row.
      fixed: From our names to the values that it has built in.
      set_by: From a switch to the framework's argument that sets it.
      keeps_trace: Whether it keeps a momentum buffer at momentum 0.
      negated_trace: Whether its buffer is added to the parameter, not subtracted.
      remark: What the switches do not say.
    """

    api: str
    version: str
    variant: Variant
    arguments: Mapping[str, str]
    defaults: Mapping[str, Any]
    state: Mapping[str, str]
    source: str
    function: str | None = None
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    set_by: Mapping[str, str] = dataclasses.field(default_factory=dict)
    keeps_trace: bool = False
    negated_trace: bool = False
    remark: str = ""
