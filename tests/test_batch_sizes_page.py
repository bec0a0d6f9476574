"""docs/batch_sizes.md: its table is that of the results, and its verdict follows from them."""

import json
import pathlib

import batch_sizes
import numpy as np

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "batch_sizes.md").read_text()
RESULTS = json.loads((DOCS / "batch_sizes.json").read_text())["results"]


def test_the_table_is_that_of_the_results():
    assert batch_sizes.with_table(PAGE, json.loads((DOCS / "batch_sizes.json").read_text())) == PAGE


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
