"""docs/evidence.py, for the benchmarks."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2] / "docs"))
from evidence import read, write

__all__ = ["read", "write"]
