"""What five libraries kept after 10 steps of the golden trajectories, under their names, by carried/record.py."""

import json
import pathlib
from typing import Any, NamedTuple

import golden_files
import numpy as np

FOLDER = pathlib.Path(__file__).parent / "carried"


class Carried(NamedTuple):
    case: golden_files.Case  # the whole run
    steps: int  # after which the state was recorded
    state: Any

    @property
    def id(self) -> str:
        return self.case.id


def carried(library: str) -> list[Carried]:
    cases = {(case.name, str(case.dtype)): case for case in golden_files.cases(library)}
    records = json.loads((FOLDER / f"{library}.json").read_text())
    return [Carried(cases[r["case"], r["dtype"]], r["steps"], decoded(r["state"])) for r in records]


def decoded(node: Any) -> Any:
    """Turn {"dtype", "shape", "data"} back into arrays."""
    if isinstance(node, dict) and node.keys() == {"dtype", "shape", "data"}:
        dtype = np.dtype(node["dtype"])
        flat = np.array(node["data"], dtype.type(0).real.dtype)
        return (flat.view(dtype) if dtype.kind == "c" else flat).reshape(node["shape"])
    if isinstance(node, dict):
        return {key: decoded(value) for key, value in node.items()}
    return [decoded(value) for value in node] if isinstance(node, list) else node
