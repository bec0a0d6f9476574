"""Calls that are wrong on purpose: a table of tests has a row for each, with what its answer must say."""

import inspect
import pathlib
import traceback
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import rmsprop_optax

LINES, CHARACTERS = 20, 1500  # that a message may have
FOREIGN = (  # wordings of Python, jax, numpy, matplotlib and torch
    "PyTreeDef(", "Mismatch", "Tracer", "Cannot interpret", "JAX type", "pytree", "has no attribute",
    "object is not", "is not iterable", "not subscriptable", "not supported between", "unhashable", "values to unpack",
    "could not convert", "invalid literal", "positional argument", "unexpected keyword", "unsupported operand",
    "ambiguous", "broadcast together", "can only convert", "must be real number",
)  # fmt: skip


def wrong(of: str, kind: str, call: Callable[[], Any], error: type[Exception], *says: str) -> Any:
    """Return a row for `pytest.mark.parametrize("row", ...)`: one wrong call and its answer.

    Args:
      of: The public name without the package's: "rmsprop", "rmsprop.update", "checkpoint.restore".
      kind: What is wrong: "a list for an array".
      call: The call; it takes nothing.
      error: The class of the exception, or a class above it.
      says: What must be in the message: the argument or the path, what was expected, what to do.
    """
    assert says, "a row asks for the argument's name at least"
    row = types.SimpleNamespace(of=of, kind=kind, call=call, error=error, says=says)
    return pytest.param(row, id=f"{of}: {kind}")


def judge(row: Any) -> None:
    """Assert that the call of a row is answered by a sentence of ours, and that no other library's frame is shown."""
    with pytest.raises(row.error) as caught:
        row.call()
    message = str(caught.value.args[0] if isinstance(caught.value, KeyError) else caught.value)
    assert [text for text in row.says if text not in message] == [], message
    assert len(message.splitlines()) <= LINES, message
    assert len(message) <= CHARACTERS, message
    assert [text for text in FOREIGN if text in message] == [], message
    assert [file for file in raised_in(caught.value) if not ours(file)] == [], message


def raised_in(error: BaseException) -> list[str]:
    """Return the files whose code raised what a user sees: the error, its cause, or its context unless suppressed."""
    return [frames[-1].filename for frames in shown_frames(error)]


def shown_frames(error: BaseException) -> list[traceback.StackSummary]:
    """Return the frames of what a user sees: of the error, then of what it came from."""
    found = []
    shown: BaseException | None = error
    while shown is not None:
        if frames := traceback.extract_tb(shown.__traceback__):
            found.append(frames)
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
        if type(shown).__name__ in ("SimplifiedTraceback", "UnfilteredStackTrace"):  # jax's remark on hidden frames
            shown = None
    return found


def public(*modules: types.ModuleType, without: Iterable[str] = ()) -> list[str]:
    """Name the public functions, classes and methods of modules as rows do, found in their `__all__`.

    A class of states, which `init` makes, and a protocol are not called by users, and are left out.
    """
    names = []
    for module in modules:
        prefix = module.__name__.removeprefix(rmsprop_optax.__name__).removeprefix(".")
        for name in module.__all__:
            thing, full = getattr(module, name), f"{prefix}.{name}".removeprefix(".")
            if inspect.isclass(thing):
                if not issubclass(thing, tuple) and not getattr(thing, "_is_protocol", False):
                    methods = [m for m, f in vars(thing).items() if inspect.isfunction(f) and not m.startswith("_")]
                    names += [full, *(f"{full}.{method}" for method in methods)]
            elif callable(thing):
                names.append(full)
    return [name for name in names if name not in set(without)]


def lacking(table: Iterable[Any], names: Iterable[str], least: int = 10) -> dict[str, int]:
    """Return the public names with fewer kinds of wrong calls in the table than asked, each with their number."""
    kinds: dict[str, set[str]] = {name: set() for name in names}
    for parameter in table:
        row = parameter.values[0]
        kinds.setdefault(row.of, set()).add(row.kind)
    return {name: len(found) for name, found in kinds.items() if len(found) < least}


class TorchTensor:
    """What a PyTorch tensor looks like from outside, where PyTorch is not installed."""

    def __init__(self, *values: float) -> None:
        self.array = np.array(values, np.float32) if values else np.array(0.5, np.float32)
        self.dtype = type("dtype", (), {"__module__": "torch", "__repr__": lambda _: "torch.float32"})()
        self.shape, self.ndim = self.array.shape, self.array.ndim

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        del copy
        return self.array.astype(dtype or np.float32)

    def __float__(self) -> float:
        return float(self.array)

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"tensor({self.array.tolist()})"

    def detach(self) -> "TorchTensor":
        return self

    def numpy(self) -> np.ndarray:
        return self.array


TorchTensor.__module__ = "torch"
TorchTensor.__qualname__ = TorchTensor.__name__ = "Tensor"


def leaves_300(shape: tuple[int, ...] = (2,)) -> dict[str, Any]:
    """Return a tree of 300 arrays, of which a message must show what differs."""
    return {f"layer{i}": {"kernel": np.zeros(shape, np.float32)} for i in range(300)}


def ours(file: str) -> bool:
    """Say whether a file is one of the package."""
    return pathlib.Path(file).is_relative_to(pathlib.Path(rmsprop_optax.__file__).parent)
