"""The recorded trajectories of 27 libraries: one file a library, one dictionary a case."""

import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "recorded" / "trajectories"


class Case(NamedTuple):
    library: str
    name: str
    dtype: np.dtype
    switches: dict[str, Any]  # canonical, with the scalars that the library rounds to float32 rounded
    hparams: dict[str, Any]  # the library's own
    learning_rates: list[float]
    params: dict[str, np.ndarray]  # before the first step
    grads: list[dict[str, np.ndarray]]
    trajectory: list[dict[str, np.ndarray]]  # after each step
    final_state: dict[str, dict[str, np.ndarray]]
    meaning: dict[str, str]  # of the final state's names: nu, mu, mom, -mom
    tolerance: dict[str, float]
    impl: str
    rounded: frozenset[str]  # switches that the library rounds to float32

    @property
    def id(self) -> str:
        return f"{self.library}-{self.name}-{self.dtype}"


def cases(library: str | None = None) -> list[Case]:
    files = sorted(FOLDER.glob(f"{library or '*'}.json"))
    records = [json.loads(file.read_text()) | {"file": file.stem} for file in files]
    return [_case(record, raw) for record in records for raw in record["cases"]]


def _case(record: dict[str, Any], raw: dict[str, Any]) -> Case:
    source = record["inputs"][raw["input"]]
    dtype = np.dtype(raw["dtype"])

    def tree(flat: dict[str, list[Any]]) -> dict[str, np.ndarray]:
        return {name: _array(flat[name], source["shapes"][name], dtype) for name in raw["leaves"]}

    def state(flat: dict[str, list[Any]]) -> dict[str, np.ndarray]:
        return {name: _state_array(x, source["shapes"][name], dtype) for name, x in flat.items()}

    to_round = raw.get("f32_scalars", ())
    rounded = {name: float(np.float32(x)) for name, x in raw["canonical"].items() if name in to_round}
    rates = [float(np.float32(lr)) if "lr" in to_round else lr for lr in raw["lr"]]
    return Case(
        library=record["file"],
        name=raw["name"],
        dtype=dtype,
        switches=raw["canonical"] | rounded,
        hparams=raw["hparams"],
        learning_rates=rates,
        params=tree(source["init"]),
        grads=[tree(g) for g in source["grads"]],
        trajectory=[tree(p) for p in raw["params"]],
        final_state={key: state(value) for key, value in raw["final_state"].items()},
        meaning=raw["state_canonical"],
        tolerance=raw["tol"],
        impl=raw["impl"],
        rounded=frozenset(to_round),
    )


def _array(flat: list[Any], shape: list[int], dtype: np.dtype) -> np.ndarray:
    numbers = np.array([float(x) for x in flat], np.float64)
    if dtype.kind == "c":
        numbers = numbers[0::2] + 1j * numbers[1::2]
    return numbers.reshape(shape).astype(dtype)


def _state_array(flat: list[Any], shape: list[int], dtype: np.dtype) -> np.ndarray:
    size = int(np.prod(shape))
    return _array(flat, shape, dtype if len(flat) == 2 * size else np.zeros((), dtype).real.dtype)
