"""Rows of a matrix: those of every run, and the rest, which `pytest -m full` adds."""

import pytest


def rows(cases, always):
    """Return the cases for `parametrize`, a tuple being several arguments; those not in `always` are marked full."""
    marks = {case: [] if case in always else [pytest.mark.full] for case in cases}
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=mark) for case, mark in marks.items()]
