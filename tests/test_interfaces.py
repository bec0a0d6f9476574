"""What a user sees of the package: the names that `dir` lists, and the signatures that `help` shows."""

import inspect

import pytest
from kit.wrong_calls import public

import rmsprop_optax

MODULES = [rmsprop_optax, *(module for _, module in inspect.getmembers(rmsprop_optax, inspect.ismodule))]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_dir_and_the_star_show_public_names_alone(module):
    names = {}
    exec(f"from {module.__name__} import *", names)
    assert names.keys() - {"__builtins__"} == set(dir(module)) == set(module.__all__)


@pytest.mark.parametrize("name", public(*MODULES))
def test_the_signature_is_as_written(name):
    thing = rmsprop_optax
    for part in name.split("."):
        thing = getattr(thing, part)
    if name == "checkpoint.Report":  # a dictionary, which takes what a dictionary takes
        return
    signature = str(inspect.signature(thing))
    assert len(signature) < 700
    assert "Union[" not in signature
    assert "ForwardRef" not in signature
