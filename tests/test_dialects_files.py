"""A dialect is one file with its row and its function, as CONTRIBUTING.md says under "Add a dialect"."""

import importlib
import inspect
import re

import pytest

from rmsprop_optax import dialects
from rmsprop_optax.dialects import ROWS, without_function

FUNCTIONS = {key: row.function for key, row in ROWS.items() if row.function}
keys = pytest.mark.parametrize("key", FUNCTIONS)


def file_of(key):
    return importlib.import_module(f"rmsprop_optax.dialects.{key}")


@keys
def test_the_file_of_a_key_has_its_row_and_its_function(key):
    module = file_of(key)
    assert module.ROW is ROWS[key]
    assert module.__all__ == ["ROW", FUNCTIONS[key]]
    assert getattr(dialects, FUNCTIONS[key]) is getattr(module, FUNCTIONS[key])


@keys
def test_a_file_opens_with_the_idea_in_a_line_and_the_common_mistake(key):
    idea, mistake = file_of(key).__doc__.split("\n\n")
    assert len(idea.splitlines()) == 1
    assert mistake.startswith("The common mistake is ")


@keys
def test_the_references_repeat_the_release_and_the_lines_of_the_row(key):
    row = ROWS[key]
    references = " ".join(inspect.getdoc(getattr(dialects, row.function)).partition("References:")[2].split())
    file, *lines = re.split(r" (?=\d+-\d)|, ", row.source)
    assert [part for part in (row.version, file, *lines) if part not in references] == []


def test_every_public_function_has_a_row_that_names_it():
    functions = [name for name in dialects.__all__ if inspect.isfunction(getattr(dialects, name))]
    assert sorted(functions) == sorted(FUNCTIONS.values())


def test_the_other_rows_are_those_without_a_function():
    others = {key.upper(): row for key, row in ROWS.items() if not row.function}
    assert others == {name: getattr(without_function, name) for name in without_function.__all__}
