"""What five libraries had in memory after 10 steps of their recorded trajectories, under their own names."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from kit import trajectories

FOLDER = pathlib.Path(__file__).parent.parent / "recorded" / "states_of_libraries"


class Run(NamedTuple):
    case: trajectories.Case  # the whole run
    steps: int  # after which the state was recorded
    state: Any

    @property
    def id(self) -> str:
        return self.case.id


def runs(library: str) -> list[Run]:
    cases = {(case.name, str(case.dtype)): case for case in trajectories.cases(library)}
    records = json.loads((FOLDER / f"{library}.json").read_text())
    return [Run(cases[r["case"], r["dtype"]], r["steps"], decoded(r["state"])) for r in records]


def decoded(node: Any) -> Any:
    """Turn {"dtype", "shape", "data"} back into arrays."""
    if isinstance(node, dict) and node.keys() == {"dtype", "shape", "data"}:
        dtype = np.dtype(node["dtype"])
        flat = np.array(node["data"], dtype.type(0).real.dtype)
        return (flat.view(dtype) if dtype.kind == "c" else flat).reshape(node["shape"])
    if isinstance(node, dict):
        return {key: decoded(value) for key, value in node.items()}
    return [decoded(value) for value in node] if isinstance(node, list) else node
