"""Every optimizer x every contract: jax's transformations, optax's wrappers, jax's flags, and ways to store a state."""

import functools
import itertools
import re
import threading

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from kit.optimizers import CORE, OPTIONS, core_optimizers, every_optimizer, make
from kit.rows import rows
from kit.storing import through_msgpack, through_orbax, through_pickle, through_state_dict
from kit.training import PARAMS, at, gradients, scan, step, train
from kit.trees import furthest, same, types

from rmsprop_optax import moments, rmsprop

STACKED = gradients(1, jax.tree.map(lambda p: jnp.zeros((6, *p.shape)), PARAMS))[0]
GRADS = [at(STACKED, i) for i in range(6)]


# jax's transformations


@core_optimizers
def test_compiled_equals_eager(name):
    assert furthest(train(make(name), GRADS), train(make(name), GRADS, jit=False)) <= 1e-6


@core_optimizers
def test_loops_and_branches_equal_separate_steps(name):
    tx = make(name)
    start = (PARAMS, tx.init(PARAMS))
    body = lambda i, carry: step(tx, *carry, at(STACKED, i))  # noqa: E731
    loops = {
        "scan": lambda c: jax.lax.scan(lambda c, g: (step(tx, *c, g), None), c, STACKED)[0],
        "fori": lambda c: jax.lax.fori_loop(0, 6, body, c),
        "while": lambda c: jax.lax.while_loop(lambda ic: ic[0] < 6, lambda ic: (ic[0] + 1, body(*ic)), (0, c))[1],
        "cond": lambda c: functools.reduce(
            lambda c, i: jax.lax.cond(i < 6, lambda c: body(i, c), lambda c: c, c), range(6), c
        ),
    }
    expected = train(tx, GRADS)
    for loop in loops.values():
        ended = jax.jit(loop)(start)
        assert types(ended) == types(start)
        assert furthest(ended, expected) <= 1e-6


NUMBERS = {
    "learning_rate": [0.01, 0.5, 0.0],
    "decay": [0.9, 0.0, 0.999],
    "eps": [1e-8, 0.0, 1.0],
    "initial_scale": [0.0, 1.0, 1e-3],
    "momentum": [0.9, 0.0, 0.5],
    "weight_decay": [0.1, 0.0, 1.0],
}


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"eps_in_sqrt": False, "lr_in_momentum": False}, marks=pytest.mark.full),
        pytest.param({"centered": True, "eps": 1e-2}, marks=pytest.mark.full),
        pytest.param({"average_momentum": True}, marks=pytest.mark.full),
    ],
)
def test_any_number_can_be_a_vmapped_axis(number, options):
    if number == "eps" and "centered" in options:
        pytest.skip("without eps the first centered steps divide by what rounding left of the variance")
    options = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.1} | options
    run = lambda value: scan(rmsprop(**(options | {number: value})), STACKED)  # noqa: E731
    together, alone = jax.jit(jax.vmap(run))(jnp.array(NUMBERS[number])), jax.jit(run)
    for i, value in enumerate(NUMBERS[number]):
        assert furthest(at(together, i), alone(jnp.float32(value))) <= 2e-6


@core_optimizers
def test_members_of_a_vmapped_ensemble_do_not_see_each_other(name):
    tx = make(name)
    members = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), PARAMS)
    state = jax.vmap(tx.init)(members)
    params, state = jax.jit(jax.vmap(lambda p, s: step(tx, p, s, GRADS[0])))(members, state)
    for i in range(3):
        alone = train(tx, GRADS[:1], at(members, i))
        assert furthest(at((params, state), i), alone) <= 1e-6


def quadratic_after(tx, start, steps=3):
    params, state = start, tx.init(start)
    for _ in range(steps):
        params, state = step(tx, params, state, jax.tree.map(lambda p: 2 * p, params))
    return sum(jnp.sum(p**2) for p in jax.tree.leaves(params))


@pytest.mark.parametrize("name", rows(OPTIONS, ["torch"]))
def test_derivatives_through_training_are_finite_where_a_gradient_is_zero(name):
    start = jax.tree.map(lambda p: p.at[(0,) * p.ndim].set(0.0) if p.ndim else p, PARAMS)
    loss = lambda p: quadratic_after(make(name), p)  # noqa: E731
    gradient = jax.jit(jax.grad(jax.checkpoint(loss)))
    derivatives = gradient(start), jax.jvp(gradient, (start,), (start,))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(derivatives))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"eps_in_sqrt": False, "lr_in_momentum": False},
        {"centered": True},
        pytest.param({"average_momentum": True}, marks=pytest.mark.full),
    ],
)
def test_derivatives_by_the_numbers_equal_finite_differences(options):
    numbers = {
        "learning_rate": 0.05,
        "decay": 0.8,
        "eps": 0.1,
        "initial_scale": 0.5,
        "momentum": 0.7,
        "weight_decay": 0.2,
    }
    assert numbers.keys() == NUMBERS.keys()
    with jax.enable_x64(True):
        start, h = {"w": jnp.array([0.5, -1.0, 2.0])}, 1e-6
        numbers = jax.tree.map(jnp.float64, numbers)
        loss = jax.jit(lambda numbers: quadratic_after(rmsprop(**numbers, **options), start))
        derivatives = jax.jit(jax.grad(loss))(numbers)
        for name, value in numbers.items():
            above, below = (loss(numbers | {name: value + shift}) for shift in (h, -h))
            np.testing.assert_allclose(derivatives[name], (above - below) / (2 * h), rtol=1e-6, err_msg=name)


@every_optimizer
def test_eval_shape_and_the_types_of_a_step_agree_with_init(name):
    tx = make(name)
    abstract = jax.eval_shape(tx.init, PARAMS)
    state = tx.init(PARAMS)
    as_shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert as_shapes(abstract) == as_shapes(state)
    assert as_shapes(jax.eval_shape(tx.init, jax.eval_shape(lambda: PARAMS))) == as_shapes(state)
    _, after = jax.eval_shape(lambda g, s, p: tx.update(g, s, p), GRADS[0], state, PARAMS)
    assert as_shapes(after) == as_shapes(state)


DTYPES = ["float32", "bfloat16", "float16", "float64"]


@core_optimizers
@pytest.mark.parametrize(
    ("param", "grad"),
    rows(itertools.product(DTYPES, DTYPES), [("float32", "float32"), ("bfloat16", "float32")]),
)
def test_one_trace_serves_every_pair_of_dtypes_and_no_type_ever_changes(name, param, grad):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(param), PARAMS)
        tx, traces = make(name), []

        @jax.jit
        def advance(params, state, g):
            traces.append(1)
            updates, state = tx.update(g, state, params)
            return optax.apply_updates(params, updates), state, updates

        state = before = tx.init(params)
        for i in range(3):
            params, state, updates = advance(params, state, gradients(3, PARAMS, dtype=grad)[i])
            assert types(state) == types(before)
    assert len(traces) == 1
    assert {u.dtype.name for u in jax.tree.leaves(updates)} == {grad}
    floats = {x.dtype.name for x in jax.tree.leaves(state) if x.dtype != np.int32}
    assert floats == {"float64" if param == "float64" else "float32"}
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves((params, state)))


def test_a_python_float_parameter_is_traced_once():
    tx, traces = rmsprop(0.1, momentum=0.9), []
    update = jax.jit(lambda g, s: (traces.append(1), tx.update(g, s))[1])
    state = tx.init({"a": 1.0})
    for _ in range(3):
        _, state = update({"a": jnp.float32(1)}, state)
    assert len(traces) == 1


@core_optimizers
@pytest.mark.parametrize("param", ["float32", "bfloat16"])
def test_donated_buffers_are_all_reused(name, param):
    tx = make(name)
    params = jax.tree.map(lambda p: p.astype(param, copy=True), PARAMS)
    state = tx.init(params)
    advance = jax.jit(lambda p, s, g: step(tx, p, s, g), donate_argnums=(0, 1))
    compiled = advance.lower(params, state, GRADS[0]).compile()
    aliases = re.search(r"input_output_alias=\{(.*?)\}, entry", compiled.as_text()).group(1)
    assert aliases.count("alias)") == len(jax.tree.leaves((params, state)))
    advance(params, state, GRADS[0])


@core_optimizers
def test_each_leaf_alone_equals_the_tree_and_the_order_of_keys_does_not_matter(name):
    tx = make(name) if name != "everything" else make(name, weight_decay_mask=None)
    params = {"a": PARAMS["w"], "b": PARAMS["b"]["x"]}
    grads = [{"a": g["w"], "b": g["b"]["x"]} for g in GRADS]
    together, _ = train(tx, grads, params)
    reordered, _ = train(tx, [dict(reversed(g.items())) for g in grads], dict(reversed(params.items())))
    assert same(together, reordered)
    for key in params:
        alone, _ = train(tx, [{key: g[key]} for g in grads], {key: params[key]})
        assert same(alone[key], together[key])


def test_threads_share_a_transformation():
    tx, ends = rmsprop(0.01), [None] * 8
    update = jax.jit(tx.update)

    def work(i):
        state = tx.init(jnp.zeros(3))
        for _ in range(30):
            ends[i], state = update(jnp.ones(3), state)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(ends, -0.01 / np.sqrt(1 - 0.9**30), atol=1e-6)


def test_a_nan_stays_in_its_element():
    for name in OPTIONS:
        tx = make(name)
        poisoned = GRADS[1] | {"w": GRADS[1]["w"].at[0, 0].set(jnp.nan)}
        params, _ = train(tx, [GRADS[0], poisoned, *GRADS[2:]])
        clean, _ = train(tx, GRADS)
        assert jnp.isnan(params["w"][0, 0])
        assert same(params["w"].ravel()[1:], clean["w"].ravel()[1:])
        assert same(params["b"], clean["b"])


# optax's wrappers


def labelled(tx):
    return optax.partition({"ours": tx, "sgd": optax.sgd(0.1)}, {"w": "ours", "b": "sgd"})


@core_optimizers
def test_multi_steps_takes_the_step_of_the_mean_gradient(name):
    tx = optax.MultiSteps(make(name), every_k_schedule=2)
    halves = [jax.tree.map(lambda x, part=part: part * x, g) for g in GRADS for part in (0.5, 1.5)]
    accumulated, _ = train(tx, halves)
    direct, _ = train(make(name), GRADS)
    assert furthest(accumulated, direct) <= 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_multi_steps_runs_in_half_precision(dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    grads = gradients(8, PARAMS, dtype=dtype)
    tx = optax.MultiSteps(make("momentum"), every_k_schedule=2)
    ended, state = train(tx, grads, params)
    assert types(state) == types(tx.init(params))
    assert furthest(ended, params) > 1e-3


@core_optimizers
def test_masked_and_partition_touch_only_their_leaves(name):
    options = {} if name != "everything" else {"weight_decay_mask": None}
    tx = make(name, **options)
    direct, _ = train(tx, [{"w": g["w"]} for g in GRADS], {"w": PARAMS["w"]})
    masks = (
        optax.masked(tx, {"w": True, "b": False}),
        optax.masked(tx, lambda p: {"w": True, "b": jax.tree.map(lambda _: False, p["b"])}),
    )
    for wrapped in (
        *masks,
        labelled(tx),
        optax.transforms.partition({"o": tx, "n": optax.set_to_zero()}, {"w": "o", "b": "n"}),
    ):
        params, state = train(wrapped, GRADS)
        assert furthest(params["w"], direct["w"]) <= 1e-7
        found = [optax.tree.get_all_with_path(state, name) for name in ("nu", "variance")]
        assert sum(map(len, found)) == 1


@core_optimizers
def test_apply_if_finite_keeps_the_state_bit_for_bit(name):
    tx = optax.apply_if_finite(make(name), 5)
    params, state = train(tx, gradients(2))
    for bad in (jnp.nan, jnp.inf):
        poisoned = GRADS[0] | {"w": jnp.full_like(PARAMS["w"], bad)}
        updates, after = jax.jit(tx.update)(poisoned, state, params)
        assert same(after.inner_state, state.inner_state)
        assert furthest(updates, jax.tree.map(jnp.zeros_like, PARAMS)) == 0


@core_optimizers
def test_lookahead_equals_lookahead_of_the_same_steps(name):
    pair = optax.LookaheadParams(fast=PARAMS, slow=PARAMS)
    tx = optax.lookahead(make(name), sync_period=2, slow_step_size=0.5)
    state, params = tx.init(pair), pair
    fast, slow, inner, inner_state = PARAMS, PARAMS, make(name), make(name).init(PARAMS)
    for i in range(4):
        updates, state = tx.update(GRADS[i], state, params)
        params = optax.apply_updates(params, updates)
        fast, inner_state = step(inner, fast, inner_state, GRADS[i])
        if i % 2:
            slow = jax.tree.map(lambda s, f: s + 0.5 * (f - s), slow, fast)
            fast = slow
    assert furthest(params, optax.LookaheadParams(fast=fast, slow=slow)) <= 1e-6


@pytest.mark.parametrize("name", rows(OPTIONS, ["everything"]))
@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.contrib.schedule_free(tx, learning_rate=0.01, b1=0.9),
        lambda tx: optax.contrib.mechanize(tx),
        lambda tx: optax.contrib.split_real_and_imaginary(tx),
        lambda tx: optax.chain(optax.clip_by_global_norm(1.0), tx, optax.ema(0.9)),
        lambda tx: optax.chain(tx, optax.keep_params_nonnegative()),
        lambda tx: optax.conditionally_transform(tx, lambda step: step > 1),
        lambda tx: optax.chain(tx, optax.zero_nans(), optax.apply_every(2)),
    ],
    ids=["schedule_free", "mechanize", "split", "chain", "nonnegative", "conditionally", "apply_every"],
)
def test_other_wrappers_scan_without_a_change_of_type(name, wrap):
    tx = wrap(make(name))
    start = (PARAMS, tx.init(PARAMS))
    ended, _ = jax.jit(lambda c: jax.lax.scan(lambda c, g: (step(tx, *c, g), None), c, STACKED))(start)
    assert types(ended) == types(start)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(ended))


@pytest.mark.parametrize("with_params", [True, False])
@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("schedule", "everything")])
def test_every_number_can_be_injected_and_the_state_is_the_uninjected_one(name, with_params):
    if "weight_decay" in OPTIONS[name] and not with_params:
        pytest.skip("weight decay needs the parameters")
    tx = optax.inject_hyperparams(rmsprop)(**({"learning_rate": 0.01} | OPTIONS[name]))
    plain = make(name)
    state, bare = tx.init(PARAMS), plain.init(PARAMS)
    numbers = {"learning_rate", "decay", "eps", "initial_scale", "momentum", "weight_decay"}
    given = {"learning_rate", "decay", "eps", "initial_scale"} | OPTIONS[name].keys()
    assert state.hyperparams.keys() == numbers & given
    assert types(state.inner_state) == types(bare)
    params = PARAMS if with_params else None
    for i in range(3):
        updates, state = jax.jit(tx.update)(GRADS[i], state, params)
        expected, bare = jax.jit(plain.update)(GRADS[i], bare, params)
        assert furthest(updates, expected) <= 1e-6
    assert types(state.inner_state) == types(bare)


def test_an_injected_number_can_be_set_between_steps_without_a_trace():
    tx, traces = optax.inject_hyperparams(rmsprop)(0.01, momentum=0.9), []
    update = jax.jit(lambda g, s, p: (traces.append(1), tx.update(g, s, p))[1])
    _, state = update(GRADS[0], tx.init(PARAMS), PARAMS)
    small, _ = update(GRADS[1], state, PARAMS)
    state.hyperparams["learning_rate"] = jnp.float32(0.5)
    large, _ = update(GRADS[1], state, PARAMS)
    assert len(traces) == 1
    assert furthest(large, small) > 0.1


def test_an_injected_schedule_and_a_callable_mask_work_as_documented():
    mask = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
    factory = optax.inject_hyperparams(rmsprop, static_args=("weight_decay_mask",))
    tx = factory(optax.linear_schedule(0.1, 0.0, 10), weight_decay=0.1, weight_decay_mask=mask)
    direct = rmsprop(optax.linear_schedule(0.1, 0.0, 10), weight_decay=0.1, weight_decay_mask=mask)
    assert furthest(train(tx, GRADS)[0], train(direct, GRADS)[0]) <= 1e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_injected_in_half_precision_it_is_refused_or_exact_with_float32_hyperparameters(dtype):
    params = jnp.ones(1, dtype)
    with pytest.raises(TypeError, match="hyperparam_dtype"):
        optax.inject_hyperparams(rmsprop)(1e-3, decay=0.999).init(params)
    tx = optax.inject_hyperparams(rmsprop, hyperparam_dtype=jnp.float32)(1e-3, decay=0.999, momentum=0.9)
    state = tx.init(params)
    updates, after = tx.update(params, state, params)
    np.testing.assert_allclose(updates.astype(np.float32), -1e-3 * 1000**0.5, rtol=1e-2)
    assert types(after) == types(state)


@every_optimizer
def test_map_params_visits_each_moment_and_no_counter(name):
    tx = make(name)
    state = tx.init(PARAMS)
    specs = optax.tree.map_params(
        tx, lambda _, spec: spec, state, jax.tree.map(jnp.ndim, PARAMS), transform_non_params=lambda _: "scalar"
    )
    for moment in moments.NAMES:
        for _, tree in optax.tree.get_all_with_path(specs, moment):
            assert tree is None or tree == jax.tree.map(jnp.ndim, PARAMS)
    assert all(count == "scalar" for _, count in optax.tree.get_all_with_path(specs, "count") if count is not None)


@every_optimizer
def test_moments_are_found_and_set_by_name(name):
    tx = make(name)
    _, state = train(tx, GRADS)
    second = "variance" if OPTIONS[name].get("centered") else "nu"
    doubled = optax.tree.set(state, **{second: jax.tree.map(lambda x: 2 * x, optax.tree.get(state, second))})
    assert furthest(optax.tree.get(doubled, second), optax.tree.get(state, second)) > 0
    tx.update(GRADS[0], doubled, PARAMS)


ZOO = {
    "empty": {},
    "no elements": {"a": jnp.ones((0,)), "b": jnp.ones((3, 0)), "c": jnp.ones(2)},
    "scalar": jnp.array(1.0),
    "containers": [jnp.ones(2), (jnp.ones(1), {"ключ": jnp.ones(3)})],
    "none": {"a": None, "b": jnp.ones(2), "c": [None]},
    "masked": {"a": optax.MaskedNode(), "b": jnp.ones(2)},
    "named": optax.LookaheadParams(fast=jnp.ones(2), slow=jnp.ones(2)),
}


@pytest.mark.parametrize("params", ZOO.values(), ids=ZOO)
@pytest.mark.parametrize("name", rows([name for name in OPTIONS if name != "everything"], CORE))
def test_any_tree_of_parameters_keeps_its_structure(name, params):
    tx = make(name)
    state = tx.init(params)
    updates, after = jax.jit(tx.update)(params, state, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert types(after) == types(state)


# jax's flags

FLAGS = {
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "rank": lambda: jax.numpy_rank_promotion("raise"),
    "nans": lambda: jax.debug_nans(True),
    "infs": lambda: jax.debug_infs(True),
    "leaks": jax.checking_leaks,
    "x64": lambda: jax.enable_x64(True),
    "no jit": jax.disable_jit,
}


@pytest.mark.parametrize(
    ("name", "param"),
    rows(itertools.product(OPTIONS, ["bfloat16", "complex64"]), [("everything", "bfloat16")]),
)
@pytest.mark.parametrize("flag", FLAGS)
def test_jax_s_flags_raise_nothing(name, flag, param):
    params = jax.tree.map(lambda p: p.astype(param), PARAMS)
    grads = jax.tree.map(lambda p: p.astype("float32" if param == "bfloat16" else param), PARAMS)
    with FLAGS[flag]():
        tx = make(name)
        state = tx.init(params)
        for g in (grads, jax.tree.map(jnp.zeros_like, grads)):
            _, state = tx.update(g, state, params)
            _, state = jax.jit(tx.update)(g, state, params)


@every_optimizer
def test_compiled_init_and_update_move_nothing_to_the_device(name):
    tx = make(name)
    init, update = jax.jit(tx.init), jax.jit(tx.update)
    g = GRADS[0]
    with jax.transfer_guard("disallow"):
        state = init(PARAMS)
        for _ in range(2):
            _, state = update(g, state, PARAMS)


# storing a state


@core_optimizers
@pytest.mark.parametrize("way", [through_orbax, through_msgpack, through_state_dict, through_pickle])
def test_a_stored_state_comes_back_bit_for_bit_and_continues_so(name, way, tmp_path):
    tx = make(name)
    params, state = train(tx, gradients(3))
    restored = way(state, tx.init(PARAMS), tmp_path)
    assert same(restored, state)
    assert same(train(tx, gradients(2, seed=1), params, restored), train(tx, gradients(2, seed=1), params, state))


@core_optimizers
def test_an_exported_step_is_serialized_with_its_state(name):
    tx = make(name)
    state, g = tx.init(PARAMS), GRADS[0]
    compiled = jax.jit(lambda p, s, g: step(tx, p, s, g))
    exported = jax.export.export(compiled)(PARAMS, state, g)
    again = jax.export.deserialize(exported.serialize())
    assert same(again.call(PARAMS, state, g), compiled(PARAMS, state, g))


@every_optimizer
def test_the_compiled_step_has_no_temporary_of_a_leaf_s_size(name):
    tx = make(name, weight_decay_mask=None)
    params = {"w": jnp.zeros(2**16)}
    compiled = jax.jit(lambda p, s, g: step(tx, p, s, g), donate_argnums=(0, 1)).lower(params, tx.init(params), params)
    leaves = 1 if "nesterov" in OPTIONS[name] else 0  # XLA on the CPU keeps what trace and update share; optax's, too
    assert compiled.compile().memory_analysis().temp_size_in_bytes < leaves * params["w"].nbytes + 100
