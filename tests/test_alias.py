"""`rmsprop`: optax.rmsprop's arguments, two orders of its links, and what it refuses."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.trees import furthest
from kit.two_leaves import PARAMS, gradients, stepped, train

from rmsprop_optax import rmsprop

OF_OPTAX = [
    {"eps_in_sqrt": eps_in_sqrt, "initial_scale": initial_scale, **momentum, **second}
    for eps_in_sqrt, initial_scale, momentum, second in itertools.product(
        (True, False),
        (0.0, 1.0),
        ({}, {"momentum": 0.0}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
        ({}, {"centered": True}, {"bias_correction": True}),
    )
]


def test_the_first_nine_arguments_are_optax_s_in_order_and_with_its_defaults():
    ours, theirs = (list(inspect.signature(f).parameters.values()) for f in (rmsprop, optax.rmsprop))
    assert [(p.name, p.default, p.kind) for p in ours[:9]] == [(p.name, p.default, p.kind) for p in theirs]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours[9:])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(o, marks=[pytest.mark.full] if o["initial_scale"] or o.get("momentum") == 0 else [])
        for o in OF_OPTAX
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(0.01, id="constant"),
        pytest.param(optax.exponential_decay(0.01, 5, 0.5), id="schedule", marks=pytest.mark.full),
    ],
)
def test_updates_equal_optax_s_to_1e_6_for_every_accepted_combination(options, rate):
    ours, theirs = rmsprop(rate, 0.9, **options), optax.rmsprop(rate, 0.9, **options)
    state, there = ours.init(PARAMS), theirs.init(PARAMS)
    update, their_update = jax.jit(ours.update), jax.jit(theirs.update)
    for t, g in enumerate(gradients(20)):
        updates, state = update(g, state)
        expected, there = their_update(g, there)
        # eps stands for what the first centered steps leave of the variance: both divide by about sqrt(eps) there
        assert furthest(updates, expected) <= 1e-6, t


def test_positional_arguments_mean_what_they_mean_to_optax():
    arguments = (0.01, 0.95, 1e-6, 0.5, False, False, 0.8, True, True)
    (ours, _), (theirs, _) = (train(make(*arguments), gradients(5)) for make in (rmsprop, optax.rmsprop))
    assert furthest(ours, theirs) <= 1e-6


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_learning_rate_s_place_matters_only_when_it_changes(nesterov):
    grads = gradients(10)
    options = {"momentum": 0.9, "nesterov": nesterov}
    inside, outside = (
        {rate: train(rmsprop(rate, lr_in_momentum=order, **options), grads)[0] for rate in (0.1, stepped)}
        for order in (True, False)
    )
    assert furthest(inside[0.1], outside[0.1]) <= 2e-6
    assert furthest(inside[stepped], outside[stepped]) > 0.3


def test_a_learning_rate_of_zero_stops_the_parameters_only_outside_the_momentum():
    tail = lambda count: jnp.where(count < 3, 0.1, 0.0)  # noqa: E731
    grads = gradients(6)
    inside, _ = train(rmsprop(tail, momentum=0.9), grads)
    outside, _ = train(rmsprop(tail, momentum=0.9, lr_in_momentum=False), grads)
    assert furthest(inside[2], inside[5]) > 0.1
    assert furthest(outside[2], outside[5]) == 0


def test_outside_the_momentum_is_optax_s_chain_in_that_order():
    by_hand = optax.chain(optax.scale_by_rms(), optax.trace(0.9), optax.scale_by_learning_rate(stepped))
    ours, _ = train(rmsprop(stepped, momentum=0.9, lr_in_momentum=False), gradients(10))
    theirs, _ = train(by_hand, gradients(10))
    assert furthest(ours, theirs) <= 1e-6


@pytest.mark.parametrize("order", [True, False])
@pytest.mark.parametrize("rate", [0.1, stepped], ids=["constant", "stepped"])
@pytest.mark.parametrize("decay", [0.5, lambda count: 0.5 / (1 + count)], ids=["constant", "schedule"])
@pytest.mark.parametrize("momentum", [None, 0.9])
def test_decoupled_decay_shrinks_by_the_learning_rate_times_the_decay(order, rate, decay, momentum):
    at = lambda number, t: number(t) if callable(number) else number  # noqa: E731
    tx = rmsprop(rate, momentum=momentum, weight_decay=decay, lr_in_momentum=order)
    plain = rmsprop(rate, momentum=momentum, lr_in_momentum=order)
    params, state, bare = PARAMS, tx.init(PARAMS), plain.init(PARAMS)
    for t, g in enumerate(gradients(8)):
        updates, state = tx.update(g, state, params)
        steps, bare = plain.update(g, bare)
        shrunk = jax.tree.map(lambda p, u, t=t: p * (1 - at(rate, t) * at(decay, t)) + u, params, steps)
        params = optax.apply_updates(params, updates)
        assert furthest(params, shrunk) <= 1e-6


@pytest.mark.parametrize("order", [True, False])
def test_coupled_decay_is_an_l2_penalty_s_gradient(order):
    tx = rmsprop(0.1, momentum=0.9, weight_decay=0.5, decoupled_weight_decay=False, lr_in_momentum=order)
    plain = rmsprop(0.1, momentum=0.9, lr_in_momentum=order)
    params, state, bare = PARAMS, tx.init(PARAMS), plain.init(PARAMS)
    for g in gradients(8):
        updates, state = tx.update(g, state, params)
        expected, bare = plain.update(jax.tree.map(lambda g, p: g + 0.5 * p, g, params), bare)
        assert furthest(updates, expected) <= 1e-6
        params = optax.apply_updates(params, updates)


@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize(
    "mask",
    [{"w": True, "b": False}, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)],
    ids=["tree", "function"],
)
def test_a_mask_chooses_what_decays(decoupled, mask):
    options = {"weight_decay": 0.5, "decoupled_weight_decay": decoupled}
    grads = gradients(4)
    (masked, _), (everywhere, _), (nowhere, _) = (
        train(rmsprop(0.1, **more), grads) for more in (options | {"weight_decay_mask": mask}, options, {})
    )
    assert furthest([p["w"] for p in masked], [p["w"] for p in everywhere]) == 0
    assert furthest([p["b"] for p in masked], [p["b"] for p in nowhere]) == 0


def test_a_mask_may_be_a_prefix_and_a_masked_leaf_does_not_meet_its_parameter():
    params = {"a": {"x": jnp.array([jnp.inf]), "y": jnp.ones(2)}, "b": jnp.ones(2)}
    tx = rmsprop(0.1, weight_decay=0.1, weight_decay_mask={"a": False, "b": True})
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["a"]["x"], -0.1 * 10**0.5, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], -0.1 * 10**0.5 - 0.01, rtol=1e-6)


def test_zero_decay_keeps_its_link_and_none_has_none():
    state = rmsprop(0.1, weight_decay=0.0).init(PARAMS)
    assert len(state) == len(rmsprop(0.1).init(PARAMS)) + 1
    assert len(rmsprop(0.1, momentum=0.0).init(PARAMS)) == len(state)


@pytest.mark.full
@pytest.mark.parametrize("param", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("grad", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("decoupled", [True, False])
def test_every_buffer_keeps_its_type_and_the_update_has_the_gradient_s(param, grad, decoupled):
    with jax.enable_x64(True):
        rates = (0.01, np.float64(0.01), jnp.float32(0.01), jnp.float64(0.01), stepped)
        for rate, order in itertools.product(rates, (True, False)):
            options = {"decoupled_weight_decay": decoupled, "lr_in_momentum": order}
            tx = rmsprop(rate, momentum=jnp.float64(0.9), weight_decay=0.1, **options)
            params = {"w": jnp.ones(3, param)}
            before = tx.init(params)
            updates, after = tx.update({"w": jnp.ones(3, grad)}, before, params)
            assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after)
            assert optax.tree.get(after, "trace")["w"].dtype == ("float64" if param == "float64" else "float32")
            assert updates["w"].dtype == grad


def test_what_does_not_fit_the_gradient_s_dtype_saturates():
    tx = rmsprop(1e6, 0.99)
    updates, state = tx.update(jnp.array([6e4, -1.0], jnp.float16), tx.init(jnp.ones(2, jnp.float16)))
    assert updates.tolist() == [-65504.0, 65504.0]
    assert jnp.isfinite(optax.tree.get(state, "nu")).all()


def test_an_l2_penalty_cannot_overflow_in_half_precision():
    params = jnp.full(1, 6e4, jnp.float16)
    tx = rmsprop(0.1, weight_decay=10.0, decoupled_weight_decay=False)
    updates, _ = tx.update(jnp.zeros(1, jnp.float16), tx.init(params), params)
    np.testing.assert_allclose(updates, -0.1 * 10**0.5, rtol=1e-3)


def test_a_none_gradient_leaves_the_parameter_and_every_buffer_alone():
    tx = rmsprop(0.1, centered=True, momentum=0.9, weight_decay=0.1)
    grads = gradients(3)
    (params,), state = train(tx, grads[:1])
    updates, after = tx.update(grads[1] | {"b": None}, state, params)
    moved = optax.apply_updates(params, updates)
    assert (moved["b"] == params["b"]).all()
    assert (moved["w"] != params["w"]).all()
    for name in ("variance", "mu", "trace"):
        before, now = optax.tree.get(state, name), optax.tree.get(after, name)
        assert (before["b"] == now["b"]).all()
        assert (before["w"] != now["w"]).all()
    train(tx, grads[2:], moved, after)


def test_complex_parameters_decay_and_keep_their_momentum():
    params = {"w": jnp.array([1 + 2j, -1j], jnp.complex64)}
    tx = rmsprop(0.1, momentum=0.9, weight_decay=0.5, centered=True)
    grads = {"w": jnp.array([3 - 4j, 1 + 1j], jnp.complex64)}
    updates, state = tx.update(grads, tx.init(params), params)
    u = grads["w"] / np.sqrt(0.9 * 0.1 * np.abs(grads["w"]) ** 2 + 1e-8)
    np.testing.assert_allclose(updates["w"], -0.1 * u - 0.05 * params["w"], rtol=1e-5)
    assert optax.tree.get(state, "variance")["w"].dtype == np.float32
    assert optax.tree.get(state, "trace")["w"].dtype == np.complex64


@pytest.mark.parametrize("bad", [1.5, 1.0, -0.1, float("nan"), "0.9", None])
def test_a_decay_outside_0_1_is_refused(bad):
    with pytest.raises((ValueError, TypeError), match=r"`decay` must be a number in \[0, 1\), got"):
        rmsprop(0.1, decay=bad)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "0.01", [0.01], True, 1j, np.bool_(True), object()])
@pytest.mark.parametrize("name", ["learning_rate", "eps", "initial_scale", "weight_decay"])
def test_what_is_not_a_finite_number_is_refused(name, bad):
    interval = r"\(-inf, inf\)" if name == "learning_rate" else r"\[0, inf\)"
    with pytest.raises((ValueError, TypeError), match=rf"`{name}` must be a number in {interval}, got"):
        rmsprop(**({"learning_rate": 0.1} | {name: bad}))


@pytest.mark.parametrize("name", ["eps", "initial_scale", "weight_decay"])
def test_a_negative_number_is_refused_except_for_the_rate(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be a number in \[0, inf\), got -1e-08"):
        rmsprop(0.1, **{name: -1e-8})


def test_a_number_beyond_float32_is_told_where_float32_ends():
    for bad in (1e39, -1e39, 10**400):
        with pytest.raises(ValueError, match=r"`learning_rate` must be a number that float32 holds, at most 3.4e38"):
            rmsprop(bad)
    for name in ("eps", "initial_scale", "weight_decay"):
        with pytest.raises(ValueError, match=f"`{name}` must be a number that float32 holds, at most 3.4e38, got"):
            rmsprop(0.1, **{name: 1e39})


@pytest.mark.parametrize("bad", [1.5, 1.0, -0.5, float("nan"), "0.9"])
def test_a_momentum_outside_0_1_is_refused(bad):
    with pytest.raises((ValueError, TypeError), match=r"`momentum` must be a number in \[0, 1\), got"):
        rmsprop(0.1, momentum=bad)


@pytest.mark.parametrize("name", ["learning_rate", "eps"])
def test_none_is_no_number(name):
    with pytest.raises(TypeError, match=f"`{name}` must be a number"):
        rmsprop(**({"learning_rate": 0.1} | {name: None}))


@pytest.mark.parametrize("name", ["learning_rate", "decay", "eps", "initial_scale", "momentum", "weight_decay"])
def test_arrays_must_be_scalars_in_float32_or_better(name):
    for array in (jnp.full((2, 1), 0.1), np.full((1,), 0.1)):
        with pytest.raises(ValueError, match=rf"`{name}` must be a number .* got shape"):
            rmsprop(**({"learning_rate": 0.1} | {name: array}))
    for half in (jnp.bfloat16(0.5), jnp.float16(0.5), np.float16(0.5)):
        with pytest.raises(TypeError, match=rf"`{name}` must be .* float32 or better.*hyperparam_dtype"):
            rmsprop(**({"learning_rate": 0.1} | {name: half}))
    for wrong in (jnp.array(True), jnp.array(1j)):
        with pytest.raises(TypeError, match=rf"`{name}` must be a number .* got dtype"):
            rmsprop(**({"learning_rate": 0.1} | {name: wrong}))


@pytest.mark.parametrize("number", [0, np.float32(0), np.int64(0), np.array(0.0), jnp.float32(0), jnp.array(0)])
def test_any_kind_of_real_scalar_is_a_number(number):
    tx = rmsprop(number, number, number, number, momentum=number, weight_decay=number)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    assert furthest(updates, jax.tree.map(jnp.zeros_like, PARAMS)) == 0


@pytest.mark.parametrize(
    "name", ["eps_in_sqrt", "centered", "nesterov", "bias_correction", "lr_in_momentum", "decoupled_weight_decay"]
)
@pytest.mark.parametrize("bad", ["False", 0, None, jnp.array(True), lambda count: True])
def test_a_switch_that_is_no_bool_is_refused(name, bad):
    with pytest.raises(TypeError, match=f"`{name}` must be True or False"):
        rmsprop(0.1, momentum=0.9, weight_decay=0.1, **{name: bad})


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="`centered` and `bias_correction`"):
        rmsprop(0.1, centered=True, bias_correction=True)
    with pytest.raises(ValueError, match="`nesterov` needs `momentum`"):
        rmsprop(0.1, nesterov=True)
    with pytest.raises(ValueError, match="`weight_decay_mask` needs `weight_decay`"):
        rmsprop(0.1, weight_decay_mask={"w": True})


def test_an_unknown_argument_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match=r"no argument `alpha`. Did you mean `decay`\? .*learning_rate, decay, eps"):
        rmsprop(0.1, alpha=0.99)


@pytest.mark.parametrize("bad", [jnp.ones(2), float("nan"), jnp.bfloat16(0.1), None])
def test_a_schedule_that_gives_no_number_is_refused_when_it_is_traced(bad):
    tx = rmsprop(lambda count: bad)
    with pytest.raises((ValueError, TypeError), match="`learning_rate` must be a number"):
        jax.jit(tx.update)(PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize(
    "leaf",
    [jnp.arange(3), jnp.array([True]), 3, True, "text", jnp.tanh, jax.random.key(0)],
    ids=lambda leaf: getattr(leaf, "__name__", str(leaf)),  # an address would differ between pytest-xdist's workers
)
def test_a_parameter_that_is_not_inexact_is_refused_by_its_path(leaf):
    message = r"`params` at layer/steps must be a floating-point or complex array, got .* optax.masked"
    for tx in (rmsprop(0.1), rmsprop(0.1, momentum=0.9, weight_decay=0.1, decoupled_weight_decay=False)):
        with pytest.raises(TypeError, match=message):
            tx.init({"layer": {"steps": leaf, "w": jnp.ones(2)}})


def test_a_gradient_that_is_not_inexact_is_refused_by_its_path():
    tx = rmsprop(0.1)
    state = tx.init(PARAMS)
    with pytest.raises(TypeError, match="`updates` at b must be a floating-point or complex array, got int32"):
        tx.update(PARAMS | {"b": jnp.arange(3)}, state)


def test_a_complex_gradient_of_a_real_parameter_is_refused_and_the_reverse():
    real, imaginary = {"w": jnp.ones(2)}, {"w": jnp.ones(2, jnp.complex64)}
    tx = rmsprop(0.1)
    with pytest.raises(TypeError, match="`updates` at w is complex64, but the parameter is float32"):
        tx.update(imaginary, tx.init(real), real)
    with pytest.raises(TypeError, match="`updates` at w is float32, but the parameter is complex64"):
        tx.update(real, tx.init(imaginary), imaginary)


@pytest.mark.parametrize(
    "shapes", [((3,), (3, 1)), ((3,), (8, 3)), ((3,), (1,)), ((3,), ()), ((3, 1), (3,)), ((), (3,))], ids=str
)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("with_params", [False, True])
def test_a_gradient_of_another_shape_is_refused_by_its_path_and_never_broadcast(shapes, compiled, with_params):
    tx = rmsprop(0.1, momentum=0.9)
    params, grads = ({"layer": {"kernel": jnp.ones(shape)}} for shape in shapes)
    update = jax.jit(tx.update) if compiled else tx.update
    with pytest.raises(ValueError, match="at layer/kernel") as error:
        update(grads, tx.init(params), params if with_params else None)
    assert all(str(shape) in str(error.value) for shape in shapes)


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({"w": 1}, "missing: b"),
        ({"w": 1, "b": 1, "x": 1}, "unexpected: x"),
        ({"w": 1, "c": 1}, "missing: b; unexpected: c"),
        ({"w": {"deep": 1}, "b": 1}, "missing: w; unexpected: w/deep"),
        ([1, 1], "missing: b, w; unexpected: 0, 1"),
        (1, "missing: b, w"),
    ],
)
def test_a_gradient_of_another_structure_is_refused_by_the_leaves_that_differ(grads, message):
    tx = rmsprop(0.1)
    with pytest.raises(ValueError, match=message):
        tx.update(jax.tree.map(lambda _: jnp.ones(3), grads), tx.init({"w": jnp.ones(3), "b": jnp.ones(3)}))


def test_the_same_leaves_in_other_containers_are_refused():
    tx = rmsprop(0.1)
    with pytest.raises(ValueError, match="containers do not"):
        tx.update((jnp.ones(3),), tx.init([jnp.ones(3)]))


def test_a_gradient_where_the_parameter_is_none_is_refused():
    tx = rmsprop(0.1)
    with pytest.raises(ValueError, match="unexpected: b"):
        tx.update({"w": jnp.ones(3), "b": jnp.ones(3)}, tx.init({"w": jnp.ones(3), "b": None}))


OTHERS = {
    "centered": {"centered": True},
    "momentum": {"momentum": 0.9},
    "bias_correction": {"bias_correction": True},
    "schedule": {"learning_rate": stepped},
    "weight_decay": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_a_state_made_with_other_options_is_refused_and_left_as_it_was(options):
    plain, other = rmsprop(0.1), rmsprop(**({"learning_rate": 0.1} | options))
    for tx, maker in ((plain, other), (other, plain)):
        state = maker.init(PARAMS)
        before = jax.tree.map(np.array, state)
        with pytest.raises(ValueError, match="not made by init with these options") as error:
            jax.jit(tx.update, donate_argnums=1)(gradients(1)[0], state, PARAMS)
        assert "built-in" not in str(error.value)
        assert furthest(before, state) == 0


def test_a_state_of_optax_or_of_no_optimizer_is_refused():
    for state in (optax.rmsprop(0.1).init(PARAMS), {"nu": PARAMS}, None, ()):
        with pytest.raises(ValueError, match="not made by init"):
            rmsprop(0.1).update(PARAMS, state)


@pytest.mark.parametrize("name", ["variance", "trace", "mu"])
def test_a_buffer_of_another_shape_or_precision_is_refused_by_its_name(name):
    tx = rmsprop(0.1, momentum=0.9, centered=True)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=rf"`updates` at b .* but `state.{name}` there has shape \(1,\)"):
        tx.update(PARAMS, optax.tree.set(state, **{name: PARAMS | {"b": jnp.ones(1)}}))
    with pytest.raises(TypeError, match=f"`state.{name}` at w must be float32 or better, got float16"):
        tx.update(PARAMS, optax.tree.set(state, **{name: PARAMS | {"w": PARAMS["w"].astype("float16")}}))


def test_decay_without_parameters_is_refused():
    tx = rmsprop(0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match="`params` must be passed to update"):
        tx.update(PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize("mask", [{"w": "yes", "b": True}, {"w": 1, "b": 0}])
def test_a_mask_of_anything_but_bools_is_refused(mask):
    tx = rmsprop(0.1, weight_decay=0.1, weight_decay_mask=mask)
    with pytest.raises(TypeError, match="`weight_decay_mask` must be True or False"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


def test_a_mask_that_does_not_fit_is_refused():
    tx = rmsprop(0.1, weight_decay=0.1, weight_decay_mask={"w": True})
    with pytest.raises(ValueError, match="`weight_decay_mask` must fit the parameters"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)
