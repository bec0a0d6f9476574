"""Momentum as a bias-corrected average of the scaled steps: its equations, its state, and moving it."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import reference
from kit.foreign_states import torch_state
from kit.rows import rows
from kit.storing import by_path
from kit.trees import furthest, same
from kit.two_leaves import PARAMS, adapted, gradients, make, stepped, train

from rmsprop_optax import checkpoint, compression, diagnostics, moments, rmsprop, scale_by_rms, sharding

AVERAGE = {"momentum": 0.9, "average_momentum": True}
OUTSIDE = AVERAGE | {"lr_in_momentum": False}
DECAYS = ({}, {"weight_decay": 0.5}, {"weight_decay": 0.5, "decoupled_weight_decay": False})
SECONDS = ({}, {"bias_correction": True}, {"centered": True, "eps": 1e-2}, {"eps_in_sqrt": False, "initial_scale": 1.0})


def chained(rate, second, order, decay):
    """The same rule as a chain of optax's links, our rule in front, which has tests of its own."""
    links = [scale_by_rms(**second), optax.ema(0.9, debias=True)]
    links.insert(1 if order else 2, optax.scale_by_learning_rate(rate))
    decayed = optax.add_decayed_weights(0.5)
    if "decoupled_weight_decay" in decay:
        links.insert(0, decayed)
    elif decay and order:
        links.append(optax.chain(optax.add_decayed_weights(-0.1 * 0.5)))
    elif decay:
        links.insert(2, decayed)
    return optax.chain(*links)


@pytest.mark.parametrize(
    ("second", "decay", "order"),
    [
        pytest.param(
            second, decay, order, id=f"{second}-{decay}-{order}", marks=[] if i in (0, 9) else pytest.mark.full
        )
        for i, (second, decay, order) in enumerate(itertools.product(SECONDS, DECAYS, (True, False)))
    ],
)
def test_it_is_the_chain_with_optax_s_ema_behind_the_rule(second, decay, order):
    rate = 0.1 if order and decay else stepped
    ours = rmsprop(rate, **AVERAGE, **second, **decay, lr_in_momentum=order)
    theirs = chained(rate, second, order, decay)
    (ours, state), (theirs, there) = (train(tx, gradients(10)) for tx in (ours, theirs))
    assert furthest(ours, theirs) <= 2e-6
    averages = [entry for entry in state if isinstance(entry, optax.EmaState)]
    expected = [entry for entry in there if isinstance(entry, optax.EmaState)]
    assert furthest(averages, expected) <= 2e-6


@pytest.mark.parametrize(
    ("order", "nesterov"), rows([*itertools.product((True, False), ("none", "trace"))], [(False, "trace")])
)
def test_it_follows_the_float64_reference(order, nesterov):
    switches = {"decay": 0.9, "eps": 1e-8, "bias_correction": True, "momentum": 0.9, "average_momentum": True}
    switches |= {"lr_in_momentum": order, "nesterov": nesterov, "weight_decay": 0.1, "wd_mode": "decoupled"}
    grads, rates = gradients(50), [float(stepped(t)) for t in range(50)]
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: np.asarray(x, np.float64), (PARAMS, grads))
        theirs, last = reference.trajectory(switches, *wide, rates)
        options = {"bias_correction": True, "nesterov": nesterov == "trace", "weight_decay": 0.1}
        tx = rmsprop(lambda count: jnp.asarray(rates)[count], **AVERAGE, **options, lr_in_momentum=order)
        ours, state = train(tx, jax.tree.map(jnp.asarray, wide[1]), jax.tree.map(jnp.asarray, wide[0]))
    assert furthest(ours, theirs) <= 1e-12
    ema = optax.tree.get(state, "ema")
    assert furthest(jax.tree.map(jnp.negative, ema) if order else ema, last["mom"]) <= 1e-12


def test_nesterov_is_dreamer_v3_s_and_not_adam_s():
    tx = rmsprop(1.0, decay=0.0, eps=0.0, **OUTSIDE, nesterov=True)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS))
    np.testing.assert_allclose(jnp.abs(updates["w"]), 1.9, rtol=1e-6)  # (0.9 * 0.1 + 0.1) / (1 - 0.9)
    adam = optax.adam(1.0, b2=0.0, eps=0.0, nesterov=True)
    theirs, _ = adam.update(PARAMS, adam.init(PARAMS))
    assert furthest(updates, theirs) > 0.1
    assert "not that of Adam" in inspect.getdoc(rmsprop)


def test_a_steady_gradient_takes_the_steps_that_it_takes_without_momentum():
    steady = [PARAMS] * 12
    average, _ = train(rmsprop(0.1, bias_correction=True, **AVERAGE), steady)
    without, _ = train(rmsprop(0.1, bias_correction=True), steady)
    assert furthest(average, without) <= 2e-6


def test_a_momentum_of_0_is_no_momentum():
    ours, _ = train(rmsprop(stepped, momentum=0.0, average_momentum=True), gradients(6))
    assert furthest(ours, train(rmsprop(stepped), gradients(6))[0]) <= 1e-6


def test_1_minus_momentum_is_exact_before_the_cast():
    tx = rmsprop(1.0, decay=0.0, eps=0.0, momentum=0.9999999, average_momentum=True)
    updates, state = tx.update(PARAMS, tx.init(PARAMS))
    np.testing.assert_allclose(jnp.abs(updates["w"]), 1.0, rtol=1e-6)
    np.testing.assert_allclose(jnp.abs(optax.tree.get(state, "ema")["w"]), 1e-7, rtol=1e-6)


def test_it_is_refused_without_momentum_and_is_a_switch_by_name():
    with pytest.raises(ValueError, match=r"`average_momentum` needs `momentum`, got momentum=None. Pass momentum=0.9"):
        rmsprop(0.1, average_momentum=True)
    with pytest.raises(TypeError, match="`average_momentum` must be True or False, got 1"):
        rmsprop(0.1, momentum=0.9, average_momentum=1)
    parameter = inspect.signature(rmsprop).parameters["average_momentum"]
    assert (parameter.default, parameter.kind) == (False, inspect.Parameter.KEYWORD_ONLY)


def test_the_state_of_a_sum_is_refused_and_the_reverse():
    (_, of_sum), (_, of_average) = (train(make(**o), gradients(2)) for o in ({"momentum": 0.9}, AVERAGE))
    for tx, state in ((make(**AVERAGE), of_sum), (make(momentum=0.9), of_average)):
        with pytest.raises(ValueError, match=r"(optax.EmaState.*optax.TraceState|optax.TraceState.*optax.EmaState)"):
            tx.update(PARAMS, state)


def test_its_count_is_found_by_name_where_optax_s_is():
    chain = lambda rate: optax.chain(optax.scale_by_rms(), optax.ema(0.9), optax.scale_by_learning_rate(rate))  # noqa: E731
    for make_one in (chain, lambda rate: make(**OUTSIDE, learning_rate=rate)):
        assert int(optax.tree.get(make_one(0.1).init(PARAMS), "count")) == 0
        with pytest.raises(KeyError):
            optax.tree.get(make_one(stepped).init(PARAMS), "count")


# told from a user's own optax.ema by its place

BOTH = optax.chain(make(**AVERAGE), optax.ema(0.5))


def test_the_average_in_our_tuple_is_a_moment_and_a_user_s_own_ema_is_not():
    for options in (AVERAGE, OUTSIDE, OUTSIDE | {"weight_decay": 0.1}, AVERAGE | {"learning_rate": stepped}):
        state = optax.MultiSteps(optax.chain(optax.ema(0.5), make(**options), optax.ema(0.5)), 2).init(PARAMS)
        found = moments.entries(state)
        assert sorted(name for _, entry in found for name in moments.of(entry)) == ["ema", "nu"]
        assert all(path[1].idx == 1 for path, _ in found)
    flat = optax.chain(scale_by_rms(), optax.trace(0.9), optax.scale(-0.1), optax.ema(0.5)).init(PARAMS)
    assert [[*moments.of(entry)] for _, entry in moments.entries(flat)] == [["nu"], ["trace"]]
    assert moments.entries(optax.chain(optax.scale_by_adam(), optax.ema(0.5)).init(PARAMS))[-1][0][0].idx == 0


def test_codecs_hold_the_average_and_leave_a_user_s_own_ema():
    tx = compression.compressed(BOTH, nu=compression.RmsByte(), ema=compression.SignedByte(0.01))
    state = tx.init(PARAMS)
    inner, outer = state.inner_state[0][2], state.inner_state[1]
    assert (inner.ema["w"].dtype, outer.ema["w"].dtype) == (jnp.int8, jnp.float32)


@pytest.mark.full
def test_an_average_in_codes_trains_and_comes_back_to_the_same_bits():
    tx = compression.compressed(BOTH, nu=compression.RmsByte(), ema=compression.SignedByte(0.01))
    grads = gradients(30)
    (ended, _), (bare, _) = train(tx, grads), train(BOTH, grads)
    moved = furthest(bare[-1], PARAMS)
    assert 0 < furthest(ended[-1], bare[-1]) <= 0.1 * moved
    codecs = {"nu": compression.RmsByte(), "ema": compression.SignedByte(0.01)}
    _, state = train(tx, grads)
    assert same(compression.recompress(compression.decompress(state, **codecs), **codecs), state)


def test_codecs_that_do_not_fit_an_average_are_refused():
    for tx in (optax.chain(make(momentum=0.9), optax.ema(0.9)), optax.ema(0.9)):
        with pytest.raises(ValueError, match="`ema` is no field of the state of this transformation"):
            compression.compressed(tx, ema=compression.BFloat16()).init(PARAMS)
    with pytest.raises(ValueError, match="`ema` can be negative"):
        compression.compressed(make(**AVERAGE), ema=compression.RmsByte())
    with pytest.raises(ValueError, match="no second moment beside it"):
        compression.compressed(make(**AVERAGE), ema=compression.SignedByte(relative_to="nu")).init(PARAMS)
    coded = compression.compressed(make(**AVERAGE), ema=compression.SignedByte(0.01)).init(PARAMS)
    with pytest.raises(TypeError, match=r"is in codes. Pass ema="):
        compression.decompress(coded, nu=compression.RmsByte())


def test_diagnostics_and_shardings_know_it():
    rates = diagnostics.effective_learning_rate(make(**AVERAGE, initial_scale=1.0).init(PARAMS), 0.01)
    assert {path: float(rate["b"][0]) for path, rate in rates.items()} == {"0/ScaleByRmsState.nu": pytest.approx(0.01)}
    mesh = jax.make_mesh((1,), ("x",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    layout = sharding.state_shardings(make(**AVERAGE), PARAMS, split)
    assert layout[2].ema == {"w": split, "b": split}
    assert layout[2].count.is_fully_replicated


# checkpoints


def test_a_dictionary_with_ema_fills_a_state_and_its_count():
    _, state = train(make(**AVERAGE), gradients(5))
    given = {"nu": state[0].nu, "ema": state[2].ema, "count": 5, "lr_in_momentum": True}
    assert same(checkpoint.restore(make(**AVERAGE).init(PARAMS), given), state)
    refusals = {
        "has no `count`": {"count": None},
        "`moments` has `trace`, `state` does not": {"ema": None, "trace": state[2].ema},
        "`state` has `ema`, `moments` does not.*average_momentum=True": {"ema": None},
        "has a momentum with lr_in_momentum=False": {"lr_in_momentum": False},
    }
    for message, change in refusals.items():
        with pytest.raises(ValueError, match=message):
            checkpoint.restore(make(**AVERAGE).init(PARAMS), given | change)
    with pytest.raises(ValueError, match=r"`state` has `trace`, `moments` does not.*not made with momentum, a sum"):
        checkpoint.restore(make(momentum=0.9).init(PARAMS), given)
    with pytest.raises(ValueError, match=r"`moments` has `ema`, `state` does not.*Build .* average_momentum=True"):
        checkpoint.restore(make().init(PARAMS), given)
    own = optax.ema(0.5).update(PARAMS, optax.ema(0.5).init(PARAMS))[1]
    assert same(checkpoint.restore(optax.ema(0.5).init(PARAMS), own._asdict()), own)


def test_a_state_without_types_is_told_by_the_place_of_the_average():
    _, state = train(make(**AVERAGE), gradients(3))
    assert same(checkpoint.restore(make(**AVERAGE).init(PARAMS), by_path(state)), state)
    with pytest.raises(ValueError, match="The ema stands elsewhere in the list"):
        checkpoint.restore(make(**OUTSIDE).init(PARAMS), by_path(state))


def test_a_sum_and_an_average_are_not_made_of_each_other():
    for old, new, names in (
        ({"momentum": 0.9}, AVERAGE, ("trace", "ema")),
        (AVERAGE, {"momentum": 0.9}, ("ema", "trace")),
    ):
        moved, report = adapted(old | {"learning_rate": stepped}, new | {"learning_rate": stepped}, gradients(5))
        assert report["0/nu"] == report["1/count"] == "continued"
        assert {report[f"2/{names[0]}"], report[f"2/{names[1]}"]} == {"dropped", "started"}
        assert furthest(moved[2], make(**new).init(PARAMS)[2]) == 0
        if "average_momentum" in new:
            assert (report["2/count"], int(moved[2].count), int(moved[1].count)) == ("started", 0, 5)


def test_an_average_goes_on_with_its_own_count_and_the_path_is_the_uninterrupted_one():
    grads = gradients(12)
    _, state = train(make(momentum=0.9, bias_correction=True), grads[:4])
    young, _ = checkpoint.adapt(state, make(**AVERAGE, bias_correction=True), PARAMS)
    _, young = train(make(**AVERAGE, bias_correction=True), grads[4:6], state=young)
    moved, report = checkpoint.adapt(young, make(**AVERAGE, learning_rate=stepped), PARAMS)
    assert report["2/ema"] == report["2/count"] == "continued"
    assert [int(moved[2].count), int(moved[1].count)] == [2, 6]
    whole, _ = train(make(**AVERAGE), grads)
    _, half = train(make(**AVERAGE), grads[:6])
    moved, _ = checkpoint.adapt(half, make(**OUTSIDE), PARAMS, learning_rate=0.01)
    rest, _ = train(make(**OUTSIDE), grads[6:], train(make(**AVERAGE), grads[:6])[0][-1], moved)
    assert furthest(rest[-1], whole[-1]) <= 1e-6
    with pytest.raises(ValueError, match="its momentum differs by a factor of minus the learning rate"):
        checkpoint.adapt(half, make(**OUTSIDE), PARAMS)


def test_the_age_of_an_average_is_not_taken_for_that_of_the_run():
    _, state = train(make(**AVERAGE), gradients(3))
    with pytest.raises(ValueError, match="Pass `count`"):
        checkpoint.adapt(state, make(**AVERAGE, bias_correction=True), PARAMS)
    moved, _ = checkpoint.adapt(state, make(**AVERAGE, bias_correction=True), PARAMS, count=7)
    assert [int(moved[0].count), int(moved[2].count)] == [7, 3]


def test_an_ensemble_is_told_by_the_count_of_the_average():
    members = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)
    state = jax.vmap(make(**AVERAGE).init)(members)
    moved, _ = checkpoint.adapt(state, make(**AVERAGE, eps=1e-3), members)
    assert same(moved, state)


def test_optax_s_chain_of_the_same_rule_is_read_and_filled():
    chain = optax.chain(optax.scale_by_rms(), optax.ema(0.9), optax.scale_by_learning_rate(0.01))
    grads = gradients(8)
    whole, _ = train(chain, grads)
    start, theirs = train(chain, grads[:4])
    tx = make(**OUTSIDE)
    given = checkpoint.from_optax(theirs)
    assert given.keys() == {"nu", "ema", "count", "lr_in_momentum"}
    for state in (checkpoint.restore(tx.init(PARAMS), given), checkpoint.adapt(theirs, tx, PARAMS)[0]):
        assert furthest(train(tx, grads[4:], start[-1], state)[0][-1], whole[-1]) <= 1e-6
        assert furthest(checkpoint.to_optax(state, chain.init(PARAMS)), theirs) <= 1e-6


def test_optimizers_without_an_average_refuse_it_by_name():
    _, state = train(make(**AVERAGE), gradients(2))
    with pytest.raises(ValueError, match=r"2/trace started|2/ema .*dropped"):
        checkpoint.to_optax(state, optax.rmsprop(0.01, momentum=0.9).init(PARAMS))
    group = {"lr": 0.01, "alpha": 0.9, "eps": 1e-8, "momentum": 0.9, "centered": False, "params": [0, 1]}
    with pytest.raises(ValueError, match=r"`state` has `ema`, an average of the steps.*average_momentum=False"):
        checkpoint.to_torch(state, {"state": {}, "param_groups": [group]}, PARAMS, convert=dict, count=2)


def test_the_momentum_of_a_file_is_not_taken_for_an_average():
    saved = torch_state(momentum=0.9)
    for options in ({}, {"average_momentum": True}):
        tx = rmsprop(0.01, 0.99, eps_in_sqrt=False, momentum=0.9, lr_in_momentum=False, **options)
        if not options:
            assert checkpoint.from_torch(saved, names=["w", "b"], tx=tx).keys() >= {"nu", "trace"}
            continue
        with pytest.raises(ValueError, match="has average_momentum=False, but `average_momentum` is True"):
            checkpoint.from_torch(saved, names=["w", "b"], tx=tx)


@pytest.mark.parametrize(
    ("outer", "order"), [*itertools.product(["clip", "masked", "inject", "apply_if_finite"], [True, False])]
)
def test_the_average_is_found_by_name_in_wrappers(outer, order):
    inner = AVERAGE | {"lr_in_momentum": order}
    wrap = {
        "clip": lambda tx: optax.chain(optax.clip(1.0), tx),
        "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
        "inject": lambda tx: optax.inject_hyperparams(rmsprop)(0.01, **inner),
        "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    }[outer]
    state = wrap(make(**inner)).init(PARAMS)
    assert optax.tree.get(state, "ema")["w"].shape == (2, 3)
    assert len([path for path, entry in moments.entries(state) if "ema" in moments.of(entry)]) == 1
