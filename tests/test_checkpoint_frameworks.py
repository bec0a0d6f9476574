"""A run of PyTorch, timm, Stable-Baselines3, Keras 3 or TensorFlow 1 goes on here as if it had never stopped, and back.

The runs are replayed on recorded gradients: from states that the libraries themselves wrote down in the middle of the
recorded trajectories, and with PyTorch itself where it is installed.
"""

import copy
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import library_states, training
from kit.calls import from_function
from kit.replaying import difference, in_our_terms, replay, state_difference

from rmsprop_optax import checkpoint, dialects, rmsprop

TOLERANCE = {"f": 2e-6, "d": 1e-12, "F": 2e-6, "D": 1e-12}


def read_keras(run, tx):
    variables = dict(run.state["variables"])
    return checkpoint.from_keras(variables, run.state["names"], config=run.state["config"], tx=tx)


def read_tf1(run, tx):
    return checkpoint.from_tf1(run.state, tx=tx)


def read_torch(run, tx):
    return checkpoint.from_torch(run.state, names=list(run.case.params), tx=tx)


SOURCES = {  # the libraries whose recorded states a function reads, and how their users call it
    "from_keras": (("keras3",), read_keras),
    "from_tf1": (("tf1",), read_tf1),
    "from_torch": (("torch", "timm", "sb3"), read_torch),
}
READ = {library: read for libraries, read in SOURCES.values() for library in libraries}
RUNS = [run for library in READ for run in library_states.runs(library)]


def moments_of(run, tx):
    """Read a recorded state as its library's user would."""
    return READ[run.case.library](run, tx)


def test_every_source_reads_recorded_states_and_is_on_the_page():
    public = {name for name in checkpoint.__all__ if name.startswith("from_")}
    elsewhere = {
        "from_optax": "test_checkpoint_options.py",  # which runs optax itself
        "from_sb3": "test_checkpoint_files_of_trainers.py",
    }
    assert public - elsewhere.keys() == SOURCES.keys()
    for name, file in elsewhere.items():
        assert f"checkpoint.{name}(" in (pathlib.Path(__file__).parent / file).read_text()
    page = (pathlib.Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text()
    assert [name for name in sorted(public) if f"checkpoint.{name}(" not in page] == []


def marked(run):
    """Leave double precision to the full matrix."""
    return pytest.param(run, id=run.id, marks=[] if run.case.dtype == "float32" else [pytest.mark.full])


@pytest.mark.parametrize("run", [marked(run) for run in RUNS])
def test_an_imported_run_takes_the_path_of_the_uninterrupted_one(run):
    before = copy.deepcopy(run.state)
    with jax.enable_x64(True):
        tx = from_function(run.case)
        params = jax.tree.map(jnp.asarray, run.case.trajectory[run.steps - 1])
        state = checkpoint.restore(tx.init(params), moments_of(run, tx))
        rest, state = replay(tx, run.case, state, run.steps)
    assert difference(rest, run.case.trajectory[run.steps :]) <= TOLERANCE[run.case.dtype.char]
    assert all(optax.tree.get(state, name) is not None for name in in_our_terms(run.case))
    assert state_difference(state, run.case) <= run.case.tolerance["state"]
    jax.tree.map(np.testing.assert_array_equal, run.state, before)


def test_the_recorded_runs_have_momentum_centering_decay_and_changing_rates_in_both_precisions():
    for library in ("torch", "timm", "keras3", "tf1"):
        cases = [run.case for run in RUNS if run.case.library == library]
        for dtype in ("float32", "float64"):
            here = [case for case in cases if case.dtype == dtype]
            assert any(case.switches["momentum"] for case in here)
            assert any(case.switches["centered"] for case in here)
            assert any(len({*case.learning_rates[10:]} | {case.learning_rates[9]}) > 1 for case in here)
            assert library == "tf1" or any(case.switches["weight_decay"] for case in here)  # it has no decay


# PyTorch itself, where it is installed.

LIVE = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "everything": {"momentum": 0.9, "centered": True, "weight_decay": 0.1},
}
NUMBERS = {"alpha": 0.9, "eps": 1e-3}


def to_jax(weights):
    """Turn the weights of a convolution and a linear layer into ours: NCHW to NHWC, rows to columns."""
    return {
        "conv": {"kernel": weights["conv.weight"].transpose(2, 3, 1, 0), "bias": weights["conv.bias"]},
        "dense": {"kernel": weights["dense.weight"].T, "bias": weights["dense.bias"]},
    }


SHAPES = {"conv.weight": (4, 3, 2, 2), "conv.bias": (4,), "dense.weight": (5, 6), "dense.bias": (5,)}


def rate(t):
    return 0.02 * 0.5 ** (t // 4)


def torch_run(dtype, options, steps, grads, weights=None, state_dict=None, first=0):
    """Step with torch.optim.RMSprop on recorded gradients; return weights by name, the path and the state_dict."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = (
        {name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()} if weights is None else weights
    )
    parameters = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in start.items()}
    optimizer = torch.optim.RMSprop(parameters.items(), lr=rate(first), **NUMBERS, **options)
    if state_dict is not None:
        optimizer.load_state_dict(state_dict)
    path = []
    for t in range(first, first + steps):
        optimizer.param_groups[0]["lr"] = rate(t)
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(grads[t][name])
        optimizer.step()
        path.append({name: parameter.detach().numpy().copy() for name, parameter in parameters.items()})
    return path, optimizer.state_dict()


def recorded(dtype, steps=12):
    rng = np.random.default_rng(1)
    return [{name: rng.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()} for _ in range(steps)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", LIVE.values(), ids=LIVE)
def test_a_run_of_torch_goes_on_here_for_4_steps_and_then_in_torch_again(options, dtype):
    grads = recorded(dtype)
    uninterrupted, _ = torch_run(dtype, options, 12, grads)
    path, state_dict = torch_run(dtype, options, 4, grads)
    with jax.enable_x64(True):
        tx = dialects.torch_rmsprop(lambda t: 0.02 * 0.5 ** (t // 4), **NUMBERS, **options)
        params = jax.tree.map(jnp.asarray, to_jax(path[-1]))
        state = checkpoint.restore(tx.init(params), checkpoint.from_torch(state_dict, to_jax, tx=tx))
        here, state = training.path(tx, [jax.tree.map(jnp.asarray, to_jax(g)) for g in grads[4:8]], params, state)
        assert apart(here, [to_jax(weights) for weights in uninterrupted[4:8]]) <= TOLERANCE[np.dtype(dtype).char]

        torch = pytest.importorskip("torch")
        fresh = torch_run(dtype, options, 0, grads)[1]
        back = checkpoint.to_torch(state, fresh, path[-1], to_jax, as_tensor=torch.as_tensor)
    params = jax.tree.map(np.array, here[-1])
    weights = {
        "conv.weight": params["conv"]["kernel"].transpose(3, 2, 0, 1),
        "conv.bias": params["conv"]["bias"],
        "dense.weight": params["dense"]["kernel"].T,
        "dense.bias": params["dense"]["bias"],
    }
    assert back["state"][0]["step"] == 8
    rest, last = torch_run(dtype, options, 4, grads, weights, back, first=8)
    assert apart(rest, uninterrupted[8:]) <= TOLERANCE[np.dtype(dtype).char]
    assert last["state"][0]["step"] == 12


def apart(ours, theirs):
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)))) for a, b in pairs)


@pytest.mark.parametrize("run", [r for r in RUNS if r.case.library in ("torch", "timm", "sb3")], ids=lambda run: run.id)
def test_what_came_from_pytorch_goes_back_as_it_came(run):
    with jax.enable_x64(True):
        tx = from_function(run.case)
        state = checkpoint.restore(tx.init(jax.tree.map(jnp.asarray, run.case.params)), moments_of(run, tx))
        fresh = {"state": {}, "param_groups": run.state["param_groups"]}
        back = checkpoint.to_torch(state, fresh, run.case.params, count=run.steps)
    assert back["param_groups"] == run.state["param_groups"]
    for index, entry in back["state"].items():
        theirs = run.state["state"][str(index)]
        assert entry.keys() == theirs.keys()
        for key, x in entry.items():
            # the mean square went through the variance, whose digits are those of the larger of the two
            np.testing.assert_allclose(x, theirs[key], rtol=4 * np.finfo(x.dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_tensors_in_half_precision_become_float32_and_so_does_their_variance(dtype):
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(3, dtype=getattr(torch, dtype)))
    optimizer = torch.optim.RMSprop([weight], lr=0.1, centered=True)
    weight.grad = torch.tensor([0.1, 0.2, 0.3], dtype=weight.dtype)
    optimizer.step()
    moments, theirs = checkpoint.from_torch(optimizer.state_dict()), optimizer.state_dict()["state"][0]
    assert moments["variance"]["0"].dtype == np.float32
    assert np.array_equal(moments["mu"]["0"], theirs["grad_avg"].float().numpy())
    wide = theirs["square_avg"].double() - theirs["grad_avg"].double() ** 2
    assert np.array_equal(moments["variance"]["0"], wide.float().numpy())


def test_a_run_in_float64_goes_on_in_float32_where_that_is_allowed():
    numbers = {"nu": {"w": np.full(3, 0.1)}}
    state = rmsprop(0.1).init({"w": jnp.zeros(3)})
    with pytest.raises(TypeError, match="float64, which would be rounded"):
        checkpoint.restore(state, numbers)
    restored = checkpoint.restore(state, numbers, allow_rounding=True)
    assert np.array_equal(restored[0].nu["w"], np.full(3, 0.1, np.float32))


def test_a_file_is_read_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch")
    _, state_dict = torch_run("float32", LIVE["everything"], 4, recorded("float32"))
    torch.save(state_dict, tmp_path / "optimizer.pt")
    read = checkpoint.from_torch(torch.load(tmp_path / "optimizer.pt", weights_only=True), to_jax)
    jax.tree.map(np.testing.assert_array_equal, read, checkpoint.from_torch(state_dict, to_jax))


def test_a_function_may_split_and_join_and_is_undone():
    weights = {"qkv": np.arange(18.0).reshape(6, 3), "out": np.arange(6.0), "empty": np.zeros((0, 2))}
    split = lambda w: {  # noqa: E731
        "q": jnp.asarray(w["qkv"][:2].T), "kv": w["qkv"][2:], "rest": {"out": w["out"].reshape(2, 3), "e": w["empty"]},
    }  # fmt: skip
    with jax.enable_x64(True):
        entries = {i: {"step": 1, "square_avg": x} for i, x in enumerate(weights.values())}
        state_dict = {"state": entries, "param_groups": [{"params": [0, 1, 2]}]}
        moments = checkpoint.from_torch(state_dict, split, names=list(weights))
        state = checkpoint.restore(rmsprop(0.1).init(jax.tree.map(jnp.asarray, moments["nu"])), moments)
    back = checkpoint.to_torch(state, state_dict, weights, split, count=1)
    for i, x in enumerate(weights.values()):
        assert np.array_equal(back["state"][i]["square_avg"], x)


# Keras' layouts.


def keras_run():
    return next(run for run in RUNS if run.id == "keras3-centered_momentum-float32")


def test_keras_variables_are_read_by_path_in_order_and_by_number():
    state = keras_run().state
    arrays = [x for _, x in state["variables"]]
    by_number = {str(i): arrays[i] for i in sorted(range(len(arrays)), key=str)}  # 0, 1, 10, 11, ... as h5py lists them
    expected = checkpoint.from_keras(dict(state["variables"]), state["names"])
    for variables in (arrays, by_number):
        found = checkpoint.from_keras(variables, state["names"], config=state["config"])
        jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("suffix", ["weights.h5", "keras"])
def test_a_file_of_keras_is_read_with_h5py(suffix):
    h5py, zipfile = pytest.importorskip("h5py"), pytest.importorskip("zipfile")
    file = library_states.FOLDER / f"model.{suffix}"
    opened = zipfile.ZipFile(file).open("model.weights.h5") if suffix == "keras" else file.open("rb")
    with opened as weights, h5py.File(weights) as content:
        config = {"momentum": 0.9, "centered": True}
        tx = dialects.keras_rmsprop(0.01, **config)
        moments = checkpoint.from_keras(content, ["dense/kernel", "dense/bias"], config=config, tx=tx)
        by_hand = content["optimizer/vars"]
        assert moments["count"] == 3
        assert np.array_equal(moments["trace"]["dense/kernel"], -by_hand["4"][()])
        expected = by_hand["3"][()] - np.square(by_hand["7"][()], dtype=np.float64)
        np.testing.assert_allclose(moments["variance"]["dense/bias"], expected, rtol=1e-6)
