"""Whoever changes the import and nothing else: states answer by name as optax's do, a negative rate ascends."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.rows import rows

from rmsprop_optax import dialects, recipes, rmsprop, scale_by_rms

PARAMS = {"a": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array([[2.0, 1.0]])}
GRADS = {"a": jnp.array([0.3, -4.0, 1.0]), "b": jnp.array([[1.0, -1e-3]])}


def halved(count):
    return jnp.where(count < 2, 0.1, 0.05)


def partitioned(tx):
    return optax.partition({"x": tx, "y": optax.set_to_zero()}, {"a": "x", "b": "y"})


WRAPPERS = {
    "alone": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "named_chain": lambda tx: optax.named_chain(("clip", optax.clip(1.0)), ("rmsprop", tx)),
    "masked": lambda tx: optax.masked(tx, {"a": True, "b": False}),
    "partition": partitioned,
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "conditionally_mask": lambda tx: optax.conditionally_mask(tx, lambda step: step < 9),
    "conditionally_transform": lambda tx: optax.conditionally_transform(tx, lambda step: step < 9),
    "skip_not_finite": lambda tx: optax.MultiSteps(
        tx, 1, should_skip_update_fn=optax.skip_not_finite
    ).gradient_transformation(),
    "flatten": optax.flatten,
    "extra_args": optax.with_extra_args_support,
}
OPTIONS = {
    "plain": {},
    "schedule": {"learning_rate": halved},
    "schedule, momentum": {"learning_rate": halved, "momentum": 0.9},
    "corrected": {"bias_correction": True},
    "corrected, schedule": {"bias_correction": True, "learning_rate": halved},
    "centered": {"centered": True, "eps": 1e-3},
    "centered, schedule": {"centered": True, "eps": 1e-3, "learning_rate": halved},
}


def answer(state, name):
    """What `optax.tree.get` answers, or the name of the error that it raises."""
    try:
        return optax.tree.get(state, name)
    except KeyError as error:
        return type(error).__name__


def stepped(make, wrapper, options):
    tx = WRAPPERS[wrapper](make(**({"learning_rate": 0.1} | OPTIONS[options])))
    return tx, jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)[1]


ALWAYS = {(wrapper, "schedule, momentum") for wrapper in list(WRAPPERS)[::2]} | {("alone", "schedule, momentum")}


@pytest.mark.parametrize(("wrapper", "options"), rows(itertools.product(WRAPPERS, OPTIONS), ALWAYS))
def test_names_are_found_where_optax_finds_them(wrapper, options):
    (_, ours), (_, theirs) = (stepped(make, wrapper, options) for make in (rmsprop, optax.rmsprop))
    names = ["count", "mu"] if "centered" in options else ["count", "nu", "trace"]
    for name in names:
        here, there = answer(ours, name), answer(theirs, name)
        if isinstance(there, str):  # two counts: not unique for optax either
            assert here == there
        else:
            chex.assert_trees_all_close(here, there, rtol=1e-5)
    if "centered" in options:
        assert answer(ours, "nu") is None


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_count_that_was_set_by_name_is_the_step_of_the_next_update(wrapper):
    if wrapper.startswith("conditionally"):
        pytest.skip("optax has a `step` of its own there, and no count that is unique")
    updates = []
    for make in (rmsprop, optax.rmsprop):
        tx, state = stepped(make, wrapper, "schedule")
        state = optax.tree.set(state, count=jnp.int32(3))
        u, state = jax.jit(tx.update)(GRADS, state, PARAMS)
        assert optax.tree.get(state, "count") == 4
        updates.append(u)
    chex.assert_trees_all_close(*updates, rtol=1e-5)


NEGATIVE = {
    "float": -0.1,
    "NumPy": np.float32(-0.1),
    "array": jnp.float32(-0.1),
    "schedule of numbers": optax.constant_schedule(-0.1),
    "schedule of Python numbers": lambda count: -0.1,
    "schedule of arrays": lambda count: -0.1 * jnp.ones(()),
}


@pytest.mark.parametrize("rate", NEGATIVE.values(), ids=NEGATIVE)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "lr_in_momentum": False},
        pytest.param({"momentum": 0.9, "average_momentum": True}, marks=pytest.mark.full),
    ],
    ids=str,
)
def test_a_negative_rate_ascends(rate, options):
    def two(tx):
        _, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
        return tx.update(GRADS, state, PARAMS)[0]

    up, down = two(rmsprop(rate, **options)), two(rmsprop(0.1, **options))
    chex.assert_trees_all_close(up, jax.tree.map(jnp.negative, down), rtol=1e-6)


def test_a_traced_negative_rate_ascends():
    tx = lambda rate: rmsprop(rate)  # noqa: E731
    up = jax.jit(lambda rate: tx(rate).update(GRADS, tx(rate).init(PARAMS))[0])(-0.1)
    chex.assert_trees_all_close(up, optax.rmsprop(-0.1).update(GRADS, optax.rmsprop(-0.1).init(PARAMS))[0], rtol=1e-5)


@pytest.mark.parametrize("rate", NEGATIVE.values(), ids=NEGATIVE)
@pytest.mark.parametrize("decoupled", [True, False])
def test_a_negative_rate_with_decay_is_refused_with_the_way_out(rate, decoupled):
    if rate is NEGATIVE["schedule of arrays"]:
        pytest.skip("its value is known to the compiled step alone")

    def call():
        tx = rmsprop(rate, weight_decay=0.1, decoupled_weight_decay=decoupled)
        tx.update(GRADS, tx.init(PARAMS), PARAMS)

    with pytest.raises(ValueError, match=r"must not be negative with `weight_decay`.*optax.scale\(-1\)"):
        call()


def test_the_way_out_ascends_and_shrinks():
    tx = optax.chain(optax.scale(-1), rmsprop(0.1, weight_decay=0.5))
    zero = jax.tree.map(jnp.zeros_like, GRADS)
    shrunk = optax.apply_updates(PARAMS, tx.update(zero, tx.init(PARAMS), PARAMS)[0])
    chex.assert_trees_all_close(shrunk, jax.tree.map(lambda p: 0.95 * p, PARAMS), rtol=1e-6)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), zero)
    assert jax.tree.all(jax.tree.map(lambda u, g: bool((u * g > 0).all()), updates, GRADS))


@pytest.mark.parametrize(
    "make",
    [dialects.torch_rmsprop, dialects.keras_rmsprop, dialects.tf1_rmsprop, recipes.dqn],
    ids=lambda f: f.__name__,
)
def test_other_frameworks_and_recipes_keep_their_own_range(make):
    with pytest.raises(ValueError, match=r"must be a number in \[0, inf\), got -0.1"):
        make(-0.1)


def test_a_tree_that_is_none_as_a_whole_is_an_empty_tree():
    for options in OPTIONS.values():
        tx = rmsprop(**({"learning_rate": 0.1} | options))
        updates, state = tx.update(None, tx.init(None), None)
        assert updates is None
        assert jax.tree.structure(state) == jax.tree.structure(tx.init(None))


def test_a_python_number_without_a_gradient_stays_a_python_number():
    params = {"w": jnp.ones(2), "temperature": 0.5}
    tx = rmsprop(0.1, momentum=0.9)
    state = tx.init(params)
    updates, after = tx.update({"w": jnp.ones(2), "temperature": None}, state, params)
    assert type(updates["temperature"]) is float
    assert type(params["temperature"] + updates["temperature"]) is float
    chex.assert_trees_all_equal(after[0].nu["temperature"], state[0].nu["temperature"])


@pytest.fixture
def no_asserts():
    chex.disable_asserts()
    yield
    chex.enable_asserts()


BROADCAST = {
    "gradient": lambda: rmsprop(0.1).update(jnp.ones((3, 1)), rmsprop(0.1).init(jnp.ones(3))),
    "gradient of the rule alone": lambda: scale_by_rms().update(jnp.ones((3, 1)), scale_by_rms().init(jnp.ones(3))),
    "parameter": lambda: rmsprop(0.1).update(jnp.ones(3), rmsprop(0.1).init(jnp.ones(3)), jnp.ones((3, 1))),
    "structure": lambda: rmsprop(0.1).update({"a": jnp.ones(3)}, rmsprop(0.1).init(jnp.ones(3))),
    "complex dialect": lambda: dialects.torch_rmsprop().update(
        jnp.ones((3, 1)) * 1j, dialects.torch_rmsprop().init(jnp.ones(3) * 1j)
    ),
}


@pytest.mark.parametrize("call", BROADCAST.values(), ids=BROADCAST)
def test_no_guard_is_switched_off_with_chex(no_asserts, call):
    with pytest.raises(ValueError, match=r"`(updates|params)` (must have the structure|at .* has shape)"):
        call()


def test_chex_asserts_that_moments_are_float32_or_better_and_keep_their_types(monkeypatch):
    seen = []
    monkeypatch.setattr(chex, "assert_trees_all_equal_shapes_and_dtypes", lambda *trees: seen.append(trees))
    tx = rmsprop(0.1, momentum=0.9)
    state = tx.init(PARAMS)
    _, after = tx.update(GRADS, state)
    assert [new for new, _ in seen] == list(after)
    assert [old for _, old in seen] == list(state)
