"""A state in the host's memory: streamed through a step, moved to other options, restored without a second copy."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.memory import pinned_host
from kit.rows import rows
from kit.training import step
from kit.trees import same

from rmsprop_optax import checkpoint, compression, rmsprop
from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble
from rmsprop_optax.sharding import state_shardings

PLAIN = rmsprop(0.01, momentum=0.9, bias_correction=True)
BYTE = compression.compressed(PLAIN, nu=RmsByte(), trace=BFloat16())
NIBBLE = compression.compressed(PLAIN, nu=RmsNibble())
OPTIMIZERS = {
    "plain": PLAIN,
    "byte": BYTE,
    "nibble": NIBBLE,
    "low halves": compression.with_master_weights(BYTE, low_bits=8),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def eight(axis_type=AxisType.Auto):
    return jax.make_mesh((8,), ("x",), axis_types=(axis_type,))


def blocks(axis_type=AxisType.Auto, dtype=jnp.float32):
    """Return parameters in blocks, as layers are, split over eight devices."""
    pinned_host(mesh=True)  # or skip
    rng, mesh = np.random.default_rng(0), eight(axis_type)
    homes = {"w": NamedSharding(mesh, P("x")), "b": NamedSharding(mesh, P())}
    block = lambda: {"w": jnp.asarray(rng.normal(size=(64, 24)), dtype), "b": jnp.ones(24, dtype)}  # noqa: E731
    return {f"block {i}": jax.device_put(block(), homes) for i in range(3)}


def on_host(tree):
    return jax.tree.map(lambda s: s.with_memory_kind("pinned_host"), tree)


def shardings(tree):
    return jax.tree.map(lambda x: x.sharding, tree)


def layouts(tx, params):
    """Return the shardings of the blocks' states on the devices and, but for their counters, on the host."""
    here = {key: state_shardings(tx, block) for key, block in params.items()}
    return here, {key: state_shardings(tx, block, on_host(shardings(block))) for key, block in params.items()}


def streamed(tx, params):
    """Return `init` and a step for states that wait in the host's memory: a block's comes when the last one's has gone.

    docs/scaling.md shows the same lines.
    """
    here, there = layouts(tx, params)
    init = jax.jit(lambda params: {key: tx.init(block) for key, block in params.items()}, out_shardings=there)

    @functools.partial(jax.jit, donate_argnums=(0, 1), out_shardings=(shardings(params), there))
    def advance(params, states, grads):
        params, states, gone = dict(params), dict(states), None
        for key in params:
            state, gone = jax.lax.optimization_barrier((states[key], gone))
            params[key], state = step(tx, params[key], jax.device_put(state, here[key]), grads[key])
            states[key] = gone = jax.device_put(state, there[key])
        return params, states

    return init, advance


@pytest.mark.parametrize(("name", "axis_type"), rows(
    [(name, axis_type) for name in OPTIMIZERS for axis_type in (AxisType.Auto, AxisType.Explicit)],
    [],
))  # fmt: skip
def test_a_state_streamed_from_the_host_trains_as_one_on_the_devices_bit_for_bit(name, axis_type):
    tx, dtype = OPTIMIZERS[name], jnp.bfloat16 if name == "low halves" else jnp.float32
    params, gradients = blocks(axis_type, dtype), [blocks(axis_type, dtype)] * 3
    init, advance = streamed(tx, params)
    home = shardings(params)
    waiting, there = init(params), layouts(tx, params)[1]
    usual = {key: jax.jit(tx.init)(block) for key, block in params.items()}
    plain = jax.jit(lambda p, s, g: {key: step(tx, p[key], s[key], g[key]) for key in p})
    other = params
    params = jax.tree.map(jnp.copy, params)
    compiled = advance.lower(params, waiting, gradients[0]).compile()
    collectives = {"all-reduce"} if name == "nibble" else set()
    assert set(re.findall("all-[a-z]+", compiled.as_text())) == collectives
    for grads in gradients:
        before = (params, waiting)
        params, waiting = advance(params, waiting, grads)
        assert all(x.is_deleted() for x in jax.tree.leaves(before))
        after = plain(other, usual, grads)
        other, usual = ({key: pair[i] for key, pair in after.items()} for i in range(2))
    assert same((params, waiting), (other, usual))
    assert shardings(params) == home
    assert jax.tree.all(jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), waiting, there))
    kinds = {x.sharding.memory_kind for x in jax.tree.leaves(waiting) if x.ndim}
    assert kinds == {"pinned_host"}
    donated = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves((params, waiting)))
    assert compiled.memory_analysis().alias_size_in_bytes == donated


@pytest.mark.parametrize("place", ["mesh", "a device", "nowhere in particular"])
def test_adapt_keeps_what_goes_on_in_the_memory_that_it_is_in(place):
    params = {"w": jnp.ones((16, 4)), "b": jnp.ones(8)}
    host = pinned_host(mesh=place == "mesh")
    if place != "nowhere in particular":
        params = jax.device_put(params, host.with_memory_kind("device"))
    for old, new in (
        (rmsprop(0.1), rmsprop(0.1, momentum=0.9)),
        (rmsprop(0.1, centered=True), rmsprop(0.1)),
        (optax.rmsprop(0.1, centered=True), rmsprop(0.1, centered=True)),
        (BYTE, BYTE),
    ):
        state = jax.tree.map(lambda x: jax.device_put(x, host) if x.ndim else x, old.init(params))
        moved, report = checkpoint.adapt(state, new, params)
        for path, x in jax.tree_util.tree_leaves_with_path(moved):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            became = next(word for part, word in report.items() if name.startswith(part))
            assert x.sharding.memory_kind == ("pinned_host" if x.ndim and became == "continued" else "device")


def shapes_of(tx, params, layout):
    like = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)  # noqa: E731
    return jax.tree.map(like, jax.eval_shape(tx.init, params), layout)


def live():
    """Return how many bytes all arrays take, shards that several of them share counted once."""
    shards = {
        shard.data.unsafe_buffer_pointer(): shard.data.nbytes
        for x in jax.live_arrays()
        for shard in x.addressable_shards
    }
    return sum(shards.values())


def test_restore_to_shapes_makes_one_copy_and_none_of_what_is_in_place():
    params = {"w": jax.device_put(jnp.ones((64, 24)), NamedSharding(eight(), P("x")))}
    layout = state_shardings(BYTE, params)
    state = jax.jit(BYTE.init, out_shardings=layout)(params)
    loaded, target = jax.device_get(state), shapes_of(BYTE, params, layout)
    before = live()
    in_place = checkpoint.restore(target, state)
    assert live() == before
    assert same(in_place, state)
    made = checkpoint.restore(target, loaded)
    whole = sum(shard.data.nbytes for x in jax.tree.leaves(state) for shard in x.addressable_shards)
    assert 0 < live() - before <= whole
    assert same(made, state)
    assert shardings(made) == shardings(in_place) == layout


@every_optimizer
def test_restore_to_shapes_reads_a_state_straight_into_the_host_s_memory(name):
    tx, params = OPTIMIZERS[name], blocks(dtype=jnp.bfloat16)["block 0"]
    layout = layouts(tx, {"only": params})[1]["only"]
    state = jax.tree.map(np.asarray, tx.init(params))
    for loaded in (state, jax.tree.map(jnp.asarray, state)):
        restored = checkpoint.restore(shapes_of(tx, params, layout), loaded)
        assert same(restored, state)
        assert shardings(restored) == layout
