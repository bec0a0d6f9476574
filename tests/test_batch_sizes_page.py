"""docs/batch_sizes.md: its table is that of the results, and its verdict follows from them."""

import json
import pathlib

import batch_sizes
import numpy as np
import recording

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "batch_sizes.md").read_text()
RESULTS = json.loads((DOCS / "batch_sizes.json").read_text())["results"]


def test_the_table_is_that_of_the_results():
    results = json.loads((DOCS / "batch_sizes.json").read_text())
    assert recording.with_tables(PAGE, batch_sizes.tables(results)) == PAGE


def test_every_cell_has_four_seeds_and_a_rate_from_inside_its_sweep():
    for way, cells in RESULTS.items():
        assert [int(size) for size in cells] == sorted(batch_sizes.SIZES)
        for found in cells.values():
            assert len(found["final"]) == 4
            if way != "rule":
                assert found["swept"][0] < found["rate"] < found["swept"][1]


def t_value(size, way):
    """Return the paired difference to the fixed half-life in standard errors."""
    off = np.subtract(RESULTS[way][size]["final"], RESULTS["half-life"][size]["final"])
    return off.mean() / (off.std(ddof=1) / np.sqrt(len(off)))


def test_a_fixed_half_life_pays_at_batch_1_and_nowhere_else_for_sure():
    assert t_value("1", "decay") > 2
    assert all(abs(t_value(size, "decay")) < 2 for size in ("8", "512"))
    assert batch_sizes.difference({way: RESULTS[way]["1"] for way in RESULTS}, "decay") in PAGE.split("**Verdict")[1]


def test_no_loss_shows_of_the_square_root_rule_at_batch_1_and_8_and_512_is_undecided():
    assert all(t_value(size, "rule") < 2 for size in ("1", "8", "512"))
    error = {size: np.std(np.subtract(*(RESULTS[way][size]["final"] for way in ("rule", "half-life"))), ddof=1) / 2
             for size in ("1", "8", "512")}  # fmt: skip
    assert max(error["1"], error["8"]) < 0.02 < 0.05 < error["512"]
