"""The files of docs/evidence, which docs/evidence.py writes, for benchmarks of jax and optax."""

import pathlib
import sys

import jax
import optax

sys.path.append(str(pathlib.Path(__file__).parents[2] / "docs"))
import evidence


def read(name):
    """Return what a file has; nothing if there is none."""
    return evidence.results().get(name, {})


def write(name, command, machine, columns, rows, **more):
    """Write a file: each row has a cell for each column, and `more` is what the table does not show."""
    versions = {"jax": jax.__version__, "optax": optax.__version__}
    evidence.write(name, command, versions, machine, columns, rows, **more)
