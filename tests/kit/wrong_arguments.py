"""Values that are wrong for most arguments, and what the answer to a call with one of them must be."""

import dataclasses
import inspect
import pathlib
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

import rmsprop_optax
from rmsprop_optax import compression, rmsprop

PACKAGE = pathlib.Path(rmsprop_optax.__file__).parent
FOREIGN = (  # wordings of Python, jax, numpy, matplotlib and torch
    "PyTreeDef", "pytree", "Mismatch", "mismatch", "Tracer", "Cannot interpret", "valid JAX type", "has no attribute",
    "not iterable", "not callable", "not subscriptable", "not supported between", "unhashable", "to unpack",
    "could not convert", "invalid literal", "unsupported operand", "ambiguous", "broadcast together", "inhomogeneous",
    "positional argument", "unexpected keyword",
)  # fmt: skip

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
OTHERS = {"x": jnp.ones(2)}
MANY = {f"layer{i}": {"kernel": jnp.ones((2, 2))} for i in range(300)}
TX = rmsprop(0.1)
STATE = TX.init(PARAMS)

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
}
try:
    import torch
except ImportError:
    pass
else:
    VALUES |= {"a tensor": torch.ones(3), "tensors": {"w": torch.ones(2, 3), "b": torch.ones(3)}}

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
    raised = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if type(error) not in (TypeError, ValueError):
        return f"raised {type(error).__name__}: {error}"
    if PACKAGE not in raised.parents:
        return f"was raised in {raised}: {error}"
    return _wording(str(error), names)


def _wording(text, names):
    if not any(f"`{name}{end}" in text for name in names for end in "`/"):
        return f"does not name {names}: {text}"
    if len(text) > 1500 or text.count("\n") >= 20:
        return f"has {len(text)} characters: {text[:200]}"
    ours = text.partition(" raised ")[0]  # behind it is what the caller's own function raised
    foreign = [wording for wording in FOREIGN if wording in ours]
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


def public(module):
    """Return the public functions, and the classes with their public methods, of which a table must have rows.

    Named tuples, dictionaries and protocols have no rules of their own.
    """
    short, names = module.__name__.rpartition(".")[2], []
    for name in module.__all__:
        value = getattr(module, name)
        if not isinstance(value, type):
            names.append(f"{short}.{name}")
        elif dataclasses.is_dataclass(value):
            names += [f"{short}.{name}"] * bool(dataclasses.fields(value))
            methods = [key for key, x in vars(value).items() if inspect.isfunction(x) and not key.startswith("_")]
            names += [f"{short}.{name}.{method}" for method in methods]
    return names
