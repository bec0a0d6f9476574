"""Restoring: moments are found by name in any chain, everything is checked, and a run moves to other options."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from kit.storing import by_path
from kit.two_leaves import PARAMS, gradients, make, stepped, train

from rmsprop_optax import checkpoint, rmsprop, scale_by_rms

OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "centered with momentum": {"centered": True, "momentum": 0.9},
    "bias-corrected": {"bias_correction": True},
    "scheduled": {"learning_rate": stepped, "momentum": 0.9, "lr_in_momentum": False},
    "decayed": {"learning_rate": stepped, "momentum": 0.9, "weight_decay": 0.1},
}
MASK = {"w": True, "b": False}


def injected(**options):
    return optax.inject_hyperparams(rmsprop, hyperparam_dtype=jnp.float32)(**({"learning_rate": 0.01} | options))


WRAPPED = {
    "alone": make,
    "chained": lambda **o: optax.chain(optax.clip(10.0), make(**o), optax.identity()),
    "masked": lambda **o: optax.masked(make(**o), MASK),
    "partitioned": lambda **o: optax.partition({"a": make(**o), "b": make(**o)}, {"w": "a", "b": "b"}),
    "beside Adam": lambda **o: optax.partition({"a": make(**o), "b": optax.adam(0.1)}, {"w": "a", "b": "b"}),
    "accumulated": lambda **o: optax.MultiSteps(make(**o), 1).gradient_transformation(),
    "injected": injected,
    "if finite": lambda **o: optax.apply_if_finite(make(**o), 3),
}


def plain_moments(state):
    """Put the moments of a state into plain trees with optax's own functions, not with ours."""
    moments = {}
    for name in ("nu", "variance", "mu", "trace"):
        for path, tree in optax.tree.get_all_with_path(state, name):
            owners = [getattr(key, "tuple_name", "") for key in path]
            if tree is not None and "ScaleByAdamState" not in owners:
                leaves = {key: leaf for key, leaf in tree.items() if not isinstance(leaf, optax.MaskedNode)}
                moments[name] = moments.get(name, {}) | leaves
    counts = [c for path, c in optax.tree.get_all_with_path(state, "count") if c is not None and not callable(c)]
    return moments | ({"count": int(counts[0])} if counts else {})


ROUNDS = [("alone", option) for option in OPTIONS] + [(wrapped, "decayed") for wrapped in WRAPPED if wrapped != "alone"]


@pytest.mark.parametrize(("wrapped", "option"), [*ROUNDS, ("partitioned", "centered with momentum")])
def test_a_state_filled_by_name_goes_on_bit_for_bit_in_any_chain(wrapped, option):
    tx, grads = WRAPPED[wrapped](**OPTIONS[option]), gradients(6)
    update = jax.jit(tx.update)
    params, state, saved = PARAMS, tx.init(PARAMS), None
    for t, g in enumerate(grads):
        if t == 3:
            saved, middle = jax.tree.map(np.array, plain_moments(state)), (params, state)
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)

    goes_on, whole = (checkpoint.restore(tx.init(PARAMS), source) for source in (saved, middle[1]))
    chex.assert_trees_all_equal(whole, middle[1])
    if wrapped != "beside Adam":  # whose own moments are not in `saved`
        for name in ("nu", "variance", "mu", "trace", "count"):
            chex.assert_trees_all_equal(get_all(goes_on, name), get_all(middle[1], name))
    again = middle[0]
    for g in grads[3:]:
        updates, whole = update(g, whole, again)
        again = optax.apply_updates(again, updates)
    chex.assert_trees_all_equal((again, whole), (params, state))


def get_all(state, name):
    return optax.tree.get_all_with_path(state, name)


def test_only_the_moments_of_rmsprop_are_touched_beside_another_optimizer():
    branches = {"a": make(momentum=0.9), "b": optax.chain(optax.scale_by_adam(), optax.trace(0.9))}
    tx = optax.partition(branches, {"w": "a", "b": "b"})
    ones = {"w": np.full((2, 3), 1.0, np.float32)}
    state = checkpoint.restore(tx.init(PARAMS), {"nu": ones, "trace": ones, "lr_in_momentum": True})
    ours, theirs = state.inner_states["a"].inner_state, state.inner_states["b"]
    assert np.array_equal(ours[0].nu["w"], ones["w"])
    assert np.array_equal(ours[2].trace["w"], ones["w"])
    chex.assert_trees_all_equal(theirs, tx.init(PARAMS).inner_states["b"])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_fields_that_a_reader_returned_without_types_are_found(options):
    serialization = pytest.importorskip("flax.serialization")
    tx = make(**options)
    _, state = train(tx, gradients(3))
    for untyped in (serialization.to_state_dict(state), [e._asdict() for e in state], by_path(state)):
        chex.assert_trees_all_equal(checkpoint.restore(tx.init(PARAMS), untyped), state)


def test_what_was_given_stays_as_it_was_and_shares_no_buffer():
    tx = make(momentum=0.9)
    _, state = train(tx, gradients(3))
    fresh = tx.init(PARAMS)
    numbers = {"nu": jax.tree.map(np.array, state[0].nu), "trace": jax.tree.map(np.array, state[2].trace)}
    copies, before = jax.tree.map(np.copy, (numbers, state, fresh)), (numbers, state, fresh)
    step = jax.jit(tx.update, donate_argnums=1)
    for source in (numbers, state):
        step(gradients(1)[0], checkpoint.restore(fresh, source))
    step(gradients(1)[0], checkpoint.adapt(state, make(momentum=0.9, learning_rate=0.5), PARAMS)[0])
    chex.assert_trees_all_equal(copies, jax.tree.map(np.asarray, before))


def test_the_state_lands_where_init_put_it_and_a_scalar_stays_free_to_move():
    mesh = jax.make_mesh((4,), ("x",))
    sharding = NamedSharding(mesh, P("x"))
    params = jax.device_put({"w": jnp.zeros((8, 2))}, sharding)
    moments = {"w": np.arange(16, dtype=np.float32).reshape(8, 2)}
    state = checkpoint.restore(make(centered=True).init(params), {"variance": moments, "mu": moments})
    assert state[0].variance["w"].sharding == state[0].mu["w"].sharding == sharding
    assert np.array_equal(state[0].variance["w"], moments["w"])
    assert not checkpoint.restore(make().init(PARAMS), make().init(PARAMS))[0].nu["w"].committed


def test_an_abstract_state_is_filled_where_it_says():
    sharding = NamedSharding(jax.make_mesh((2,), ("x",)), P("x"))
    like = jax.eval_shape(make().init, {"w": jnp.zeros((4, 2))})
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like)
    assert checkpoint.restore(like, {"nu": {"w": np.ones((4, 2), np.float32)}})[0].nu["w"].sharding == sharding


def test_narrower_moments_widen_exactly():
    half = {"w": jnp.full((2, 3), 0.1, jnp.bfloat16), "b": jnp.full((3,), 0.1, jnp.bfloat16)}
    state = checkpoint.restore(make().init(PARAMS), {"nu": half})
    assert state[0].nu["w"].dtype == jnp.float32
    assert np.array_equal(state[0].nu["w"], np.asarray(half["w"], np.float32))


def test_the_order_of_learning_rate_and_momentum_is_read_off_the_chain_unless_left_out():
    own = optax.chain(scale_by_rms(), optax.clip(1.0), optax.trace(0.9), optax.scale(-0.1))  # looks as if inside
    ones = jax.tree.map(np.ones_like, PARAMS)
    moments = {"nu": ones, "trace": ones}
    with pytest.raises(ValueError, match="take `lr_in_momentum` out"):
        checkpoint.restore(own.init(PARAMS), moments | {"lr_in_momentum": False})
    chex.assert_trees_all_equal(checkpoint.restore(own.init(PARAMS), moments)[2].trace, ones)
    outside = optax.chain(scale_by_rms(), optax.trace(0.9), optax.scale(-0.1))
    checkpoint.restore(outside.init(PARAMS), moments | {"lr_in_momentum": False})


def test_flax_nnx_keeps_its_optimizer_and_its_containers():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, make(**OPTIONS["scheduled"]), wrt=nnx.Param)
    nu = {"kernel": np.full((2, 3), 4.0, np.float32), "bias": np.full(3, 4.0, np.float32)}
    trace = jax.tree.map(np.zeros_like, nu)
    state = checkpoint.restore(optimizer.opt_state, {"nu": nu, "trace": trace, "count": 7})
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.opt_state)
    optimizer.opt_state = state
    before = jax.tree.leaves(nnx.state(model, nnx.Param))
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    rule, _, schedule = optimizer.opt_state
    assert jax.tree.leaves(schedule) == [8]
    for leaf in jax.tree.leaves(rule):
        np.testing.assert_allclose(leaf, np.full(leaf.shape, 3.6), rtol=1e-6)
    chex.assert_trees_all_equal(jax.tree.leaves(nnx.state(model, nnx.Param)), before)
    chex.assert_trees_all_equal(checkpoint.restore(optimizer.opt_state, optimizer.opt_state), optimizer.opt_state)
