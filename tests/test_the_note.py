"""docs/the_note.md: its tables are those of its results file, its verdicts quote them and follow from them."""

import json
import pathlib
import re

import numpy as np
import pytest
import recording
from the_note import report

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "the_note.md").read_text()
RESULTS = json.loads((ROOT / "docs" / "the_note.json").read_text())
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
MEASURED = {title: text for title, text in SECTIONS.items() if "<!-- /" in text}
TASKS = ("bowl", "digits", "text")


def test_the_tables_of_the_page_are_those_of_the_results():
    assert re.findall("<!-- /(.*?) -->", PAGE) == list(report.TABLES)
    assert recording.with_tables(PAGE, report.tables(RESULTS)) == PAGE


def test_a_changed_number_is_noticed():
    digits = [match for match in re.finditer(r"\d", PAGE) if "\n| digits" in PAGE[: match.start()]]
    changed = PAGE[: digits[0].start()] + str((int(digits[0][0]) + 1) % 10) + PAGE[digits[0].end() :]
    assert recording.with_tables(changed, report.tables(RESULTS)) == PAGE


def test_the_page_shows_every_figure():
    assert sorted(re.findall(r"figures/note_(\w+).png", PAGE)) == sorted(report.FIGURES)


@pytest.mark.parametrize("title", MEASURED)
def test_a_verdict_quotes_only_numbers_of_its_section_s_tables(title):
    tables, verdict = re.split(r"\n\*\*Verdict", MEASURED[title])
    cells = "\n".join(line for line in tables.splitlines() if line.startswith("|"))
    known = set(re.findall(r"[\d.]*\d", cells))
    quoted = re.findall(r"[\d.]*\d", verdict)
    assert quoted
    assert set(quoted) <= known, set(quoted) - known


def test_the_guide_to_hyperparameters_quotes_the_tables():
    guide = (ROOT / "docs" / "hyperparameters.md").read_text()
    prose = re.sub(r"```.*?```|`[^`]*`", "", guide, flags=re.DOTALL)
    quoted = {number for number in re.findall(r"\d+\.\d+", prose) if len(number.replace(".", "").lstrip("0")) > 2}
    cells = {number for line in PAGE.splitlines() if line.startswith("|") for number in re.findall(r"[\d.]*\d", line)}
    assert len(quoted) > 10
    assert quoted <= cells, quoted - cells


def numbers(tree):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from [(key, value)] if isinstance(value, list) else numbers(value)


def test_what_is_reported_of_an_optimizer_comes_from_ten_seeds():
    for claim in ("compare", "adaptation", "bias", "suggestion"):
        counts = {len(values) for key, values in numbers(RESULTS[claim]) if key in ("final", "steps", "itself")}
        assert counts == {10}, claim


def mean(claim, *path):
    found = RESULTS[claim]
    for key in path:
        found = found[key]
    return np.mean([np.inf if value is None else value for value in found])


def of(key, name, tasks=TASKS):
    return np.array([mean("compare", task, name, key) for task in tasks])


def number(key, name):
    return np.array([RESULTS["compare"][task][name][key] for task in TASKS])


def left(name, how):
    return np.mean(RESULTS["conditions"][name][how][-1])


def pays(key):
    found = RESULTS["adaptation"]
    return [mean("adaptation", task, "all", key) > mean("adaptation", task, "element", key) for task in found]


def suggested_is_best():
    found = RESULTS["suggestion"]
    rows = [(task, name) for task in found for name in found[task]]
    best = [mean("suggestion", *row, "itself") < mean("suggestion", *row, other) for row in rows for other in SIDES]
    return len(rows) == 9 and all(best)


def flat(task):
    final = np.array(RESULTS["eps"][task]["final"], float)[:5].mean(1)  # 2**-40, -36, ... -24
    return np.ptp(final) < 0.05 * final.mean()


def correction_gain(task, decay):
    return mean("bias", task, decay, "plain", "final") - mean("bias", task, decay, "corrected", "final")


def sensitivity(task, name):
    return report.swept(RESULTS["compare"][task][name]).sensitivity(octaves=2)


SIDES = ("half", "twice")
CONCLUSIONS = {
    "RMSprop takes back less than SGD": lambda: (of("undone", "RMSprop") < of("undone", "SGD")).all(),
    "and turns no less often": lambda: (of("reversed", "RMSprop") > 0.99 * of("reversed", "SGD")).all(),
    "momentum damps more": lambda: (of("undone", "momentum") < of("undone", "RMSprop")).all(),
    "its path is straighter than SGD's": lambda: (of("detour", "RMSprop") < of("detour", "SGD")).all(),
    "steepness along the parameters does not matter": lambda: left("RMSprop", "along") < 0.1 * left("SGD", "along"),
    "askew the advantage is gone": lambda: left("RMSprop", "askew") > 0.9 * left("SGD", "askew"),
    "a rate for each parameter ends lower": lambda: all(pays("final")),
    "and gets there sooner": lambda: all(pays("steps")),
    "on the text it does more than momentum": lambda: all(
        of(key, "RMSprop")[2] < of(key, "momentum")[2] for key in ("steps", "final")
    ),
    "on bowl and digits it does less": lambda: (of("final", "RMSprop") > of("final", "momentum"))[:2].all(),
    "at decay 0.9 correction gains nothing": lambda: all(
        correction_gain(task, "0.9") < 0.02 * mean("bias", task, "0.9", "plain", "final") for task in TASKS
    ),
    "above, it does on the text": lambda: all(correction_gain("text", decay) > 0.05 for decay in ("0.99", "0.999")),
    "RMSprop is stable further above its rate": lambda: (number("room", "RMSprop") > number("room", "SGD")).all(),
    "and usable over a wider range": lambda: (number("usable", "RMSprop") > number("usable", "SGD")).all(),
    "a wrong rate costs it less than SGD and momentum": lambda: all(
        sensitivity(task, "RMSprop") < min(sensitivity(task, "SGD"), sensitivity(task, "momentum")) for task in TASKS
    ),
    "and less than Adam but on the bowl": lambda: (
        [sensitivity(task, "RMSprop") < sensitivity(task, "Adam") for task in TASKS] == [False, True, True]
    ),
    "on digits and text it is faster": lambda: (of("steps", "RMSprop") < of("steps", "SGD"))[1:].all(),
    "on the bowl it is slower": lambda: (of("steps", "RMSprop") > of("steps", "SGD"))[0],
    "eps up to 2**-24 changes little": lambda: all(map(flat, TASKS)),
    "the suggested rate beats half and twice": suggested_is_best,
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", report.COLORS)
def test_what_the_figure_of_the_sweeps_suggests_is_what_was_tried(task, name):
    found = RESULTS["compare"][task][name]
    np.testing.assert_allclose(report.swept(found).suggest().learning_rate, found["rate"], rtol=2e-2)
    np.testing.assert_allclose(report.swept(found).edge, found["edge"], rtol=1e-3)


@pytest.mark.parametrize("claim", CONCLUSIONS)
def test_a_verdict_follows_from_the_numbers(claim):
    assert CONCLUSIONS[claim]()
