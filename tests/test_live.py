"""The dialects beside the real libraries, on fresh gradients, where the libraries are installed.

PyTorch runs with all tests. The others take minutes to import, so they have a marker: `pytest -m live`.
"""

import importlib
import inspect
import json
import re

import jax
import numpy as np
import optax
import pytest
from kit import trajectories
from kit.calls import ROW_OF, from_function
from kit.replaying import difference, replay
from kit.trajectories import Case
from recorded.trajectories import libraries, record

from rmsprop_optax import dialects, rmsprop
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
        pytest.skip(f"{package} is not installed; tests/recorded/trajectories/record.py says which version")


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
    parameters = inspect.signature(CLASSES[library]().__init__).parameters
    assert [name for name in parameters if name in row.arguments.values()] == list(row.arguments.values())
    for ours, theirs in row.arguments.items():
        assert parameters[theirs].default == row.defaults.get(ours, inspect.Parameter.empty), theirs


# The three ports of docs/dialects.md, schedule and clipping included, beside the real thing.

PORT_STEPS, EPOCH = 40, 5
PORT_RNG = np.random.default_rng(1)
PORT_PARAMS = {"kernel": PORT_RNG.normal(size=(3, 2)), "bias": PORT_RNG.normal(size=2)}
PORT_GRADS = [
    {name: 10.0 ** (t % 3 - 1) * PORT_RNG.normal(size=p.shape) for name, p in PORT_PARAMS.items()}
    for t in range(PORT_STEPS)
]


def walk(tx):
    case = Case(*[None] * len(Case._fields))._replace(params=PORT_PARAMS, grads=PORT_GRADS)
    with jax.enable_x64(True):
        return replay(tx, case)[0]


def test_a_port_from_pytorch_follows_its_scheduler_and_its_clipping():
    needs("torch")
    import torch

    params = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in PORT_PARAMS.items()}
    optimizer = torch.optim.RMSprop(params.values(), lr=0.01, alpha=0.9, eps=1e-8, weight_decay=1e-4, momentum=0.9)
    scheduler, theirs = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1), []
    for t, grads in enumerate(PORT_GRADS):
        for name, p in params.items():
            p.grad = torch.tensor(grads[name])
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimizer.step()
        if (t + 1) % EPOCH == 0:
            scheduler.step()
        theirs.append({name: p.detach().numpy().copy() for name, p in params.items()})

    lr = optax.exponential_decay(0.01, 3 * EPOCH, 0.1, staircase=True)
    dialect = dialects.torch_rmsprop(lr=lr, alpha=0.9, eps=1e-8, weight_decay=1e-4, momentum=0.9)
    ours = walk(optax.chain(optax.clip_by_global_norm(1.0), dialect))
    assert difference(ours, theirs) <= 1e-6  # PyTorch adds 1e-6 to the norm


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_a_port_from_tensorflow_1_follows_its_schedule_its_penalty_and_its_clipping():
    needs("tf1")
    import tensorflow as tf

    v1 = tf.compat.v1.train
    variables = {name: tf.Variable(x, name=name) for name, x in PORT_PARAMS.items()}
    step = tf.Variable(0, dtype=tf.int64)
    rate = v1.exponential_decay(0.045, step, 2 * EPOCH, 0.94, staircase=True)
    optimizer, theirs = v1.RMSPropOptimizer(rate, decay=0.9, momentum=0.9, epsilon=1.0), []
    for grads in PORT_GRADS:
        with tf.GradientTape() as tape:
            loss = 4e-5 * tf.nn.l2_loss(variables["kernel"])
            loss += sum(tf.reduce_sum(v * grads[name]) for name, v in variables.items())
        clipped, _ = tf.clip_by_global_norm(tape.gradient(loss, list(variables.values())), 2.0)
        optimizer.apply_gradients(zip(clipped, variables.values(), strict=True), global_step=step)
        theirs.append({name: v.numpy() for name, v in variables.items()})

    rate = optax.exponential_decay(0.045, 2 * EPOCH, 0.94, staircase=True)
    ours = walk(
        optax.chain(
            optax.add_decayed_weights(4e-5, mask={"kernel": True, "bias": False}),
            optax.clip_by_global_norm(2.0),
            dialects.tf1_rmsprop(rate, decay=0.9, momentum=0.9, epsilon=1.0),
        )
    )
    assert difference(ours, theirs) <= 1e-6  # TensorFlow rounds its numbers to float32


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_a_port_from_keras_follows_its_schedule_its_clipping_and_its_exclusion():
    needs("keras3")
    theirs = []
    with jax.enable_x64(True):
        import keras

        schedule = keras.optimizers.schedules.CosineDecay(1e-2, decay_steps=30)
        optimizer = keras.optimizers.RMSprop(schedule, rho=0.9, momentum=0.9, weight_decay=4e-3, clipnorm=1.0)
        variables = {name: keras.Variable(x, dtype="float64", name=name) for name, x in PORT_PARAMS.items()}
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        optimizer.build(list(variables.values()))
        for grads in PORT_GRADS:
            optimizer.apply([jax.numpy.asarray(grads[name]) for name in variables], list(variables.values()))
            theirs.append({name: np.asarray(v.value) for name, v in variables.items()})

    rate = optax.cosine_decay_schedule(1e-2, decay_steps=30)
    everywhere = dialects.keras_rmsprop(rate, rho=0.9, momentum=0.9, weight_decay=4e-3, clipnorm=1.0)
    assert difference(walk(everywhere), theirs) > 1e-5
    each = {name: optax.clip_by_global_norm(1.0) for name in PORT_PARAMS}
    mask = {"kernel": True, "bias": False}
    masked = optax.chain(
        optax.partition(each, {name: name for name in PORT_PARAMS}),
        rmsprop(rate, 0.9, 1e-7, momentum=0.9, weight_decay=4e-3, weight_decay_mask=mask),
    )
    assert difference(walk(masked), theirs) <= 1e-6  # Keras rounds the learning rate to float32


def test_the_recorder_finds_a_case_that_differs_and_records_it_anew(tmp_path, monkeypatch, capsys):
    recorded = json.loads((trajectories.FOLDER / "optax.json").read_text())
    recorded["cases"] = [next(c for c in recorded["cases"] if c["dtype"] == dtype) for dtype in ("float32", "float64")]
    tampered = json.loads(json.dumps(recorded))
    tampered["cases"][1]["params"][7]["w"][2] += 1e-6
    file = tmp_path / "optax.json"
    file.write_text(json.dumps(tampered))
    for module in (record, trajectories):
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
    assert {file.stem for file in trajectories.FOLDER.glob("*.json")} >= set(record.REQUIREMENTS)
