"""Ways to store a state and to read it back: functions of the state, of one like it as `init` makes it, of a folder."""

import pickle

import jax
import numpy as np
import pytest


def through_orbax(state, like, folder):
    orbax = pytest.importorskip("orbax.checkpoint")
    typed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "orbax", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "orbax", typed)


def through_untyped_orbax(state, like, folder):
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "untyped", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(folder / "untyped")


def through_untyped_msgpack(state, like, folder):
    serialization = pytest.importorskip("flax.serialization")
    return serialization.msgpack_restore(serialization.to_bytes(state))


def through_msgpack(state, like, folder):
    serialization = pytest.importorskip("flax.serialization")
    (folder / "state.msgpack").write_bytes(serialization.to_bytes(state))
    return serialization.from_bytes(like, (folder / "state.msgpack").read_bytes())


def through_state_dict(state, like, folder):
    serialization = pytest.importorskip("flax.serialization")
    return serialization.from_state_dict(like, serialization.to_state_dict(state))


def through_pickle(state, like, folder):
    (folder / "state.pickle").write_bytes(pickle.dumps(state))
    return pickle.loads((folder / "state.pickle").read_bytes())


def through_numpy(state, like, folder):
    return jax.tree.map(np.array, state)


def through_safetensors(state, like, folder):
    """Return a dictionary by path, which is what safetensors keeps."""
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(by_path(state), folder / "state.safetensors")
    return safetensors.load_file(folder / "state.safetensors")


def by_path(state):
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}
