"""docs/evidence has results of the examples on digits and text: their tables follow from the seeds, the claims too."""

import json
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOUND = {
    name: json.loads((ROOT / f"docs/evidence/{name}.json").read_text()) for name in ("char_rnn", "digits", "sweep")
}
RUNS = {"char_rnn": FOUND["char_rnn"]["runs"], "digits": FOUND["digits"]["seeds"]}
KEYS = {"char_rnn": ("held_out", "steps", "final"), "digits": ("accuracy", "steps", "loss")}
ROWS = [(name, row[0]) for name in RUNS for row in FOUND[name]["rows"]]


@pytest.mark.parametrize(("name", "optimizer"), ROWS)
def test_a_row_has_the_mean_and_the_standard_deviation_of_five_seeds(name, optimizer):
    (row,) = (row for row in FOUND[name]["rows"] if row[0] == optimizer)
    for cell, key in zip(row[2:], KEYS[name], strict=True):
        values = np.array(RUNS[name][optimizer][key]) * (100 if key == "accuracy" else 1)
        if key == "steps" and len(values) < 5:
            assert cell == f"{len(values)} of 5 seeds"
            continue
        assert len(values) == 5
        mean, deviation = (float(number) for number in cell.removesuffix(" %").split(" ± "))
        last_digit = 10.0 ** -len(cell.split(" ±")[0].partition(".")[2])
        np.testing.assert_allclose([mean, deviation], [values.mean(), values.std(ddof=1)], atol=0.501 * last_digit)


def test_the_digits_have_the_rates_that_the_sweep_suggests():
    suggested = {row[0]: row[1] for row in FOUND["sweep"]["rows"]}
    assert {row[0]: row[1] for row in FOUND["digits"]["rows"]} == suggested
    for name, rate in suggested.items():
        assert f'"{name}": {rate}' in (ROOT / "examples" / "digits.py").read_text()


def mean(name, optimizer, key):
    return np.mean(RUNS[name][optimizer][key])


def test_on_the_text_rmsprop_ends_lowest_and_is_first_at_the_target():
    for other in [name for name in RUNS["char_rnn"] if name != "RMSprop"]:
        assert max(RUNS["char_rnn"]["RMSprop"]["held_out"]) < min(RUNS["char_rnn"][other]["held_out"])
        assert mean("char_rnn", "RMSprop", "steps") < mean("char_rnn", other, "steps")


def test_on_the_digits_no_optimizer_is_ahead_at_the_end_and_adam_is_first_at_95_percent():
    accuracies = [mean("digits", name, "accuracy") for name in RUNS["digits"]]
    assert np.ptp(accuracies) < 0.005
    steps = {name: mean("digits", name, "steps") for name in RUNS["digits"]}
    assert min(steps, key=steps.get) == "Adam"
    assert max(steps, key=steps.get) == "RMSprop"


@pytest.mark.parametrize(("name", "optimizer"), ROWS)
def test_the_readme_has_the_row(name, optimizer):
    (row,) = (row for row in FOUND[name]["rows"] if row[0] == optimizer)
    decay = ", decay 0.95" * ((name, optimizer) == ("char_rnn", "RMSprop"))
    line = f"| {optimizer}, {row[1]}{decay} | {' | '.join(row[2:])} |"
    assert line in (ROOT / "README.md").read_text().splitlines()
