"""docs/evidence.md has what the files of results say, and each file has its section."""

import datetime
import json
import pathlib
import re
import subprocess
import sys

import evidence
import pytest

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGE, RESULTS = (DOCS / "evidence.md").read_text(), evidence.results()


def sections(page):
    return re.findall(r"^<!-- (\w+) -->$", page, re.MULTILINE)


def test_the_tables_are_those_of_the_files():
    assert evidence.page(PAGE, RESULTS) == PAGE, "run python docs/evidence.py"


def test_each_file_has_one_section_and_each_section_a_file():
    assert sorted(sections(PAGE)) == list(RESULTS)
    assert sections(PAGE) == re.findall(r"^<!-- /(\w+) -->$", PAGE, re.MULTILINE)


def test_each_section_has_a_heading_of_its_own_and_prose():
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        assert len(sections(part)) <= 1, part.splitlines()[0]
    for name in RESULTS:
        before = PAGE[: PAGE.index(f"<!-- {name} -->")].rpartition("\n## ")[2]
        assert len(before.split()) > 20, f"say what the table of {name} is about"


@pytest.mark.parametrize("name", RESULTS)
def test_a_file_says_how_it_was_made(name):
    found = RESULTS[name]
    assert set(evidence.KEYS) <= found.keys()
    assert datetime.date.fromisoformat(found["date"])
    assert all([found["command"], found["machine"], found["versions"], found["rows"]])
    assert all(re.match(r"[\w.+-]+$", version) for version in found["versions"].values())
    assert all(len(row) == len(found["columns"]) for row in found["rows"])


@pytest.mark.parametrize("name", RESULTS)
def test_the_program_that_a_command_names_exists(name):
    for path in re.findall(r"\S+\.py\b", RESULTS[name]["command"]):
        assert (DOCS.parent / path).exists(), path


def test_a_cell_that_drifted_would_be_found():
    found = {"one": dict.fromkeys(evidence.KEYS, "x") | {"versions": {"jax": "1"}, "columns": ["a"], "rows": [[1.0]]}}
    page = evidence.page("<!-- one -->\n<!-- /one -->\n", found)
    assert "| 1 |" in page
    assert "`x`, x, x; jax 1." in page
    assert evidence.page(page.replace("| 1 |", "| 2 |"), found) == page
    with pytest.raises(AssertionError, match="two"):
        evidence.page(page, found | {"two": found["one"]})


@pytest.mark.full
def test_the_script_writes_the_page(tmp_path):
    command = [sys.executable, DOCS / "evidence.py", "--out", tmp_path / "evidence.md"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "evidence.md").read_text() == PAGE


@pytest.mark.parametrize("path", sorted((DOCS / "evidence").glob("*.json")), ids=lambda path: path.stem)
def test_a_file_is_plain_json(path):
    text = path.read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)


def test_no_test_of_another_library_fails():
    assert all(outcome["failed"] == {} for outcome in RESULTS["suites"]["outcomes"].values())


def test_ours_are_nearer_to_float64_in_every_program():
    away = [client["differences"] for client in RESULTS["clients"]["clients"]]
    narrow = [found for found in away if "ours from float64" in found]
    assert len(narrow) >= 7
    assert all(found["ours from float64"] < found["optax's from float64"] for found in narrow)
    assert all(found["ours from optax's"] < 10 for found in away)
