"""docs/dialects.md says what the rows say: its tables are made from them, and its script draws its figures."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

from rmsprop_optax import dialects
from rmsprop_optax.dialects import ROWS

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT, PAGE = ROOT / "docs" / "dialects.py", ROOT / "docs" / "dialects.md"


@pytest.fixture(scope="module")
def script():
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("dialects_page", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_rows(script):
    assert PAGE.read_text() == script.page(PAGE.read_text()), "run python docs/dialects.py"


def test_a_table_that_drifted_would_be_found(script):
    drifted = PAGE.read_text().replace("| `timm.optim.RMSpropTF` 1.0.31 | in the root | 1 |", "| timm | outside | 0 |")
    assert drifted != PAGE.read_text()
    assert script.page(drifted) == PAGE.read_text()


def test_every_row_is_in_the_tables_once_and_every_function_is_named(script):
    titles = [f"`{row.api}` {row.version}" for row in ROWS.values()]
    assert len(set(titles)) == len(titles)
    for table in (script.switches(), script.names(), script.sources()):
        assert re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)[-len(titles) :] == titles
    named = set(re.findall(r"`(\w+)` \| `", script.names())) & set(dialects.__all__)
    assert named == {row.function for row in ROWS.values()} - {None}


@pytest.mark.full
def test_the_script_writes_the_page_and_its_figures(tmp_path):
    pytest.importorskip("matplotlib")
    subprocess.run([sys.executable, "-W", "ignore", SCRIPT, "--out", tmp_path], check=True, capture_output=True)
    assert (tmp_path / "dialects.md").read_text() == PAGE.read_text()
    for figure in ("eps.png", "first_steps.png"):
        assert (tmp_path / "figures" / figure).stat().st_size > 10_000
        assert (ROOT / "docs" / "figures" / figure).exists()
