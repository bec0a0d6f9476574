"""Restoring: moments are found by name in any chain, everything is checked, and a run moves to other options."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from test_alias import PARAMS, furthest, gradients, stepped, train

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


def make(**options):
    return rmsprop(**({"learning_rate": 0.01} | options))


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
    for name in ("nu", "mu", "trace"):
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
        for name in ("nu", "mu", "trace", "count"):
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
    for untyped in (serialization.to_state_dict(state), [e._asdict() for e in state]):
        chex.assert_trees_all_equal(checkpoint.restore(tx.init(PARAMS), untyped), state)


def test_what_was_given_stays_as_it_was_and_shares_no_buffer():
    tx = make(momentum=0.9)
    _, state = train(tx, gradients(3))
    fresh = tx.init(PARAMS)
    numbers = {"nu": jax.tree.map(np.array, state[0].nu), "trace": jax.tree.map(np.array, state[2].trace)}
    kept, before = jax.tree.map(np.copy, (numbers, state, fresh)), (numbers, state, fresh)
    step = jax.jit(tx.update, donate_argnums=1)
    for source in (numbers, state):
        step(gradients(1)[0], checkpoint.restore(fresh, source))
    step(gradients(1)[0], checkpoint.adapt(state, make(momentum=0.9, learning_rate=0.5), PARAMS)[0])
    chex.assert_trees_all_equal(kept, jax.tree.map(np.asarray, before))


def test_the_state_lands_where_init_put_it_and_a_scalar_stays_free_to_move():
    mesh = jax.make_mesh((4,), ("x",))
    sharding = NamedSharding(mesh, P("x"))
    params = jax.device_put({"w": jnp.zeros((8, 2))}, sharding)
    moments = {"w": np.arange(16, dtype=np.float32).reshape(8, 2)}
    state = checkpoint.restore(make(centered=True).init(params), {"nu": moments, "mu": moments})
    assert state[0].nu["w"].sharding == state[0].mu["w"].sharding == sharding
    assert np.array_equal(state[0].nu["w"], moments["w"])
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


# The classes of optax.

STOCK = {
    "ScaleByRmsState": {},
    "ScaleByRmsWithCountState": {"bias_correction": True},
    "ScaleByRStdDevState": {"centered": True},
}


@pytest.mark.parametrize("schedule", [0.01, stepped], ids=["constant", "scheduled"])
@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("name", STOCK)
def test_a_run_of_optax_goes_on_here_and_back_there(name, momentum, schedule):
    options = {"eps": 1e-3, "momentum": momentum, **STOCK[name]}
    ours, theirs = rmsprop(schedule, **options), optax.rmsprop(schedule, **options)
    grads = gradients(9)
    uninterrupted, _ = train(theirs, grads)
    steps, state = train(theirs, grads[:3])
    assert type(state[0]).__name__ == name
    here = checkpoint.restore(ours.init(PARAMS), checkpoint.from_optax(state))
    rest, here = train(ours, grads[3:6], steps[-1], here)
    assert furthest(rest, uninterrupted[3:6]) <= 2e-6
    back = checkpoint.to_optax(here, theirs.init(PARAMS))
    chex.assert_trees_all_equal_shapes_and_dtypes(back, state)
    rest, _ = train(theirs, grads[6:], rest[-1], back)
    assert furthest(rest, uninterrupted[6:]) <= 2e-6


def test_the_fourth_class_of_optax_is_read_and_written():
    """Its rule, centered with bias correction, is refused here; its averages are those of the rule without."""
    theirs = optax.rmsprop(0.01, centered=True, bias_correction=True)
    _, state = train(theirs, gradients(4))
    assert type(state[0]).__name__ == "ScaleByRStdDevWithCountState"
    moments = checkpoint.from_optax(state)
    assert moments["count"] == 4
    ours = rmsprop(0.01, centered=True)
    expected = train(ours, gradients(4))[1][0]
    here = checkpoint.restore(ours.init(PARAMS), moments)
    assert furthest(here[0].nu, expected.nu) <= 1e-6
    assert furthest(here[0].mu, expected.mu) <= 1e-6
    with pytest.raises(ValueError, match="no `count`"):
        checkpoint.to_optax(here, theirs.init(PARAMS))


def test_optax_s_complex_mean_square_becomes_real_and_back():
    params = {"z": jnp.array([1 + 2j, 3.0], jnp.complex64)}
    theirs, ours = optax.rmsprop(0.1), rmsprop(0.1)
    _, state = theirs.update(params, theirs.init(params))
    here = checkpoint.restore(ours.init(params), checkpoint.from_optax(state))
    assert here[0].nu["z"].dtype == jnp.float32
    chex.assert_trees_all_equal(checkpoint.to_optax(here, theirs.init(params)), state)


def test_optax_s_masked_and_partitioned_states_are_read():
    both = lambda factory: optax.partition(  # noqa: E731
        {"a": factory(0.01, momentum=0.9), "b": factory(0.01, momentum=0.9)}, {"w": "a", "b": "b"}
    )
    steps, state = train(both(optax.rmsprop), gradients(4))
    here = checkpoint.restore(both(rmsprop).init(PARAMS), checkpoint.from_optax(state))
    rest, _ = train(both(rmsprop), gradients(2, seed=1), steps[-1], here)
    expected, _ = train(both(optax.rmsprop), gradients(2, seed=1), steps[-1], state)
    assert furthest(rest, expected) <= 1e-6


# Other options.


def adapted(old, new, grads, **more):
    _, state = train(make(**old), grads)
    kept = jax.tree.map(np.array, state)
    moved, report = checkpoint.adapt(state, make(**new), PARAMS, **more)
    chex.assert_trees_all_equal(kept, jax.tree.map(np.asarray, state))
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, make(**new).init(PARAMS))
    return moved, report


def test_switching_momentum_on_keeps_the_mean_square_and_starts_a_trace():
    moved, report = adapted({}, {"momentum": 0.9}, gradients(4))
    assert report == {"nu": "carried", "trace": "fresh"}
    chex.assert_trees_all_equal(moved[0].nu, train(make(), gradients(4))[1][0].nu)
    assert not jnp.any(moved[2].trace["w"])
    assert adapted({"momentum": 0.9}, {}, gradients(4))[1] == {"nu": "carried", "trace": "dropped"}


def test_switching_centering_off_gives_the_mean_square_of_the_same_gradients():
    moved, report = adapted({"centered": True, "momentum": 0.9}, {"momentum": 0.9}, gradients(6))
    assert report == {"nu": "converted", "mu": "dropped", "trace": "carried"}
    chex.assert_trees_all_close(moved[0].nu, train(make(), gradients(6))[1][0].nu, rtol=2e-6)


def test_switching_centering_on_subtracts_the_mean_from_then_on():
    moved, report = adapted({}, {"centered": True}, gradients(6))
    assert report == {"nu": "carried", "mu": "fresh"}
    later = gradients(5, seed=1)
    _, state = train(make(centered=True), later, state=moved)
    wide = lambda grads: [jax.tree.map(np.float64, g) for g in grads]  # noqa: E731
    rates, start = [0.01] * 6, jax.tree.map(np.float64, PARAMS)
    _, plain = reference.trajectory({}, start, wide(gradients(6)), rates)
    nu, mu = plain["nu"], jax.tree.map(np.zeros_like, start)
    for g in wide(later):
        nu = {name: 0.9 * nu[name] + 0.1 * g[name] ** 2 for name in nu}
        mu = {name: 0.9 * mu[name] + 0.1 * g[name] for name in mu}
    for name in nu:
        np.testing.assert_allclose(state[0].nu[name], nu[name] - mu[name] ** 2, rtol=3e-6)


@pytest.mark.parametrize("inside", [True, False])
def test_moving_the_learning_rate_across_the_momentum_changes_nothing_while_it_is_constant(inside):
    old, new = ({"momentum": 0.9, "lr_in_momentum": order} for order in (inside, not inside))
    moved, report = adapted(old, new, gradients(5), learning_rate=0.01)
    assert report == {"nu": "carried", "trace": "converted"}
    steps, _ = train(make(**old), gradients(10))
    rest, _ = train(make(**new), gradients(10)[5:], steps[4], moved)
    assert furthest(rest, steps[5:]) <= 1e-6


def test_a_schedule_goes_on_from_a_known_count_and_starts_at_0_without_one():
    assert adapted({}, {"learning_rate": stepped}, gradients(3))[1]["count"] == "fresh"
    moved, report = adapted({}, {"learning_rate": stepped}, gradients(3), count=3)
    assert (int(moved[1].count), report["count"]) == (3, "carried")
    moved, _ = adapted({"learning_rate": stepped}, {"learning_rate": stepped, "weight_decay": 0.1}, gradients(3))
    assert [int(count) for _, count in optax.tree.get_all_with_path(moved, "count") if count is not None] == [3, 3]
    assert adapted({"learning_rate": stepped}, {}, gradients(3))[1]["count"] == "dropped"


def test_bias_correction_switched_on_goes_on_as_if_it_had_been_on():
    moved, _ = adapted({"learning_rate": stepped}, {"bias_correction": True}, gradients(4))
    tx, g = make(bias_correction=True), gradients(1, seed=1)[0]
    expected = tx.update(g, train(tx, gradients(4))[1])[0]
    chex.assert_trees_all_equal(tx.update(g, moved)[0], expected)


def test_what_other_links_remember_is_carried_and_reported():
    wrap = lambda tx: optax.partition(  # noqa: E731
        {"a": tx, "b": optax.chain(optax.scale_by_adam(), optax.scale(-0.1))}, {"w": "a", "b": "b"}
    )
    _, state = train(wrap(make()), gradients(3))
    moved, report = checkpoint.adapt(state, wrap(make(momentum=0.9)), PARAMS)
    chex.assert_trees_all_equal(moved.inner_states["b"], state.inner_states["b"])
    assert report["inner_states/b/inner_state/0/mu/b"] == "carried"
    injected = optax.inject_hyperparams(rmsprop)
    _, state = train(injected(learning_rate=0.5), gradients(3))
    moved, report = checkpoint.adapt(state, injected(learning_rate=0.25, centered=True), PARAMS)
    assert moved.hyperparams["learning_rate"] == 0.25
    assert int(moved.count) == 3
    assert report["hyperparams/learning_rate"] == "fresh"
    _, report = checkpoint.adapt(state, make(), PARAMS)
    assert report["hyperparams/learning_rate"] == "dropped"


def test_a_run_moves_to_float64_exactly_and_back_when_allowed():
    _, state = train(make(momentum=0.9), gradients(4))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), PARAMS)
        moved, report = checkpoint.adapt(state, make(momentum=0.9), wide)
        assert moved[0].nu["w"].dtype == jnp.float64
        assert report == {"nu": "converted", "trace": "converted"}
        narrow = jax.tree.map(np.asarray, PARAMS)  # arrays of jax.numpy.full follow the precision of the moment
        with pytest.raises(TypeError, match="rounded"):
            checkpoint.adapt(moved, make(momentum=0.9), narrow)
        back, _ = checkpoint.adapt(moved, make(momentum=0.9), narrow, allow_rounding=True)
    chex.assert_trees_all_equal(back, state)


# What is refused.

NU = {"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}


def filled(moments, params=PARAMS, **options):
    return checkpoint.restore(make(**options).init(params), moments)


def with_field(tree, **options):
    state = make(**options).init(PARAMS)
    return (state[0]._replace(nu=tree), *state[1:])


OUTSIDE = {"momentum": 0.9, "lr_in_momentum": False}
MANY = {"momentum": 0.9, "learning_rate": stepped}
REFUSALS = {
    "a missing parameter": (
        lambda: filled({"nu": {"w": NU["w"]}}),
        ValueError,
        "missing: b",
    ),
    "an extra parameter": (
        lambda: filled({"nu": NU | {"c": NU["b"]}}),
        ValueError,
        "unexpected: c",
    ),
    "another name": (
        lambda: filled({"nu": {"w": NU["w"], "bias": NU["b"]}}),
        ValueError,
        "missing: b; unexpected: bias",
    ),
    "another shape": (
        lambda: filled({"nu": NU | {"b": np.ones(1)}}),
        ValueError,
        r"at b must have shape \(3,\), got \(1,\)",
    ),
    "a scalar to broadcast": (
        lambda: filled({"nu": NU | {"b": np.float32(1)}}),
        ValueError,
        "Nothing is broadcast",
    ),
    "a transposed weight": (
        lambda: filled({"nu": NU | {"w": NU["w"].T}}),
        ValueError,
        r"\(2, 3\), got \(3, 2\)",
    ),
    "float64 for float32": (
        lambda: filled({"nu": NU | {"b": np.ones(3)}}),
        TypeError,
        "float64, which would be rounded",
    ),
    "codes": (
        lambda: filled({"nu": NU | {"b": np.ones(3, np.uint8)}}),
        TypeError,
        "uint8 in `moments`.*compression",
    ),
    "a complex moment": (
        lambda: filled({"nu": NU | {"b": np.ones(3, np.complex64)}}),
        TypeError,
        "complex64: PyTorch",
    ),
    "no mean square": (
        lambda: filled({"trace": NU}, momentum=0.9),
        ValueError,
        "nu in any case; found trace",
    ),
    "nothing": (
        lambda: filled({}),
        ValueError,
        "found none of them",
    ),
    "a misspelled field": (
        lambda: filled({"nu": NU, "nus": NU}),
        ValueError,
        "unexpected: nus/w",
    ),
    "a moment that would be lost": (
        lambda: filled({"nu": NU, "mu": NU}),
        ValueError,
        "would be lost.*centered=True.*adapt",
    ),
    "a buffer that would be lost": (
        lambda: filled({"nu": NU, "trace": NU}),
        ValueError,
        "would be lost.*momentum",
    ),
    "a moment that is not there": (
        lambda: filled({"nu": NU}, momentum=0.9),
        ValueError,
        "`moments` does not.*momentum",
    ),
    "no count for a schedule": (
        lambda: filled({"nu": NU}, learning_rate=stepped),
        ValueError,
        "at 1/count.*no `count`",
    ),
    "half a step": (
        lambda: filled({"nu": NU, "count": 1.5}),
        ValueError,
        "`count` must be a whole number.*1.5",
    ),
    "two counts": (
        lambda: filled([{"nu": NU, "count": 1}, {"count": 2}], bias_correction=True),
        ValueError,
        "counts of steps differ",
    ),
    "the other order": (
        lambda: filled({"nu": NU, "trace": NU, "lr_in_momentum": False}, momentum=0.9),
        ValueError,
        "minus the learning",
    ),
    "two moments for one parameter": (
        lambda: filled([{"nu": NU}, {"nu": NU}]),
        ValueError,
        "two `nu` for b, w",
    ),
    "a state without RMSprop": (
        lambda: checkpoint.restore(optax.adam(0.1).init(PARAMS), {"nu": NU}),
        ValueError,
        "found optax.EmptyState|ScaleByAdam",
    ),
    "two RMSprops in one chain": (
        lambda: checkpoint.restore(optax.chain(make(), make()).init(PARAMS), {"nu": NU}),
        ValueError,
        "two `nu` for",
    ),
    "a state to fill of optax": (
        lambda: checkpoint.restore(optax.rmsprop(0.1).init(PARAMS), {"nu": NU}),
        ValueError,
        "checkpoint.from_optax",
    ),
    "a state of optax": (
        lambda: filled(optax.rmsprop(0.1).init(PARAMS)),
        ValueError,
        "checkpoint.from_optax",
    ),
    "a state of Adam": (
        lambda: filled(optax.adam(0.1).init(PARAMS)),
        ValueError,
        "found optax.ScaleByAdamState",
    ),
    "a state with other options": (
        lambda: filled(make(momentum=0.9).init(PARAMS)),
        ValueError,
        "unexpected: 2/trace/b, 2/trace/w.*checkpoint.adapt",
    ),
    "a state of another shape": (
        lambda: filled(make().init(PARAMS | {"b": jnp.ones(5)})),
        ValueError,
        r"0/nu/b must have shape \(3,\), got \(5,\)",
    ),
    "a state with other types": (
        lambda: filled(with_field(jax.tree.map(np.float64, NU))),
        TypeError,
        "0/nu/b must fit",
    ),
    "a state of codes": (
        lambda: filled(with_field({"w": np.ones((2, 3), np.uint8), "b": np.ones(3, np.uint8)})),
        TypeError,
        "compression",
    ),
    "a state to fill of codes": (
        lambda: checkpoint.restore(with_field(jax.tree.map(np.uint8, NU)), {"nu": NU}),
        TypeError,
        "uint8 in `state`",
    ),
    "other containers": (
        lambda: filled(make().init([*PARAMS.values()])),
        ValueError,
        "missing: 0/nu/b.*0/nu/0",
    ),
    "a count of another type": (
        lambda: checkpoint.restore(
            make(**MANY).init(PARAMS),
            jax.tree.map(lambda x: np.asarray(x, np.int64 if x.ndim == 0 else x.dtype), make(**MANY).init(PARAMS)),
        ),
        TypeError,
        "at 1/count must be int32, got int64",
    ),
    "a state of ours for one of optax": (
        lambda: checkpoint.from_optax(make().init(PARAMS)),
        ValueError,
        "restore and adapt take it as it is",
    ),
    "adapting a state of optax": (
        lambda: checkpoint.adapt(optax.rmsprop(0.1).init(PARAMS), make(), PARAMS),
        ValueError,
        "checkpoint.from_optax",
    ),
    "adapting to other parameters": (
        lambda: checkpoint.adapt(make().init(PARAMS), make(), {"w": PARAMS["w"]}),
        ValueError,
        "unexpected: b",
    ),
    "adapting to another shape": (
        lambda: checkpoint.adapt(make().init(PARAMS), make(), PARAMS | {"b": jnp.ones(4)}),
        ValueError,
        "at b must have shape",
    ),
    "adapting the order without a rate": (
        lambda: adapted({"momentum": 0.9}, OUTSIDE, []),
        ValueError,
        "Pass `learning_rate`",
    ),
    "adapting the order with a rate of 0": (
        lambda: adapted({"momentum": 0.9}, OUTSIDE, [], learning_rate=0),
        ValueError,
        "above 0",
    ),
    "correcting a bias without a count": (
        lambda: adapted({}, {"bias_correction": True}, []),
        ValueError,
        "Pass `count`",
    ),
    "another count": (
        lambda: adapted({"learning_rate": stepped}, {"bias_correction": True}, [], count=3),
        ValueError,
        "that of `old_state`, 0",
    ),
    "an optax state to fill in bfloat16": (
        lambda: checkpoint.to_optax(
            make().init(PARAMS), optax.rmsprop(0.1).init(jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS))
        ),
        TypeError,
        "bfloat16, got float32",
    ),
    "a switch that is none": (
        lambda: checkpoint.restore(make().init(PARAMS), {"nu": NU}, allow_rounding=1),
        TypeError,
        "allow_rounding",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_restoring_refuses(why):
    call, error, message = REFUSALS[why]
    with pytest.raises(error, match=f"(?s){message}"):
        call()


def test_the_wrong_shapes_that_flax_lets_through_are_refused():
    serialization = pytest.importorskip("flax.serialization")
    tx = make()
    wrong = serialization.to_bytes(tx.init(PARAMS | {"b": jnp.ones(5)}))
    let_through = serialization.from_bytes(tx.init(PARAMS), wrong)
    assert let_through[0].nu["b"].shape == (5,)
    with pytest.raises(ValueError, match=r"must have shape \(3,\), got \(5,\)"):
        checkpoint.restore(tx.init(PARAMS), let_through)


def test_the_errors_of_a_step_point_here():
    other = train(make(), [])[1]
    with pytest.raises(ValueError, match=r"checkpoint\.adapt"):
        make(momentum=0.9).update(PARAMS, other)
    with pytest.raises(ValueError, match=r"checkpoint\.from_optax"):
        make().update(PARAMS, optax.rmsprop(0.1).init(PARAMS))
    with pytest.raises(ValueError, match=r"checkpoint\.adapt"):
        scale_by_rms(centered=True).update(PARAMS, other[0])
    with pytest.raises(TypeError, match=r"checkpoint\.from_optax"):
        scale_by_rms().update(PARAMS, optax.rmsprop(0.1).init(PARAMS)[0])


def test_flax_nnx_keeps_its_optimizer_and_its_containers():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, make(**MANY), wrt=nnx.Param)
    nu = {"kernel": np.full((2, 3), 4.0, np.float32), "bias": np.full(3, 4.0, np.float32)}
    trace = jax.tree.map(np.zeros_like, nu)
    state = checkpoint.restore(optimizer.opt_state, {"nu": nu, "trace": trace, "count": 7})
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.opt_state)
    optimizer.opt_state = state
    before = model.bias[...]
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    assert optimizer.opt_state[1].count[...] == 8
    np.testing.assert_allclose(optimizer.opt_state[0].nu["kernel"][...], 0.9 * nu["kernel"], rtol=1e-6)
    assert jnp.array_equal(model.bias[...], before)
    chex.assert_trees_all_equal(checkpoint.restore(optimizer.opt_state, optimizer.opt_state), optimizer.opt_state)
