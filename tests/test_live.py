"""The dialects beside the real libraries, on fresh gradients, where the libraries are installed.

PyTorch runs with all tests. The others take minutes to import, so they have a marker: `pytest -m live`.
"""

import importlib
import inspect
import json
import re

import golden_files
import jax
import numpy as np
import pytest
from golden import libraries, record
from golden_files import Case
from test_dialects import ROW_OF, from_function
from test_golden import difference, replay

from rmsprop_optax.dialects import ROWS

PLAIN, MOMENTUM, CENTERED = {}, {"momentum": 0.9}, {"momentum": 0.5, "centered": True}
DECAY = {"weight_decay": 0.1}
CALLS = {
    "torch": [PLAIN, MOMENTUM, CENTERED, DECAY, {"maximize": True, "alpha": 0.5} | MOMENTUM | DECAY],
    "timm": [
        {"lr": 0.1} | options
        for options in (
            PLAIN,
            CENTERED,
            DECAY,
            {"decoupled_decay": True} | MOMENTUM | DECAY,
            {"lr_in_momentum": False} | MOMENTUM,
        )
    ],
    "sb3": [PLAIN, MOMENTUM, CENTERED, DECAY],
    "tf1": [PLAIN, MOMENTUM, CENTERED],
    "tf_keras_legacy": [
        PLAIN, MOMENTUM, CENTERED, {"clipvalue": 1.0, "clipnorm": 1.0}, {"global_clipnorm": 0.5}, {"decay": 0.5},
    ],
    "tf_keras": [PLAIN, CENTERED, {"clipnorm": 0.5} | DECAY],
    "keras3": [PLAIN, CENTERED, {"clipnorm": 0.5}, {"clipvalue": 0.5}, {"global_clipnorm": 0.5} | MOMENTUM | DECAY],
    "sonnet": [PLAIN, MOMENTUM, CENTERED],
    "mlx": [PLAIN, {"alpha": 0.5, "eps": 0.1}],
}  # fmt: skip
ROUNDED = {  # to float32, in float64 cases
    "tf1": {"decay", "eps", "momentum"},
    "sonnet": {"decay", "eps", "momentum"},
    "tf_keras": {"lr", "weight_decay"},
    "tf_keras_legacy": {"lr", "decay", "momentum"},
    "keras3": {"lr"},
}
PACKAGES = {"sb3": "stable_baselines3", "tf1": "tensorflow", "tf_keras_legacy": "tf_keras", "keras3": "keras"}
CLASSES = {
    "torch": lambda: importlib.import_module("torch").optim.RMSprop,
    "timm": lambda: libraries._one_file("timm", "optim/rmsprop_tf.py").RMSpropTF,
    "sb3": lambda: importlib.import_module("stable_baselines3.common.sb2_compat.rmsprop_tf_like").RMSpropTFLike,
    "tf1": lambda: importlib.import_module("tensorflow").compat.v1.train.RMSPropOptimizer,
    "tf_keras_legacy": lambda: importlib.import_module("tf_keras").optimizers.legacy.RMSprop,
    "tf_keras": lambda: importlib.import_module("tf_keras").optimizers.RMSprop,
    "keras3": lambda: importlib.import_module("keras").optimizers.RMSprop,
    "sonnet": lambda: importlib.import_module("sonnet").optimizers.RMSProp,
    "mlx": lambda: importlib.import_module("mlx.optimizers").RMSprop,
}


def live(values):
    """Mark all but PyTorch's."""
    first = lambda value: value if isinstance(value, str) else value[0]  # noqa: E731
    return [pytest.param(v, marks=[] if first(v) == "torch" else pytest.mark.live, id=str(v)) for v in values]


def needs(library):
    package = PACKAGES.get(library, library)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; tests/golden/record.py says which version to compare with")


def fresh(library, hparams, dtype, complex_leaf=False):
    """Return a case nobody recorded: 30 steps, a learning rate that falls twice and starts at 0."""
    rng = np.random.default_rng([ord(letter) for letter in library])
    shapes = {"w": (3, 4), "b": (4,), "s": ()}

    def tree(scale):
        real = {name: np.asarray(rng.normal(scale=scale, size=shape), dtype) for name, shape in shapes.items()}
        if complex_leaf:
            real["w"] = real["w"] + 1j * real["w"][::-1].astype(dtype)
        return real

    rounded = frozenset(ROUNDED.get(library, ()))
    rates = [float(np.float32(lr)) if "lr" in rounded else lr for lr in [0.0] + [0.1] * 9 + [0.02] * 10 + [0.3] * 10]
    grads = [tree(10.0 ** (t % 4 - 2)) for t in range(30)]
    return Case(library, "fresh", np.dtype(dtype), {}, hparams, rates, tree(1), grads, [], {}, {}, {}, "fresh", rounded)


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("call", live((k, i) for k, calls in CALLS.items() for i in range(len(calls))))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dialect_walks_beside_the_library(call, dtype):
    library, i = call
    needs(library)
    if library == "mlx" and dtype == "float64":
        pytest.skip("MLX computes in float32")
    beside(fresh(library, CALLS[library][i], dtype))


@pytest.mark.parametrize("hparams", [PLAIN, CENTERED | DECAY], ids=str)
def test_the_dialect_walks_beside_pytorch_on_complex_parameters(hparams):
    needs("torch")
    beside(fresh("torch", hparams, "float64", complex_leaf=True))


def beside(case):
    theirs, _ = libraries.RUNNERS[case.library](case)
    with jax.enable_x64(True):
        ours, _ = replay(from_function(case), case)
    assert len(ours) == len(theirs) == 30
    # TensorFlow and Keras round scalars of float64 cases to float32, each its own: 1e-7 of each number, some steps long
    loose = case.dtype == "float32" or ROWS[ROW_OF.get(case.library, case.library)].api.startswith(
        ("tf", "keras", "son")
    )
    assert difference(ours, theirs) <= (3e-6 if loose else 1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", live(CLASSES))
def test_the_row_has_the_library_s_own_names_order_and_defaults(library):
    needs(library)
    row = ROWS[ROW_OF.get(library, library)]
    parameters = inspect.signature(CLASSES[library]()).parameters
    assert [name for name in parameters if name in row.arguments.values()] == list(row.arguments.values())
    for ours, theirs in row.arguments.items():
        assert parameters[theirs].default == row.defaults.get(ours, inspect.Parameter.empty), theirs


def test_the_recorder_finds_a_case_that_differs_and_records_it_anew(tmp_path, monkeypatch, capsys):
    recorded = json.loads((golden_files.FOLDER / "optax.json").read_text())
    recorded["cases"] = [next(c for c in recorded["cases"] if c["dtype"] == dtype) for dtype in ("float32", "float64")]
    tampered = json.loads(json.dumps(recorded))
    tampered["cases"][1]["params"][7]["w"][2] += 1e-6
    file = tmp_path / "optax.json"
    file.write_text(json.dumps(tampered))
    for module in (record, golden_files):
        monkeypatch.setattr(module, "FOLDER", tmp_path)

    assert record.main(["optax"]) == 1
    said = rf"^optax-{recorded['cases'][1]['name']}-float64: [\d.]+e\+0[56] times the tolerance"
    assert re.match(said, capsys.readouterr().out)
    assert json.loads(file.read_text()) == tampered
    assert record.main(["optax", "--write"]) == 1
    assert record.main(["optax"]) == 0
    rewritten = json.loads(file.read_text())
    assert rewritten["cases"][0] == recorded["cases"][0]
    ours, theirs = (np.array(r["cases"][1]["params"][7]["w"]) for r in (rewritten, recorded))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_the_recorder_says_what_to_install(capsys):
    assert record.main(["torch", "timm", "--requirements"]) == 0
    assert capsys.readouterr().out == "torch==2.13.0 timm==1.0.31\n"
    assert set(record.REQUIREMENTS) == set(libraries.RUNNERS)
    assert {file.stem for file in golden_files.FOLDER.glob("*.json")} >= set(record.REQUIREMENTS)
