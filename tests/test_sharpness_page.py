"""docs/sharpness.md: its table is that of the results, and its verdict follows from them."""

import json
import pathlib

import numpy as np
import recording
import sharpness

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "sharpness.md").read_text()
RESULTS = json.loads((DOCS / "sharpness.json").read_text())


def test_the_table_is_that_of_the_results():
    assert recording.with_tables(PAGE, sharpness.tables(RESULTS)) == PAGE
    assert RESULTS["edges"].keys() == sharpness.TASKS.keys()


def test_a_reading_does_not_predict_the_edge_of_a_sweep():
    ratios = [found["edge"] / found["predicted"] for found in RESULTS["edges"].values()]
    assert f"at least {min(ratios):.0f} times" in PAGE
    assert f"{max(ratios):.0f} times." in PAGE
    assert min(ratios) > 1.5


def test_the_two_larger_rates_arrive_at_2_and_the_smallest_has_not():
    _, one, other = (np.array(found[1]) for found in RESULTS["runs"].values())
    for sharpness_over_time in (one, other):
        assert 1.9 < sharpness_over_time.max() < 2.5
    smallest = np.array(next(iter(RESULTS["runs"].values()))[1])
    assert smallest.max() < 1.1
    assert (np.diff(smallest[10:]) > 0).all()


def test_the_loss_goes_on_falling_at_every_rate():
    for _, _, losses in RESULTS["runs"].values():
        assert (np.diff(losses) < 0).all()
