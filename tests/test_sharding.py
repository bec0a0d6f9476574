"""Eight devices: the state is born with the parameters' shardings, keeps them, and moves no data."""

import contextlib
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.memory import pinned_host
from kit.optimizers import OPTIONS, core_optimizers, every_optimizer, make
from kit.rows import rows
from kit.training import step
from kit.trees import same

from rmsprop_optax import checkpoint, compression, moments, rmsprop

SPECS = {"w": P("x", "y"), "b": P("y"), "t": P(None, "x"), "r": P(), "s": P()}
SHAPES = {"w": (8, 4), "b": (6,), "t": (3, 8), "r": (5,), "s": ()}
EXTRA = {"everything": {"weight_decay_mask": {"w": True, "b": False, "t": True, "r": False, "s": True}}}
COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"

every_mesh = pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])


def optimizer(name):
    return make(name, **EXTRA.get(name, {}))


def sharded(axis_type, dtype="float32", specs=SPECS, seed=0):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type, axis_type))
    rng = np.random.default_rng(seed)
    tree = {k: jnp.asarray(rng.normal(size=shape), dtype) for k, shape in SHAPES.items()}
    return mesh, {k: jax.device_put(x, NamedSharding(mesh, specs[k])) for k, x in tree.items()}


def assert_sharded_like(state, params):
    for name in moments.NAMES:
        for _, tree in optax.tree.get_all_with_path(state, name):
            for key, leaf in tree.items():
                assert leaf.sharding.is_equivalent_to(params[key].sharding, leaf.ndim), (name, key)


@core_optimizers
@every_mesh
@pytest.mark.parametrize(
    ("dtype", "in_mesh"),
    rows(itertools.product(["float32", "bfloat16"], [False, True]), [("float32", False), ("bfloat16", True)]),
)
def test_every_buffer_is_born_with_its_parameter_s_sharding_eagerly_and_compiled(name, axis_type, dtype, in_mesh):
    mesh, params = sharded(axis_type, dtype)
    tx = optimizer(name)
    with jax.set_mesh(mesh) if in_mesh else contextlib.nullcontext():
        for init in (tx.init, jax.jit(tx.init)):
            assert_sharded_like(init(params), params)


@every_optimizer
def test_eval_shape_of_init_carries_explicit_shardings(name):
    _, params = sharded(AxisType.Explicit)
    state = jax.eval_shape(optimizer(name).init, params)
    for tree_name in moments.NAMES:
        for _, tree in optax.tree.get_all_with_path(state, tree_name):
            for key, leaf in tree.items():
                assert leaf.sharding.spec == jax.typeof(params[key]).sharding.spec


@core_optimizers
@every_mesh
@pytest.mark.parametrize("param", rows(["float32", "bfloat16"], ["bfloat16"]))
def test_a_step_keeps_every_sharding_moves_no_data_and_is_traced_once(name, axis_type, param):
    _, params = sharded(axis_type, param)
    _, grads = sharded(axis_type, "float32", seed=1)
    tx, traces = optimizer(name), []
    advance = jax.jit(lambda p, s, g: (traces.append(1), step(tx, p, s, g))[1], donate_argnums=(0, 1))
    state = jax.jit(tx.init)(params)
    hlo = advance.lower(params, state, grads).compile().as_text()
    assert not re.search(COLLECTIVES, hlo)
    for _ in range(3):
        params, state = advance(params, state, grads)
        assert_sharded_like(state, params)
        assert all(params[key].sharding.is_equivalent_to(grads[key].sharding, params[key].ndim) for key in params)
    assert len(traces) <= 2  # an Explicit mesh is part of a counter's type from the first step on


@pytest.mark.parametrize("name", rows(OPTIONS, ["everything"]))
@every_mesh
def test_sharded_equals_one_device(name, axis_type):
    _, params = sharded(axis_type)
    tx = optimizer(name)
    alone = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), params)
    advance = jax.jit(lambda p, s, g: step(tx, p, s, g))
    ours, theirs = (params, jax.jit(tx.init)(params)), (alone, tx.init(alone))
    for seed in range(3):
        _, grads = sharded(axis_type, seed=seed)
        ours, theirs = advance(*ours, grads), advance(*theirs, jax.tree.map(np.asarray, grads))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-6, atol=1e-7)


WIDE = {"w": (64, 32), "b": (48,), "t": (24, 64), "r": (40,), "s": ()}


@pytest.mark.parametrize("name", rows(OPTIONS, ["corrected", "everything"]))
@every_mesh
def test_updates_and_states_are_those_of_one_device_bit_for_bit(name, axis_type):
    """In shards of more than a handful of elements: smaller ones jax 0.12 rounds otherwise, for optax too."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type, axis_type))
    split = lambda tree: {k: jax.device_put(x, NamedSharding(mesh, SPECS[k])) for k, x in tree.items()}  # noqa: E731
    tx, results = optimizer(name), []
    for place in (split, functools.partial(jax.tree.map, jnp.asarray)):
        trees = [
            {k: np.random.default_rng(seed).normal(size=shape).astype(np.float32) for k, shape in WIDE.items()}
            for seed in range(4)
        ]
        params, update = place(trees[0]), jax.jit(tx.update)
        state = jax.jit(tx.init)(params)
        for grads in trees[1:]:
            updates, state = update(place(grads), state, params)
        results.append((updates, state))
    assert same(*results)


@core_optimizers
def test_shard_map_equals_the_global_step_bit_for_bit(name):
    mesh, params = sharded(AxisType.Auto)
    tx = optimizer(name)
    state = tx.init(params)
    specs = optax.tree.map_params(tx, lambda _, spec: spec, state, SPECS, transform_non_params=lambda _: P())
    inside = jax.shard_map(
        lambda p, s, g: step(tx, p, s, g), mesh=mesh, in_specs=(SPECS, specs, SPECS), out_specs=(SPECS, specs)
    )
    assert same(
        jax.jit(inside)(params, state, params), jax.jit(lambda p, s, g: step(tx, p, s, g))(params, state, params)
    )


@core_optimizers
@every_mesh
def test_an_optimizer_state_sharded_by_itself_keeps_its_layout(name, axis_type):
    mesh, params = sharded(axis_type, specs=dict.fromkeys(SPECS, P()))
    tx = optimizer(name)
    by_rows = {k: NamedSharding(mesh, P("x") if SHAPES[k] and SHAPES[k][0] % 4 == 0 else P()) for k in SHAPES}
    state = optax.tree.map_params(tx, jax.device_put, tx.init(params), by_rows)
    if axis_type is AxisType.Explicit:  # where layouts are types, mixed ones are the caller's to resolve
        params = jax.tree.map(jax.device_put, params, by_rows)
    with jax.set_mesh(mesh):
        _, after = jax.jit(tx.update)(params, state, params)
    for name in moments.NAMES:
        before, now = (dict(optax.tree.get_all_with_path(tree, name)) for tree in (state, after))
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(now), strict=True):
            assert b.sharding.is_equivalent_to(a.sharding, b.ndim)


# counters: on the mesh that all parameters share, else free to follow what they are used with

COUNTING = {
    "corrected": make("corrected"),
    "schedules": make("everything", weight_decay_mask=None),
    "codes": compression.compressed(make("schedule"), nu=compression.RmsByte(), trace=compression.BFloat16()),
    "low halves": compression.with_master_weights(make("corrected"), low_bits=8),
    "no low halves": compression.with_master_weights(make("corrected"), low_bits=0),
}
every_count = pytest.mark.parametrize("name", rows(COUNTING, ["schedules", "codes"]))


def counters(state):
    """Return the counters of a state; the parameter of shape () has moments, which are floats."""
    return [x for x in jax.tree.leaves(state) if x.shape == () and x.dtype in (np.int32, np.uint32)]


@every_count
@every_mesh
def test_counters_of_an_eager_init_are_on_the_parameters_mesh(name, axis_type):
    mesh, params = sharded(axis_type)
    state = COUNTING[name].init(params)
    assert [x.sharding for x in counters(state)] == [NamedSharding(mesh, P())] * len(counters(state))
    assert counters(state)
    shardings = jax.tree.map(lambda x: x.sharding, (params, state))
    jax.jit(lambda p, s: (p, s), in_shardings=shardings).lower(params, state)
    compiled = jax.jit(COUNTING[name].init)(params)
    assert same(compiled, state)


@every_count
def test_counters_are_uncommitted_where_the_parameters_share_no_mesh(name):
    tx, (mesh, params) = COUNTING[name], sharded(AxisType.Auto)
    one, two = jax.devices()[:2]
    elsewhere = jax.make_mesh((2,), ("z",), axis_types=(AxisType.Auto,))
    for others in (
        {"w": jax.device_put(params["w"], one), "b": jax.device_put(params["b"], two)},
        {"w": params["w"], "b": jax.device_put(params["b"], NamedSharding(elsewhere, P("z")))},
        {"w": jax.device_put(params["w"], one)},
        {"w": params["w"], "b": jax.ShapeDtypeStruct((2,), jnp.float32)},
        {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32, sharding=NamedSharding(mesh.abstract_mesh, P("x")))},
    ):
        assert not any(x.committed for x in counters(tx.init(others)))


def test_leaves_on_two_devices_are_updated_eagerly():
    params = {key: jax.device_put(jnp.ones(3), device) for key, device in zip("ab", jax.devices(), strict=False)}
    tx = make("schedule", bias_correction=True)
    updates, state = tx.update(params, tx.init(params), params)
    assert [updates[key].devices() for key in params] == [params[key].devices() for key in params]
    tx.update(params, state, params)


@every_count
def test_counters_are_never_in_the_host_s_memory(name):
    sharding = pinned_host(mesh=True)
    state = COUNTING[name].init({"w": jax.device_put(jnp.ones((4, 2)), sharding)})
    assert {x.sharding for x in counters(state)} == {NamedSharding(sharding.mesh, P())}


@every_count
@every_mesh
def test_restore_leaves_counters_on_the_mesh(name, axis_type):
    mesh, params = sharded(axis_type)
    tx = COUNTING[name]
    eager, compiled = tx.init(params), jax.jit(tx.init)(params)
    for loaded in (compiled, jax.tree.map(np.asarray, compiled), jax.tree.map(jnp.asarray, jax.device_get(compiled))):
        restored = checkpoint.restore(eager, loaded)
        assert {x.sharding for x in counters(restored)} == {NamedSharding(mesh, P())}


def test_restore_leaves_a_wrapper_s_counters_where_they_are_loaded():
    mesh, params = sharded(AxisType.Auto)
    tx = optax.MultiSteps(rmsprop(0.1), 2)
    eager, compiled = tx.init(params), jax.jit(tx.init, out_shardings=NamedSharding(mesh, P()))(params)
    assert not eager.mini_step.committed
    assert checkpoint.restore(eager, compiled).mini_step.sharding == NamedSharding(mesh, P())
    assert not checkpoint.restore(eager, jax.device_get(compiled)).mini_step.committed
    alone = jax.device_put(compiled, jax.devices()[0])
    assert not checkpoint.restore(eager, alone).mini_step.committed


@pytest.mark.full
def test_centered_states_are_converted_shard_by_shard():
    """So that no process needs to hold an array whole."""
    _, params = sharded(AxisType.Auto)
    theirs, ours = optax.rmsprop(0.1, centered=True), rmsprop(0.1, centered=True)
    _, old = theirs.update(params, theirs.init(params))
    read = checkpoint.from_optax(old)["variance"]
    assert all(read[key].sharding == params[key].sharding for key in ("w", "b", "t"))  # the others are replicated
    state, _ = checkpoint.adapt(old, ours, params)
    back, _ = checkpoint.adapt(state, theirs, params)
    uncentered, _ = checkpoint.adapt(state, rmsprop(0.1), params)
    for tree in (state[0].variance, optax.tree.get(back, "nu"), uncentered[0].nu):
        assert all(tree[key].sharding == params[key].sharding for key in params)
    alone, _ = checkpoint.adapt(jax.device_get(old), ours, jax.device_get(params))
    assert same(state, alone)
