"""bfloat16 parameters that train as float32 ones do, bit for bit, and the two cheaper choices."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from kit import training
from kit.memory import pinned_host
from kit.storing import through_msgpack, through_orbax, through_pickle
from kit.training import train
from kit.trees import same

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import (
    MasterWeightsState,
    RmsByte,
    compressed,
    export_weights,
    import_weights,
    with_master_weights,
)

BYTE = compressed(rmsprop(1e-2), nu=RmsByte())
WEIGHTS = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32), "b": jnp.zeros(5, jnp.float32)}
BF16 = jax.tree.map(lambda w: w.astype(jnp.bfloat16), WEIGHTS)
MIXED = {"w": BF16["w"], "b": WEIGHTS["b"]}
INNER = {
    "plain": rmsprop(1e-2),
    "byte": BYTE,
    "decay": rmsprop(1e-2, momentum=0.9, weight_decay=0.1),
    "sgd": optax.sgd(1e-2, momentum=0.9),
}


def gradients(steps):
    return training.gradients(steps, WEIGHTS, seed=1, dtype=jnp.bfloat16)


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_with_sixteen_bits_it_is_the_float32_run_bit_for_bit(inner):
    tx, grads = with_master_weights(inner), gradients(50)
    params, state = import_weights(WEIGHTS, BF16, tx.init(BF16))
    assert same(export_weights(params, state), WEIGHTS)
    params, state = train(tx, grads, params, state)
    wide = [jax.tree.map(lambda g: g.astype(jnp.float32), g) for g in grads]
    expected, inner_state = train(inner, wide, WEIGHTS)
    assert same(export_weights(params, state), expected)
    assert same(state.inner_state, inner_state)
    nearest = jax.tree.map(lambda w, p: np.abs(w - p.astype(jnp.float32)) <= 2.0**-8 * np.abs(w), expected, params)
    assert jax.tree.all(jax.tree.map(np.all, nearest))


def test_any_pair_of_weights_lands_exactly():
    """65,536 pairs: random bits, and steps of every relative size down to the last place."""
    rng = np.random.default_rng(2)
    start = rng.integers(0, 2**32, 2**16, dtype=np.uint32).view(np.float32)
    start = np.where(np.isfinite(start) & (np.abs(start) > 1e-30) & (np.abs(start) < 1e37), start, np.float32(1))
    ratio = 1 + rng.choice([-1, 1], 2**16) * 2.0 ** rng.uniform(-24, 0, 2**16)
    goal = (start * ratio).astype(np.float32)
    goal = np.where(np.abs(goal / start) > 2.0**-15, goal, start)
    tx = with_master_weights(optax.stateless(lambda steps, params: jax.tree.map(jnp.subtract, steps, params)))
    low = jnp.asarray(start).astype(jnp.bfloat16)
    params, state = import_weights(start, low, tx.init(low))
    assert same(export_weights(params, state), start)
    updates, state = jax.jit(tx.update)(goal, state, params)
    reached = start + (goal - start)  # what a float32 run would have: goal to a rounding
    assert same(export_weights(optax.apply_updates(params, updates), state), reached)


@pytest.mark.parametrize(("low_bits", "low", "total"), [(16, "int16", 5), (8, "int8", 4), (0, None, 3)])
def test_bytes_a_parameter_are_counted_from_the_arrays(low_bits, low, total):
    tx = with_master_weights(BYTE, low_bits=low_bits)
    params = {"w": jnp.ones((64, 32), jnp.bfloat16), "b": jnp.ones(32, jnp.bfloat16)}
    params, state = train(tx, [params] * 2, params)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves((params, state)) if leaf.ndim) / size == total
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(getattr(state, "low", ()))} == ({low} if low else set())


@pytest.mark.parametrize(("low_bits", "error"), [(16, 2e-4), (8, 2e-4), (0, 0.015)])
def test_steps_far_below_what_bfloat16_resolves_add_up(low_bits, error):
    tx = with_master_weights(optax.sgd(1e-4), low_bits=low_bits)
    params, state = train(tx, [jnp.ones(2000, jnp.bfloat16)] * 1000, jnp.ones(2000, jnp.bfloat16))
    weights = np.asarray(export_weights(params, state), np.float64)
    assert abs(weights.mean() - 0.9) < error / 10
    assert np.abs(weights - 0.9).max() < 6 * error
    rounded, _ = train(optax.sgd(1e-4), [jnp.ones(1, jnp.bfloat16)] * 1000, jnp.ones(1, jnp.bfloat16))
    assert rounded == 1  # without


@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_parameters_in_float32_are_left_as_they_are(low_bits):
    tx = with_master_weights(rmsprop(1e-2), low_bits=low_bits)
    grads = [jax.tree.map(lambda g: g.astype(jnp.float32), g) for g in gradients(5)]
    params, state = train(tx, grads, WEIGHTS)
    expected, _ = train(rmsprop(1e-2), grads, WEIGHTS)
    assert same(params, expected)
    mixed, state = train(tx, gradients(3), MIXED)
    assert [leaf.dtype for leaf in jax.tree.leaves(mixed)] == [jnp.float32, jnp.bfloat16]
    assert same(export_weights(mixed, state)["b"], mixed["b"])


@pytest.mark.parametrize(("low_bits", "fields", "dtype"), [(16, 2, "int16"), (8, 3, "int8"), (0, 2, None)])
def test_a_state_has_the_fields_in_use_and_low_halves_the_shapes_of_the_parameters(low_bits, fields, dtype):
    state = with_master_weights(optax.sgd(0.1), low_bits=low_bits).init(MIXED)
    assert len(state._fields) == fields
    assert None not in state
    if low_bits:
        assert jax.tree.map(lambda x: (x.shape, str(x.dtype)), state.low) == {
            "w": (BF16["w"].shape, dtype),
            "b": (WEIGHTS["b"].shape, "bool"),
        }


@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_the_shardings_of_a_state_follow_from_those_of_the_parameters(low_bits):
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    tx = with_master_weights(compressed(rmsprop(optax.constant_schedule(0.1)), nu=RmsByte()), low_bits=low_bits)
    params = {"w": MIXED["w"], "b": jnp.ones(4), "s": jnp.ones((), jnp.bfloat16)}
    places = {"w": NamedSharding(mesh, PartitionSpec("x")), "b": NamedSharding(mesh, PartitionSpec("x"))}
    places["s"] = nowhere = NamedSharding(mesh, PartitionSpec())
    shapes = jax.eval_shape(tx.init, params)
    shardings = optax.tree.map_params(tx, lambda _, s: s, shapes, places, transform_non_params=lambda _: nowhere)
    state = jax.jit(tx.init, out_shardings=shardings)(jax.device_put(params, places))
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, shapes)
    for _, tree in [(None, getattr(state, "low", {})), *optax.tree.get_all_with_path(state, "nu")]:
        assert all(leaf.sharding.is_equivalent_to(places[name], leaf.ndim) for name, leaf in tree.items())


@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_the_count_of_a_schedule_is_the_only_one(low_bits):
    tx = with_master_weights(compressed(rmsprop(optax.constant_schedule(0.1)), nu=RmsByte()), low_bits=low_bits)
    _, state = train(tx, gradients(3), BF16)
    assert optax.tree.get(state, "count") == 3


@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_python_numbers_are_float32_parameters(low_bits):
    tx = with_master_weights(rmsprop(0.1), low_bits=low_bits)
    params = {"w": jnp.ones(2, jnp.bfloat16), "b": 0.5}
    updates, state = tx.update({"w": jnp.ones(2, jnp.bfloat16), "b": 1.0}, tx.init(params), params)
    moved = optax.apply_updates(params, updates)
    expected, _ = rmsprop(0.1).update(1.0, rmsprop(0.1).init(0.5))
    assert moved["b"] == 0.5 + expected
    assert export_weights(moved, state)["b"] == moved["b"]
    assert import_weights({"w": jnp.ones(2), "b": 0.25}, params, state)[0]["b"] == 0.25


@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_init_takes_shapes_for_parameters(low_bits):
    tx = with_master_weights(BYTE, low_bits=low_bits)
    shapes = jax.eval_shape(lambda: MIXED)
    assert jax.eval_shape(tx.init, shapes) == jax.eval_shape(tx.init, MIXED)
    assert same(tx.init(shapes), tx.init(MIXED))


@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_a_none_gradient_leaves_the_parameter_and_its_low_half_alone(low_bits):
    tx = with_master_weights(BYTE, low_bits=low_bits)
    params, state = train(tx, gradients(3), BF16)
    updates, after = tx.update(gradients(1)[0] | {"b": None}, state, params)
    moved = optax.apply_updates(params, updates)
    before, now = export_weights(params, state), export_weights(moved, after)
    assert same(now["b"], before["b"])
    assert not same(now["w"], before["w"])


def plus(params, updates):
    return jax.tree.map(lambda p, u: p + u, params, updates)


def equinox_apply(params, updates):
    return pytest.importorskip("equinox").apply_updates(params, updates)


@pytest.mark.parametrize("add", [plus, equinox_apply])
@pytest.mark.parametrize("low_bits", [16, 8])
def test_a_parameter_that_a_sum_has_promoted_is_refused_with_the_reason(low_bits, add):
    tx = with_master_weights(BYTE, low_bits=low_bits)
    first, second = gradients(2)
    updates, state = tx.update(first, tx.init(BF16), BF16)
    promoted = add(BF16, updates)
    reason = r"`params` at b were bfloat16 at init and are float32 now: .* promotes. .* optax.apply_updates"
    with pytest.raises(TypeError, match=reason):
        tx.update(second, state, promoted)
    with pytest.raises(TypeError, match=reason):
        export_weights(promoted, state)


@pytest.mark.parametrize("add", [plus, equinox_apply, optax.apply_updates])
def test_with_zero_bits_any_sum_lands_on_the_same_parameter(add):
    tx = with_master_weights(BYTE, low_bits=0)
    (params, state), expected = (BF16, tx.init(BF16)), train(tx, gradients(20), BF16)
    for g in gradients(20):
        updates, state = jax.jit(tx.update)(g, state, params)
        params = add(params, updates)
    assert same((params, state), expected)


def test_with_zero_bits_steps_as_large_as_the_weights_land_close_and_right_on_average():
    rng = np.random.default_rng(3)
    start = jnp.asarray(rng.normal(size=20_000), jnp.bfloat16)
    steps = jnp.asarray(rng.normal(size=20_000), jnp.float32)
    tx = with_master_weights(optax.stateless(lambda updates, params: steps), low_bits=0)
    updates, _ = tx.update(start, tx.init(start), start)
    landed = np.asarray(optax.apply_updates(start, updates), np.float64)
    weights = np.asarray(start, np.float64) + np.asarray(steps, np.float64)
    error = landed - weights
    assert (np.abs(error) <= 2.0**-7 * (np.abs(weights) + np.abs(np.asarray(steps)))).all()
    assert abs(error.mean()) < 4 * error.std() / len(error) ** 0.5


def rejecting(tx):
    return optax.apply_if_finite(tx, max_consecutive_errors=5)


def either(tx):
    """Return a transformation that skips a step by `jax.lax.cond`."""

    def update(updates, state, params):
        finite = jnp.isfinite(updates["b"]).all()
        skipped = jax.tree.map(jnp.zeros_like, updates), state
        return jax.lax.cond(finite, lambda: tx.update(updates, state, params), lambda: skipped)

    return optax.GradientTransformation(tx.init, update)


@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_steps_that_are_not_finite_are_rejected_inside_it(low_bits):
    tx = with_master_weights(rejecting(rmsprop(1e-2)), low_bits=low_bits)
    params, state = train(tx, gradients(3), BF16)
    updates, after = tx.update(gradients(1)[0] | {"b": jnp.full(5, jnp.nan, jnp.bfloat16)}, state, params)
    moved = optax.apply_updates(params, updates)
    assert same(export_weights(moved, after), export_weights(params, state))


@pytest.mark.parametrize("around", [rejecting, either])
@pytest.mark.parametrize(("low_bits", "dtype"), [(16, jnp.float32), (8, jnp.float32), (0, jnp.bfloat16)], ids=str)
def test_steps_are_rejected_around_it_where_gradients_have_the_dtype_of_updates(low_bits, dtype, around):
    tx = with_master_weights(rmsprop(1e-2), low_bits=low_bits)
    grads = [jax.tree.map(lambda g: g.astype(dtype), g) for g in gradients(3)]
    params, _ = train(around(tx), grads, BF16)
    assert same(params, train(tx, grads, BF16)[0])


@pytest.mark.parametrize("around", [rejecting, either])
@pytest.mark.parametrize("low_bits", [16, 8])
def test_around_it_with_bfloat16_gradients_a_choice_of_updates_is_refused_at_once(low_bits, around):
    tx = around(with_master_weights(rmsprop(1e-2), low_bits=low_bits))
    with pytest.raises(TypeError, match="float32"):
        tx.update(gradients(1)[0], tx.init(BF16), BF16)


@pytest.mark.parametrize("goal", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("low_bits", [16, 8, 0])
def test_what_is_not_finite_reaches_the_parameter_and_no_other_element(goal, low_bits):
    step = jnp.array([goal, 1.0], jnp.float32)
    tx = with_master_weights(optax.stateless(lambda steps, params: step), low_bits=low_bits)
    params = jnp.ones(2, jnp.bfloat16)
    updates, state = tx.update(params, tx.init(params), params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params.astype(jnp.float32), [goal, 2.0])
    np.testing.assert_array_equal(export_weights(params, state), [goal, 2.0])


def test_weights_at_the_ends_of_the_range_stay_in_it():
    params = jnp.array([1e38, -1e38, 1e-30], jnp.bfloat16)
    largest = float(jnp.finfo(jnp.bfloat16).max)
    tx = with_master_weights(optax.stateless(lambda s, p: jnp.array([3.4e38, -3.4e38, 1e-39], jnp.float32) - p))
    updates, state = tx.update(params, tx.init(params), params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params[:2].astype(jnp.float32), [largest, -largest])
    assert np.isfinite(export_weights(params, state)).all()


@pytest.mark.full
def test_a_scan_and_vmap_equal_loops_bit_for_bit():
    tx, grads = with_master_weights(BYTE, low_bits=8), gradients(4)

    def step(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads)
    run = jax.jit(lambda params: jax.lax.scan(step, (params, tx.init(params)), stacked)[0])
    looped = train(tx, grads, BF16)
    assert same(run(BF16), looped)
    pair = jax.tree.map(lambda p: jnp.stack([p, p]), BF16)
    for i in range(2):
        assert same(jax.tree.map(lambda leaf, i=i: leaf[i], jax.vmap(run)(pair)), looped)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("low_bits", [16, 0])
def test_eight_devices_make_the_bits_of_one_and_no_collective(kind, low_bits):
    tx = with_master_weights(BYTE, low_bits=low_bits)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    places = {"w": NamedSharding(mesh, PartitionSpec("x", "y")), "b": NamedSharding(mesh, PartitionSpec())}

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    run, one, many = jax.jit(step), BF16, jax.device_put(BF16, places)
    state, sharded = tx.init(one), jax.jit(tx.init)(many)
    if low_bits:
        assert sharded.low["w"].sharding.is_equivalent_to(places["w"], 2)
    for g in gradients(3):
        one, state = run(one, state, g)
        many, sharded = run(many, sharded, jax.device_put(g, places))
    assert same((one, state), jax.device_get((many, sharded)))
    text = run.lower(many, sharded, jax.device_put(g, places)).compile().as_text()
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in text


@pytest.mark.parametrize("through", [through_pickle, through_msgpack, through_orbax])
def test_a_restored_state_resumes_bit_for_bit(through, tmp_path):
    tx, grads = with_master_weights(BYTE, low_bits=8), gradients(6)
    whole = train(tx, grads, MIXED)
    params, state = train(tx, grads[:3], MIXED)
    restored = through(state, tx.init(params), tmp_path)
    assert same(restored, state)
    assert same(train(tx, grads[3:], params, restored), whole)


@pytest.mark.full
def test_nnx_trains_bfloat16_parameters_with_it():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    optimizer = nnx.Optimizer(model, with_master_weights(BYTE), wrt=nnx.Param)
    loss = lambda model: jnp.mean((model(jnp.ones((4, 3))).astype(jnp.float32) - 1) ** 2)  # noqa: E731

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    before = loss(model)
    for _ in range(20):
        step(model, optimizer)
    assert model.kernel[...].dtype == jnp.bfloat16
    assert loss(model) < before / 2


def test_a_linen_train_state_lands_on_the_weights_of_a_float32_run():
    train_state = pytest.importorskip("flax.training.train_state")
    tx, grads = rmsprop(1e-2), gradients(20)
    state = train_state.TrainState.create(apply_fn=None, params=BF16, tx=with_master_weights(tx))
    for g in grads:
        state = state.apply_gradients(grads=g)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(jnp.bfloat16)}
    wide = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)  # noqa: E731
    expected, _ = train(tx, [wide(g) for g in grads], wide(BF16))
    assert same(export_weights(state.params, state.opt_state), expected)


def test_import_is_the_way_back_from_export_inside_a_larger_state():
    tx = optax.chain(with_master_weights(rmsprop(1e-2)))
    params, state = train(tx, gradients(3), BF16)
    weights = export_weights(params, state)
    fresh, loaded = import_weights(weights, BF16, tx.init(BF16))
    assert same(fresh, params)
    assert same(export_weights(fresh, loaded), weights)
    eight = with_master_weights(rmsprop(1e-2), low_bits=8)
    rough, loaded = import_weights(weights, BF16, eight.init(BF16))
    np.testing.assert_allclose(export_weights(rough, loaded)["w"], weights["w"], rtol=2.0**-16)


def test_it_is_a_value():
    tx = with_master_weights(rmsprop(0.1))
    assert tx == with_master_weights(rmsprop(0.1), low_bits=16)
    assert tx != with_master_weights(rmsprop(0.1), low_bits=8)
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert repr(tx).startswith("with_master_weights(tx=rmsprop(learning_rate=0.1")


@pytest.mark.parametrize("bad", [7, 32, None, True, "8"])
def test_other_numbers_of_bits_are_refused(bad):
    with pytest.raises(ValueError, match="`low_bits` must be 16, 8 or 0"):
        with_master_weights(rmsprop(0.1), low_bits=bad)


def test_what_is_no_transformation_is_refused():
    with pytest.raises(TypeError, match="`tx` must be an optax transformation"):
        with_master_weights(0.1)


def test_parameters_are_needed_and_float16_and_integers_are_refused():
    tx = with_master_weights(rmsprop(0.1))
    with pytest.raises(ValueError, match="`params` must be passed to update"):
        tx.update(BF16, tx.init(BF16))
    with pytest.raises(TypeError, match="`params` at w must be bfloat16, or float32 or better, got float16"):
        tx.init({"w": jnp.ones(2, jnp.float16)})
    with pytest.raises(TypeError, match="`params` at w must be a floating-point or complex array, got int32"):
        tx.init({"w": jnp.arange(2)})


def test_a_state_that_does_not_fit_is_refused():
    tx, eight = with_master_weights(rmsprop(0.1)), with_master_weights(rmsprop(0.1), low_bits=8)
    state, g = tx.init(BF16), gradients(1)[0]
    with pytest.raises(TypeError, match=r"`state` must be the MasterWeightsState that init made, got builtins\.tuple"):
        tx.update(g, state.inner_state, BF16)
    with pytest.raises(TypeError, match="`state` was made with low_bits=8, this transformation has low_bits=16"):
        tx.update(g, eight.init(BF16), BF16)
    with pytest.raises(TypeError, match=r"`state.low` at b must be int16, or bool for no low half, got int8"):
        tx.update(g, state._replace(low=eight.init(BF16).low), BF16)
    with pytest.raises(TypeError, match="`params` at b were float32 or better at init and are bfloat16 now"):
        tx.update(g, tx.init(WEIGHTS), BF16)
    with pytest.raises(ValueError, match="`params` must have the structure"):
        tx.update({"w": g["w"]}, state, {"w": BF16["w"]})
    with pytest.raises(ValueError, match=r"`params` at b has shape \(3,\), but `state.low` there has shape \(5,\)"):
        tx.update(g, state, BF16 | {"b": jnp.ones(3, jnp.bfloat16)})
    with pytest.raises(ValueError, match=r"`updates` at b has shape \(3,\)"):
        tx.update(g | {"b": jnp.ones(3)}, state, BF16)


def test_weights_are_exported_from_one_state_only():
    tx = with_master_weights(rmsprop(0.1))
    assert isinstance(tx.init(BF16), MasterWeightsState)
    for state, found in ((rmsprop(0.1).init(BF16), 0), ((tx.init(BF16),) * 2, 2)):
        with pytest.raises(ValueError, match=f"`state` must hold one state of with_master_weights, got {found}"):
            export_weights(BF16, state)


@pytest.mark.parametrize("low_bits", [16, 8, 0])
@pytest.mark.parametrize("mesh", [False, True], ids=["one device", "a mesh"])
def test_what_init_makes_for_parameters_in_the_host_s_memory_is_there_too(low_bits, mesh):
    place, tx = pinned_host(mesh), with_master_weights(BYTE, low_bits=low_bits)
    params = jax.device_put(MIXED, place)
    state = tx.init(params)
    for leaf in jax.tree.leaves((state.inner_state.inner_state, getattr(state, "low", ()))):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
    weights = export_weights(params, state)
    for leaf in jax.tree.leaves((weights, import_weights(weights, params, state)[0])):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
    assert same(jax.device_get(state), tx.init(MIXED))
