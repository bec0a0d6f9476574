"""A run goes on from a file bit for bit as if it had not stopped, on another mesh, too, and old files load for ever."""

import pickle

import chex
import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from kit import reference, release_states
from kit.release_states import LAYOUTS, STEPS
from kit.storing import through_msgpack, through_orbax, through_pickle, through_safetensors
from kit.training import gradients, path

from rmsprop_optax import checkpoint, moments

PARAMS = {"w": np.linspace(-1, 1, 32, dtype=np.float32).reshape(16, 2), "s": np.float32(0.5)}


def grads_of(steps):
    return gradients(steps, PARAMS, seed=2)


def on_mesh(tree, devices):
    """Put a tree on a mesh of so many devices, arrays split along their first axis."""
    mesh = jax.make_mesh((devices,), ("x",), devices=jax.devices()[:devices])
    return jax.device_put(tree, jax.tree.map(lambda x: NamedSharding(mesh, P(*["x"][: np.ndim(x)])), tree))


def second(state):
    """The mean square, or the variance when centered."""
    return getattr(state[0], moments.second(state[0]))


FOUR = ["plain", "momentum", "centered", "bias-corrected"]


@pytest.mark.parametrize("layout", FOUR)
def test_a_run_resumed_from_a_file_is_the_uninterrupted_one_bit_for_bit(layout, tmp_path):
    tx, grads = release_states.make(layout), grads_of(6)
    steps, last = path(tx, grads, PARAMS)
    _, state = path(tx, grads[:3], PARAMS)
    for through in (through_msgpack, through_pickle, through_safetensors, through_orbax):
        loaded = through(state, tx.init(PARAMS), tmp_path)
        restored = checkpoint.restore(tx.init(PARAMS), loaded)
        chex.assert_trees_all_equal(restored, state)
        again, end = path(tx, grads[3:], steps[2], restored)
        chex.assert_trees_all_equal((again, end), (steps[3:], last))


@pytest.mark.parametrize("layout", FOUR)
def test_a_sharded_run_goes_on_bit_for_bit_on_another_mesh_with_fewer_devices(layout, tmp_path):
    tx, grads = release_states.make(layout), grads_of(6)
    eight, two = on_mesh(PARAMS, 8), on_mesh(PARAMS, 2)
    steps, _ = path(tx, [on_mesh(g, 8) for g in grads], eight)
    _, state = path(tx, [on_mesh(g, 8) for g in grads[:3]], eight)
    assert second(state)["w"].sharding.is_equivalent_to(eight["w"].sharding, 2)
    loaded = through_orbax(state, tx.init(two), tmp_path)
    moved = checkpoint.restore(tx.init(two), state)  # without a file, too
    chex.assert_trees_all_equal(jax.tree.map(np.asarray, loaded), jax.tree.map(np.asarray, moved))
    for restored in (checkpoint.restore(tx.init(two), loaded), moved):
        assert second(restored)["w"].sharding == two["w"].sharding
        assert len(second(restored)["w"].devices()) == 2
        again, _ = path(tx, [on_mesh(g, 2) for g in grads[3:]], on_mesh(steps[2], 2), restored)
        chex.assert_trees_all_equal(again, steps[3:])


def test_fields_of_orbax_without_a_target_are_found(tmp_path):
    orbax = pytest.importorskip("orbax.checkpoint")
    tx = release_states.make("scheduled-momentum")
    _, state = path(tx, grads_of(3), PARAMS)
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", state)
        checkpointer.wait_until_finished()
        untyped = checkpointer.restore(tmp_path / "orbax")
    assert not isinstance(untyped, tuple)
    chex.assert_trees_all_equal(checkpoint.restore(tx.init(PARAMS), untyped), state)


def test_a_file_without_a_leaf_is_refused_by_its_name():
    serialization = pytest.importorskip("flax.serialization")
    tx = release_states.make("momentum")
    whole = serialization.to_state_dict(tx.init(PARAMS))
    del whole["2"]["trace"]["s"]
    with pytest.raises(
        ValueError, match="`moments` must have the leaves of `state`, as init made it; missing: 2/trace/s"
    ):
        checkpoint.restore(tx.init(PARAMS), serialization.msgpack_restore(serialization.msgpack_serialize(whole)))


# Files of every release.

FILES = sorted(path for path in release_states.FOLDER.glob("*/*") if path.suffix in (".msgpack", ".pickle"))
BEFORE = [file for file in FILES if file.parent.name == "before_0.1.0"]  # its centered `nu` was the variance
RECORDED = [file for file in FILES if file not in BEFORE]


def expected(layout):
    """Return the path and the moments of the published rule, in float64."""
    o = {"learning_rate": 0.1, "eps": 1e-3} | LAYOUTS[layout]
    schedule = callable(o["learning_rate"])
    rates = [float(np.float32(0.1 if t < 5 or not schedule else 0.01)) for t in range(STEPS + 4)]
    switches = {name: o[name] for name in ("eps", "centered", "bias_correction", "lr_in_momentum") if name in o}
    switches |= {"momentum": o.get("momentum", 0.0), "weight_decay": o.get("weight_decay", 0.0)}
    switches["wd_mode"] = "decoupled" if o.get("decoupled_weight_decay", True) else "l2"
    wide = lambda tree: {name: np.float64(x) for name, x in tree.items()}  # noqa: E731
    grads = [wide(g) for g in release_states.gradients(STEPS + 4)]
    return reference.trajectory(switches, wide(release_states.PARAMS), grads, rates)[0]


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_a_state_of_every_release_loads_and_takes_the_path_of_the_rule(file):
    tx, there = release_states.make(file.stem), expected(file.stem)
    if file.suffix == ".pickle":
        saved = pickle.loads(file.read_bytes())
        state = checkpoint.restore(tx.init(release_states.PARAMS), saved["state"])
    else:
        serialization = pytest.importorskip("flax.serialization")
        saved = serialization.msgpack_restore(file.read_bytes())
        state = checkpoint.restore(tx.init(release_states.PARAMS), saved["state"])
    grads = release_states.gradients(STEPS + 4)[STEPS:]
    steps = [saved["params"], *path(tx, grads, saved["params"], state)[0]]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), steps, there[STEPS - 1 :])


def test_there_is_a_file_for_every_layout():
    for files in (RECORDED, BEFORE):
        for suffix in ("msgpack", "pickle"):
            assert {file.stem for file in files if file.suffix == f".{suffix}"} == set(LAYOUTS)


@pytest.mark.parametrize("file", BEFORE, ids=lambda file: file.name)
def test_a_layout_that_was_never_released_is_refused(file):
    if file.suffix == ".pickle":  # refused by the class, which has other fields now
        with pytest.raises(TypeError, match="ScaleByRmsState"):
            pickle.loads(file.read_bytes())
        return
    saved = pytest.importorskip("flax.serialization").msgpack_restore(file.read_bytes())["state"]
    with pytest.raises(ValueError, match="A field that is None is of a layout that no release has"):
        checkpoint.restore(release_states.make(file.stem).init(release_states.PARAMS), saved)
