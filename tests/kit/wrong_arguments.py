"""Values that are wrong for most arguments, and what the answer to a call with one of them must be."""

import importlib.util
import inspect
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from kit.wrong_calls import CHARACTERS, FOREIGN, LINES, TorchTensor, ours, shown_frames
from rmsprop_optax import compression, rmsprop

TESTS = pathlib.Path(__file__).parent.parent
PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
OTHERS = {"x": jnp.ones(2)}
MANY = {f"layer{i}": {"kernel": jnp.ones((2, 2))} for i in range(300)}
TX = rmsprop(0.1)
STATE = TX.init(PARAMS)


def tensor(*shape):
    """Return a PyTorch tensor, or where PyTorch is not installed what looks like one from outside."""
    if importlib.util.find_spec("torch") is not None:
        import torch

        return torch.ones(shape)
    found = TorchTensor(1.0)
    found.array = np.ones(shape, np.float32)
    found.shape, found.ndim, found.cpu = shape, len(shape), lambda: found
    return found


VALUES = {
    "None": None,
    "a string": "word",
    "strings": ["a", "c"],
    "a number": 1.5,
    "a negative number": -1,
    "nan": float("nan"),
    "a bool": True,
    "a list": [1.0],
    "a ragged list": [[1.0, 2.0], [3.0]],
    "an empty list": [],
    "an empty dict": {},
    "an array": np.ones((2, 3), np.float32),
    "integers": np.arange(3),
    "a factory": rmsprop,
    "a transformation": TX,
    "a state": STATE,
    "a state of Adam": optax.adam(0.1).init(PARAMS),
    "another model's state": TX.init(OTHERS),
    "300 moments": TX.init(MANY),
    "parameters": PARAMS,
    "another model's parameters": OTHERS,
    "300 parameters": MANY,
    "parameters in another shape": {"w": jnp.ones((3, 2)), "b": jnp.ones(3)},
    "integer parameters": jax.tree.map(lambda p: p.astype(int), PARAMS),
    "complex parameters": jax.tree.map(lambda p: p.astype(complex), PARAMS),
    "strings for parameters": {"w": "a", "b": "b"},
    "None for each parameter": {"w": None, "b": None},
    "shapes": jax.eval_shape(lambda: PARAMS),
    "a function": lambda x: x,
    "an object": object(),
    "a codec": compression.BFloat16(),
    "a class": compression.BFloat16,
    "a layout": PartitionSpec("x"),
    "a tensor": tensor(3),
    "tensors": {"w": tensor(2, 3), "b": tensor(3)},
}
NUMBERS = {"a number", "a negative number", "nan", "a bool"}
TREES = {  # that some trees of parameters are like
    "a number", "nan", "a list", "a ragged list", "an empty list", "an empty dict", "an array", "parameters",
    "another model's parameters", "300 parameters", "parameters in another shape", "integer parameters",
    "complex parameters", "None for each parameter", "shapes",
}  # fmt: skip


def fault(call, *names):
    """Return what is wrong with the answer to a wrong call, None if it is a sentence that names the argument."""
    try:
        came = call()
    except Exception as error:
        return _fault(error, names)
    if isinstance(came, str) and came.startswith("refused: "):  # what `preview` returns
        return _wording(came, names)
    return "was accepted"


def _fault(error, names):
    if type(error) not in (TypeError, ValueError):
        return f"raised {type(error).__name__}: {error}"
    raised, *causes = shown_frames(error)
    if not ours(raised[-1].filename):
        return f"was raised in {raised[-1].filename}: {error}"
    for frames in causes:
        files = [frame.filename for frame in frames]
        callers_own = any(
            pathlib.Path(file).is_relative_to(TESTS) for file in files
        )  # what it raised is shown as it was
        if not (ours(files[-1]) or callers_own):
            return f"shows a frame of {files[-1]}: {error}"
    return _wording(str(error), names)


def _wording(text, names):
    if not any(f"`{name}{end}" in text for name in names for end in "`/"):
        return f"does not name {names}: {text}"
    if len(text) > CHARACTERS or len(text.splitlines()) > LINES:
        return f"has {len(text)} characters: {text[:200]}"
    said = text.partition(" raised ")[0]  # behind it is what the caller's own function raised
    foreign = [wording for wording in FOREIGN if wording in said]
    return f"speaks of {foreign}: {text}" if foreign else None


def faults(function, arguments, argument, also=()):
    """Call a function with each wrong value for one argument, and return the faults of the answers by value.

    `arguments` has, for each argument, a right value and the names of those in `VALUES` that are right, too.
    """
    right = {name: value for name, (value, _) in arguments.items()}
    found = {}
    for kind, value in VALUES.items():
        if kind not in arguments[argument][1]:
            wrong = fault(lambda value=value: function(**right | {argument: value}), argument, *also)
            if wrong is not None:
                found[kind] = wrong
    return found


def rows_of(arguments):
    """Return how many wrong calls there are of a function with these arguments."""
    return sum(len(VALUES.keys() - right) for _, right in arguments.values())


def misnamed(name, function, arguments):
    """Return what is wrong with the answers to calls whose arguments are misspelt, missing, too many or given twice."""
    right = {argument: value for argument, (value, _) in arguments.items()}
    answers = [
        fault(lambda: function(*right.values(), *range(20)), name),
        fault(lambda: function(None, **right), next(iter(right))),
    ]
    for argument, parameter in inspect.signature(function).parameters.items():
        rest = {key: value for key, value in right.items() if key != argument}
        spelt = rest | {f"{argument}s": right.get(argument)}
        answers.append(fault(lambda spelt=spelt: function(**spelt), argument))
        if parameter.default is parameter.empty:
            answers.append(fault(lambda rest=rest: function(**rest), argument))
    return [answer for answer in answers if answer is not None]


def assert_answered(wrong, kind, message):
    """Assert that a call is answered by this sentence of ours, cut to its length."""
    with pytest.raises(kind, match=message) as caught:
        wrong()
    assert len(str(caught.value)) <= CHARACTERS
    assert ours(caught.traceback[-1].path)
