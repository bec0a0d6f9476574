"""docs/recipes.md says what the recipes do: its tables are made from their calls."""

import importlib.util
import inspect
import pathlib
import re

import pytest

from rmsprop_optax import recipes

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT, PAGE = ROOT / "docs" / "recipes.py", ROOT / "docs" / "recipes.md"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("recipes_page", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_calls(script):
    assert PAGE.read_text() == script.page(PAGE.read_text()), "run python docs/recipes.py"


@pytest.mark.full
def test_a_number_that_drifted_would_be_found(script):
    drifted = PAGE.read_text().replace("| `dpo()` | 5e-7 |", "| `dpo()` | 5e-6 |")
    assert drifted != PAGE.read_text()
    assert script.page(drifted) == PAGE.read_text()


def sources_of(name):
    """Return the sources that a recipe knows, as its docstring lists them."""
    if "source" not in inspect.signature(getattr(recipes, name)).parameters:
        return {None}
    listed = re.search(r"^ +source: (.*)\. Structure", inspect.getdoc(getattr(recipes, name)), re.MULTILINE)[1]
    return {*re.findall(r'"(\w+)"', listed)}


@pytest.mark.parametrize("name", recipes.__all__)
def test_every_recipe_and_every_source_is_a_row_whose_reading_the_docstring_cites(script, name):
    rows = [source for source in script.SOURCES if source.call.startswith(f"{name}(")]
    given = [re.search(r'source="(\w+)"', row.call) for row in rows]
    default = inspect.signature(getattr(recipes, name)).parameters.get("source")
    named = [found[1] if found else default and default.default for found in given]
    assert sorted(named, key=str) == sorted(sources_of(name), key=str)
    cited = " ".join(inspect.getdoc(getattr(recipes, name)).partition("References:")[2].split())
    for row in rows:
        where, _, commit = row.read.partition(" at ")
        assert where in cited
        assert commit in cited


@pytest.mark.full
def test_the_script_writes_the_page(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["recipes.py", "--out", str(tmp_path / "page.md")])
    exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), {"__name__": "__main__", "__file__": str(SCRIPT)})
    assert (tmp_path / "page.md").read_text() == PAGE.read_text()
    assert "wrote" in capsys.readouterr().out
