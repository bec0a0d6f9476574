"""`sweep`: each run equals one trained alone, divergence is found at its step, and the suggested rate is a good one."""

import functools
import inspect
import json
import math
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.rows import rows

from rmsprop_optax import dialects, recipes, rmsprop, scale_by_rms, sweep
from rmsprop_optax.sweep import Sweep

STEEP = np.array([1.0, 10.0])  # curvatures: plain descent is stable below a rate of 2 / 10
TRACES = []


def quadratic(params, batch):
    TRACES.append(1)
    return 0.5 * jnp.sum(jnp.asarray(STEEP, params.dtype) * params**2) + (0.0 if batch is None else jnp.sum(batch) * 0)


def plain_descent(rates, steps):
    """Return the losses of plain descent from (1, 1) in closed form, in float64: shape (rates, steps)."""
    factor = (1 - np.asarray(rates)[:, None, None] * STEEP) ** (2 * np.arange(steps)[:, None])
    return 0.5 * (STEEP * factor).sum(-1)


def regression(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["w"] + params["b"]) - y) ** 2)


def regression_data(steps=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(steps, 8, 3)).astype(np.float32), rng.normal(size=(steps, 8)).astype(np.float32)


def start(key):
    return {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}


PARAMS = {"w": jnp.array([0.3, -0.2, 0.5]), "b": jnp.float32(0.1)}
RATES = [0.003, 0.01, 0.03]  # so small that 12 steps do not amplify round-off


def chained(rate):
    return optax.chain(optax.clip(0.05), rmsprop(rate, momentum=0.5))


WARMUP = optax.warmup_cosine_decay_schedule(0.0, 1.0, 3, 12)


def scheduled(factor):
    return rmsprop(lambda count: factor * WARMUP(count))


def with_momentum_schedule(rate):
    return optax.inject_hyperparams(rmsprop)(rate, momentum=lambda count: 0.9 - 0.5 / (count + 1))


def impala(rate):
    return recipes.impala(None, rate)


def alone(make_tx, rate, batches, params=PARAMS):
    """Train in a plain loop; return the losses and the parameters."""
    tx, losses = make_tx(rate), []
    state = tx.init(params)

    @jax.jit
    def step(params, state, batch):
        loss, grads = jax.value_and_grad(regression)(params, batch)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    for batch in zip(*batches, strict=True):
        params, state, loss = step(params, state, batch)
        losses.append(float(loss))
    return losses, params


@pytest.mark.parametrize(
    ("make_tx", "at_once"),
    rows(
        [
            (rmsprop, 1),
            (rmsprop, 3),
            (optax.adam, 2),
            (chained, 1),
            (chained, 2),
            (scheduled, 1),
            (scheduled, 2),
            (with_momentum_schedule, 1),
            (impala, 3),
        ],
        [(rmsprop, 1), (chained, 2), (impala, 3)],
    ),
)
def test_each_run_equals_one_trained_alone(make_tx, at_once):
    batches, held_out = regression_data(), tuple(x[0] for x in regression_data(1, seed=1))
    found = sweep.learning_rates(make_tx, regression, PARAMS, batches, RATES, held_out=held_out, at_once=at_once)
    for rate, losses, tested in zip(RATES, found.losses, found.held_out, strict=True):
        expected, params = alone(make_tx, rate, batches)
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        np.testing.assert_allclose(tested, regression(params, held_out), rtol=1e-5)
    assert not found.diverged.any()


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_seed_determines_the_initial_parameters_and_the_order_of_the_batches(at_once):
    batches = regression_data()
    found = sweep.learning_rates(rmsprop, regression, start, batches, RATES, seeds=[3, 4], at_once=at_once)
    assert found.losses.shape == (3, 2, 12)
    params, first = start(jax.random.key(4)), found.losses[0, 1, 0]
    possible = [regression(params, batch) for batch in zip(*batches, strict=True)]
    assert np.isclose(first, possible, rtol=1e-5).sum() == 1
    np.testing.assert_array_equal(found.losses[:, :, 0], np.tile(found.losses[:1, :, 0], (3, 1)))


def test_every_seed_takes_each_batch_once_in_a_different_order():
    batches = jnp.arange(12.0)
    found = sweep.learning_rates(optax.sgd, lambda p, batch: batch + 0 * p, jnp.ones(()), batches, [0.1], seeds=3)
    assert [sorted(order) for order in found.losses[0].tolist()] == [list(range(12))] * 3
    assert len({tuple(order) for order in found.losses[0].tolist()}) == 3


def test_fixed_parameters_may_have_seeds_too():
    found = sweep.learning_rates(rmsprop, regression, PARAMS, regression_data(), RATES, seeds=2)
    assert found.seeds == (0, 1)
    assert (found.losses[:, 0] != found.losses[:, 1]).any()


def test_all_rates_share_one_program_and_so_does_the_next_sweep():
    def fresh(params, batch):
        return quadratic(params, batch)

    counts = []
    for rates in ([0.1], np.geomspace(0.001, 0.15, 9), np.geomspace(0.002, 0.1, 5)):
        TRACES.clear()
        sweep.learning_rates(optax.sgd, fresh, jnp.ones(2), None, rates, steps=5, at_once=1)
        counts.append(len(TRACES))
    assert counts[0] <= 2
    assert counts[1:] == [0, 0]


def test_losses_of_plain_descent_equal_the_closed_form():
    rates = [0.02, 0.1, 0.15]
    found = sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2), None, rates, steps=30)
    np.testing.assert_allclose(found.losses, plain_descent(rates, 30), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("at_once", [1, 7])
@pytest.mark.parametrize("above", [3.0, 100.0])
def test_rates_above_two_over_the_curvature_diverge_and_no_others(at_once, above):
    rates = [0.05, 0.1, 0.19, 0.21, 0.3, 1.0, 1e30]
    options = {"steps": 60, "at_once": at_once, "diverged_above": above}
    found = sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2), None, rates, **options)
    with np.errstate(over="ignore"):
        expected = plain_descent(rates, 60)
    assert found.diverged.tolist() == [False] * 3 + [True] * 4
    first = [np.argmax(losses > above * losses[0]) for losses in expected[3:]]
    assert found.diverged_at.tolist() == [-1] * 3 + first
    assert found.edge == 0.19
    assert found.best == 0.1
    for losses, at in zip(found.losses[3:], first, strict=True):
        assert np.isfinite(losses[:at]).all()
        assert np.isnan(losses[at + 1 :]).all()
    without = sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2), None, rates[:3], **options | {"at_once": 1})
    np.testing.assert_allclose(found.losses[:3], without.losses, rtol=1e-5)  # vmapped arithmetic rounds differently


def test_a_diverged_run_takes_no_further_steps():
    calls = []

    def counted(params, batch):
        jax.debug.callback(lambda: calls.append(1))
        return quadratic(params, batch)

    found = sweep.learning_rates(optax.sgd, counted, jnp.ones(2), None, [1.0], steps=500, at_once=1)
    jax.effects_barrier()
    assert len(calls) == found.diverged_at[0] + 1 < 10


def test_a_loss_that_is_nan_diverges_and_one_that_recovers_does_not():
    losses = jnp.array([[1.0, 2.0, jnp.nan, 1.0], [1.0, 99.0, 1.0, 0.5], [1.0, 101.0, 1.0, 0.5]]).T
    found = [sweep.learning_rates(optax.sgd, lambda p, x: x + 0 * p, jnp.ones(()), x, [0.1]) for x in losses.T]
    assert [run.diverged_at.tolist() for run in found] == [[2], [-1], [1]]


def test_a_run_that_ends_above_twice_its_first_loss_diverged_where_it_rose_above_it():
    for sign, ends in ((1.0, [1.0, 3.0, 0.5, 2.5, 2.5]), (-1.0, [-1.0, 1.0, -3.0, 0.5, 0.5])):
        found = sweep.learning_rates(optax.sgd, lambda p, x: x + 0 * p, jnp.ones(()), jnp.array(ends), [0.1])
        assert found.diverged_at.tolist() == [3], sign
        assert not np.isnan(found.losses).any()


def test_a_held_out_loss_that_is_not_finite_counts_as_divergence():
    batches = jnp.zeros(3)
    found = sweep.learning_rates(
        optax.sgd, lambda p, x: p**2 * 0 + 1 / (1 - x), jnp.ones(()), batches, [0.1], held_out=jnp.ones(())
    )
    assert found.diverged_at.tolist() == [3]
    assert found.best is None
    assert found.edge is None


def test_an_infinite_threshold_stops_no_finite_run():
    options = {"steps": 20, "diverged_above": math.inf}
    found = sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2), None, [0.1, 0.3], **options)
    assert np.isfinite(found.losses).all()


def iterated(steps):
    batches = regression_data(steps)
    return zip(*batches, strict=True)


def test_an_iterator_is_read_for_the_given_number_of_steps_and_gives_the_same_runs():
    stacked = sweep.learning_rates(rmsprop, regression, PARAMS, regression_data(), RATES, steps=5)
    batches = iterated(12)
    read = sweep.learning_rates(rmsprop, regression, PARAMS, batches, RATES, steps=5)
    np.testing.assert_array_equal(read.losses, stacked.losses)
    assert len(list(batches)) == 7
    keys = iter([jax.random.key(i) for i in range(5)])
    noisy = sweep.learning_rates(
        optax.sgd, lambda p, key: p * jax.random.normal(key), jnp.ones(()), keys, [1e-6], steps=5
    )
    expected = [jax.random.normal(jax.random.key(i)) for i in range(5)]
    np.testing.assert_allclose(noisy.losses[0], expected, rtol=1e-4)


def test_arguments_are_not_changed():
    params, batches, rates = jax.tree.map(jnp.copy, PARAMS), regression_data(), np.array(RATES)
    for _ in range(2):  # none of their buffers is donated
        sweep.learning_rates(rmsprop, regression, params, batches, rates)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, PARAMS))
    np.testing.assert_array_equal(batches[0], regression_data()[0])
    assert rates.tolist() == RATES


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_parameters_keep_their_dtype_and_the_state_its_own(dtype):
    params = jax.tree.map(lambda p: p.astype(dtype), PARAMS)
    seen = []

    def loss(params, batch):
        seen.append(params["w"].dtype)
        return regression(params, batch).astype(dtype)

    for make_tx in (functools.partial(rmsprop, momentum=0.9), functools.partial(optax.rmsprop, momentum=0.9)):
        same = tuple(np.repeat(x, 12, 0) for x in regression_data(1))
        found = sweep.learning_rates(make_tx, loss, params, same, [0.01])
        assert found.losses[0, -1] < 0.9 * found.losses[0, 0]
    assert set(seen) == {jnp.dtype(dtype)}


def test_float64_is_swept_in_float64():
    with jax.enable_x64(True):
        found = sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2, jnp.float64), None, [0.01], steps=50)
    np.testing.assert_allclose(found.losses, plain_descent([0.01], 50), rtol=1e-12)


def test_the_loss_of_complex_parameters_falls():
    found = sweep.learning_rates(optax.sgd, lambda p, _: jnp.abs(p - 1j) ** 2, jnp.complex64(1), None, [0.3], steps=20)
    assert found.final[0] < 1e-6


def test_a_progress_bar_does_not_change_the_losses(capsys):
    plain = sweep.learning_rates(rmsprop, regression, start, regression_data(), RATES, seeds=2)
    shown = sweep.learning_rates(rmsprop, regression, start, regression_data(), RATES, seeds=2, progress=True)
    np.testing.assert_array_equal(plain.losses, shown.losses)
    written = capsys.readouterr()
    assert "learning rates: 100%" in written.err
    assert "72.0/72.0" in written.err
    assert not written.out


def test_a_progress_bar_without_tqdm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match="pip install tqdm"):
        sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2), None, [0.1], steps=2, progress=True)


def test_repr_has_a_line_for_each_rate_and_to_dict_is_valid_json():
    rates = [0.05, 0.1, 0.4]
    found = sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2), None, rates, steps=20, seeds=2)
    lines = repr(found).splitlines()
    assert lines[0] == "Sweep of 3 learning rates, 2 seeds, 20 steps"
    assert lines[3].split()[0] == "0.1"
    assert lines[3].endswith("best, edge")
    assert lines[4].split(maxsplit=1) == ["0.4", f"diverged at step {found.diverged_at[2, 0]} (2 of 2)"]
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["learning_rates"] == rates
    assert written["best"] == written["edge"] == 0.1
    assert written["seeds"] == [0, 1]
    assert written["diverged"] == [[False] * 2] * 2 + [[True] * 2]
    assert written["final"][2] == [None, None]
    np.testing.assert_allclose(written["losses"][0][0], plain_descent([0.05], 20)[0], rtol=1e-4)


def test_a_sweep_pickles_and_is_found_under_its_public_name():
    found = pickle.loads(pickle.dumps(made([0.2, 0.1, 0.4])))
    assert isinstance(found, sweep.Sweep)
    assert repr(found) == repr(made([0.2, 0.1, 0.4]))
    assert found.suggest() == made([0.2, 0.1, 0.4]).suggest()


BAD = {
    "empty rates": ({"learning_rates": []}, ValueError, "`learning_rates` must have shape"),
    "a scalar rate": ({"learning_rates": 0.1}, ValueError, "`learning_rates` must have shape"),
    "unsorted rates": ({"learning_rates": [0.1, 0.01]}, ValueError, "must ascend"),
    "repeated rates": ({"learning_rates": [0.1, 0.1]}, ValueError, "must ascend"),
    "a rate of zero": ({"learning_rates": [0.0, 0.1]}, ValueError, "must be positive and finite"),
    "a rate of nan": ({"learning_rates": [0.1, np.nan]}, ValueError, "must be positive and finite"),
    "a vector loss": ({"loss_fn": lambda p, b: b[1]}, ValueError, r"must return a scalar, got shape \(8,\)"),
    "a loss with more": ({"loss_fn": lambda p, b: (0.0, b)}, TypeError, "Return the loss alone"),
    "a whole loss": ({"loss_fn": lambda p, b: jnp.int32(1)}, TypeError, "floating-point scalar, got int32"),
    "batches that run out": ({"steps": 13}, ValueError, "run out after 12 of 13 steps"),
    "an iterator that runs out": ({"batches": lambda: iterated(3), "steps": 5}, ValueError, "ran out after 3 of 5"),
    "an iterator without end": ({"batches": lambda: iterated(3)}, ValueError, "`steps` must be given"),
    "no batches and no steps": ({"batches": lambda: None}, ValueError, "`steps` must be given"),
    "batches of several lengths": (
        {"batches": lambda: (np.zeros((3, 8, 3)), np.zeros((4, 8)))}, ValueError, "got lengths {'0': 3, '1': 4}",
    ),
    "a batch of another shape": (
        {"batches": lambda: iter([np.zeros(3), np.zeros(2)]), "steps": 2}, ValueError, r"batches at step 1.*\(2,\)",
    ),
    "a scalar batch": ({"batches": lambda: {"x": 1.0}}, ValueError, "at x must have shape .steps, ...., got a scalar"),
    "a list of batches": ({"batches": lambda: list(iterated(4))}, ValueError, r"iter\(batches\) and steps=4"),
    "a list of one batch": ({"batches": lambda: list(iterated(1))}, ValueError, r"iter\(batches\) and steps=1"),
    "a list of arrays": ({"batches": lambda: list(regression_data()[0])}, ValueError, r"iter\(batches\) and steps=12"),
    "a generator function": ({"batches": lambda: iterated, "steps": 3}, TypeError, "Call it: pass what it returns"),
    "a string for batches": ({"batches": lambda: "train", "steps": 3}, TypeError, "iterator of batches, got 'train'"),
    "a number for batches": ({"batches": lambda: 32, "steps": 3}, TypeError, "iterator of batches, got 32"),
    "arrays of strings": ({"batches": lambda: {"x": np.array(["a", "b"])}}, TypeError, "at x must be numbers, got <U1"),
    "an iterator of strings": ({"batches": lambda: iter("ab"), "steps": 2}, TypeError, "must be numbers, got <U1"),
    "batches without arrays": ({"batches": lambda: {}, "steps": 3}, ValueError, "Pass None if the loss needs no data"),
    "a held-out array for a pair": ({"held_out": np.zeros((2, 8, 3))}, ValueError, "`held_out` must have the struc"),
    "a held-out set without x": ({"held_out": (None, np.zeros(8))}, ValueError, "`held_out` must have the structure"),
    "a held-out column": (
        {"held_out": (np.zeros((8, 3)), np.zeros((8, 1)))}, ValueError, "`held_out` at 1 must have as many axes",
    ),
    "more held-out features": (
        {"held_out": (np.zeros((8, 4)), np.zeros(8))}, ValueError, r"'0': \(8, 4\).*a batch has shapes {'0': \(8, 3\)",
    ),
    "held-out strings": ({"held_out": (np.zeros((8, 3)), np.array(["a"]))}, TypeError, "`held_out` at 1 must be"),
    "a loss that fails": (
        {"loss_fn": lambda p, b: b["x"], "held_out": (np.zeros((8, 3)), np.zeros(8))}, TypeError, "tuple indices",
    ),
    "no steps": ({"steps": 0}, ValueError, r"`steps` must be an integer in \[1, 2\*\*31\), got 0"),
    "half a step": ({"steps": 1.5}, ValueError, "`steps` must be an integer"),
    "steps beyond int32": ({"batches": lambda: None, "steps": 2**31}, ValueError, "`steps` must be an integer"),
    "a word for the rates": ({"learning_rates": "auto"}, TypeError, "must be a sequence of numbers, got 'auto'"),
    "words for the rates": ({"learning_rates": ["0.1", "0.2"]}, TypeError, "must be a sequence of numbers"),
    "no rates": ({"learning_rates": None}, TypeError, "must be a sequence of numbers, got None"),
    "bools for the rates": ({"learning_rates": [True]}, TypeError, "must be a sequence of numbers"),
    "ragged rates": ({"learning_rates": [[0.1], [0.1, 0.2]]}, TypeError, "must be a sequence of numbers"),
    "a generator of rates": ({"learning_rates": (2.0**i for i in (1, 2))}, TypeError, "must be a sequence of numbers"),
    "an optimizer for its factory": ({"make_tx": rmsprop(0.1)}, TypeError, "`make_tx` must be a function"),
    "a factory of something else": ({"make_tx": lambda rate: rate}, TypeError, "must return an optax transformation"),
    "a factory that needs a float": ({"make_tx": lambda rate: optax.sgd(float(rate))}, TypeError, "no float.rate."),
    "a schedule that branches on its peak": (
        {"make_tx": lambda rate: rmsprop(optax.warmup_cosine_decay_schedule(0.0, rate, 3, 12))}, TypeError,
        r"sweep a factor: `lambda factor: rmsprop\(lambda count: factor \* schedule\(count\)\)`",
    ),
    "a schedule that branches in the step": (
        {"make_tx": lambda rate: optax.sgd(lambda count: rate if rate > 0.01 else 0.01)}, TypeError, "sweep a factor",
    ),
    "a momentum schedule": (
        {"make_tx": lambda rate: rmsprop(rate, momentum=lambda count: 0.9)}, TypeError, "optax.inject_hyperparams",
    ),
    "a factory of two numbers": ({"make_tx": lambda rate, decay: rate}, TypeError, "a learning rate and nothing else"),
    "a factory without arguments": ({"make_tx": lambda: optax.sgd(0.1)}, TypeError, "a learning rate and nothing else"),
    "a loss that is a number": ({"loss_fn": 1.0}, TypeError, "`loss_fn` must be a function"),
    "integer parameters": ({"params": {"w": jnp.arange(3)}}, TypeError, "`params` at w must be a floating-point"),
    "no parameters": ({"params": {}}, ValueError, "`params` must have at least one leaf"),
    "parameters to make without a seed": ({"params": start}, ValueError, "Pass seeds=3"),
    "a string for parameters": ({"params": {"w": "w"}}, TypeError, "`params` at w must be an array"),
    "no seeds": ({"seeds": 0}, ValueError, "`seeds` must be"),
    "a bool for seeds": ({"seeds": True}, ValueError, "`seeds` must be"),
    "a float for seeds": ({"seeds": 3.0}, ValueError, "`seeds` must be"),
    "equal seeds": ({"seeds": [1, 1]}, ValueError, "`seeds` must be"),
    "a fractional seed": ({"seeds": [0.5]}, ValueError, "`seeds` must be"),
    "a threshold below the start": ({"diverged_above": 1.0}, ValueError, r"must be a number in \(1, inf\]"),
    "a word for a threshold": ({"diverged_above": "1e3"}, TypeError, r"must be a number in \(1, inf\]"),
    "none at once": ({"at_once": 0}, ValueError, r"`at_once` must be an integer in \[1, 3\].*got 0"),
    "more at once than runs": ({"at_once": 4}, ValueError, r"`at_once` must be an integer in \[1, 3\].*got 4"),
    "more at once than seeds": ({"at_once": 7, "seeds": 2}, ValueError, r"`at_once` must be an integer in \[1, 6\]"),
    "a float at once": ({"at_once": 2.0}, ValueError, "`at_once` must be an integer"),
    "a bool at once": ({"at_once": True}, ValueError, "`at_once` must be an integer"),
    "a word for progress": ({"progress": "yes"}, TypeError, "`progress` must be True or False, got 'yes'"),
    "a number for progress": ({"progress": 1}, TypeError, "`progress` must be True or False, got 1"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_by_name(bad):
    change, kind, message = BAD[bad]
    if callable(change.get("batches")):
        change = change | {"batches": change["batches"]()}
    good = {"make_tx": optax.sgd, "loss_fn": regression, "params": PARAMS, "batches": regression_data()}
    with pytest.raises(kind, match=message):
        sweep.learning_rates(**good | {"learning_rates": RATES} | change)


NOT_OF_A_RATE = {
    "impala": (recipes.impala, "steps"),
    "a3c": (recipes.a3c, "steps"),
    **{name: (getattr(recipes, name), "steps_per_epoch") for name in ("efficientnet", "inception_v3", "mobilenet_v3")},
    "char_rnn": (recipes.char_rnn, "steps_per_epoch"),
    "scale_by_rms": (scale_by_rms, "decay"),
    "rmsprop with a fixed rate": (functools.partial(rmsprop, 0.1), "decay"),
    "optax.clip_by_global_norm": (optax.clip_by_global_norm, "max_norm"),
}


@pytest.mark.parametrize("name", NOT_OF_A_RATE)
def test_a_factory_whose_first_argument_is_not_the_rate_is_refused(name):
    make_tx, first = NOT_OF_A_RATE[name]
    with pytest.raises(TypeError, match=f"this would sweep its `{first}`.*lambda rate: recipes.impala.None, rate."):
        sweep.learning_rates(make_tx, quadratic, jnp.ones(2), None, [0.1, 0.2], steps=2)


@pytest.mark.full
def test_a_factory_with_the_learning_rate_first_is_accepted_whatever_its_name():
    rows = [thing for name in dialects.__all__ if inspect.isfunction(thing := getattr(dialects, name))]
    given = [recipes.dqn, recipes.wgan, functools.partial(recipes.impala, None), optax.inject_hyperparams(rmsprop)]
    for make_tx in [*rows, *given, optax.scale, lambda *args: optax.sgd(*args)]:
        sweep.learning_rates(make_tx, quadratic, jnp.ones(2), None, [1e-4], steps=1)


def test_another_number_is_swept_by_a_lambda_of_it():
    found = sweep.learning_rates(lambda eps: rmsprop(1e-2, eps=eps), quadratic, jnp.ones(2), None, [1e-4, 1e3], steps=2)
    assert found.losses[0, 1] < found.losses[1, 1]  # a large eps makes small steps


def test_a_torch_tensor_for_parameters_is_refused_by_name():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="`params` at w must be an array of JAX or NumPy, got a PyTorch tensor"):
        sweep.learning_rates(rmsprop, regression, {"w": torch.ones(3)}, regression_data(), RATES)


def test_a_held_out_batch_may_have_any_number_of_examples_and_be_a_list():
    held_out = [np.zeros((5, 3), np.float32), np.zeros(5, np.float32)]
    found = sweep.learning_rates(rmsprop, regression, PARAMS, regression_data(), RATES, held_out=held_out)
    assert np.isfinite(found.held_out).all()


def test_checking_the_held_out_batch_adds_no_trace():
    traced = []

    def counted(params, batch):
        traced.append(batch[0].shape)
        return regression(params, batch)

    held_out = (np.zeros((5, 3), np.float32), np.zeros(5, np.float32))
    sweep.learning_rates(rmsprop, counted, PARAMS, regression_data(), RATES, held_out=held_out)
    assert traced.count((5, 3)) == 1


def made(final, rates=None, first=2.0, **more):
    """Return a sweep with these final losses, one row for a rate; inf marks a run that diverged."""
    final = np.asarray(final, float)
    rates = 2.0 ** np.arange(len(final)) if rates is None else np.asarray(rates)
    losses = np.stack([np.full(final.shape, first), final], -1)
    at = np.where(np.isinf(final), 1, -1)
    return Sweep(rates, losses, at, **more)


@pytest.mark.parametrize("lowest", [-0.4, -0.2, 0.0, 0.3])
@pytest.mark.parametrize("spacing", [1.0, 0.5, 0.25])
def test_the_suggestion_is_the_lowest_point_of_a_parabola_in_the_logarithms(lowest, spacing):
    octaves = np.arange(-4, 4.01, spacing)
    found = made(0.1 * 2 ** (0.2 * (octaves - lowest) ** 2), rates=2.0**octaves)
    assert math.isclose(found.suggest().learning_rate, 2.0**lowest, rel_tol=1e-6)


def test_the_suggestion_stays_within_the_rates_and_the_edge():
    falling = made([1.0, 0.5, 0.25, 0.125])
    assert falling.suggest().learning_rate == falling.edge == 8
    assert "sweep larger ones" in falling.suggest().reason
    rising = made([0.1, 0.2, 0.4])
    assert rising.suggest().learning_rate == 1
    assert "sweep smaller ones" in rising.suggest().reason
    cliff = made([0.4, 0.15, 0.1, 2.0, np.inf])
    assert cliff.edge == 4
    assert 2 < cliff.suggest().learning_rate < 4
    assert "stable up to 4" in cliff.suggest().reason
    assert "no larger rate tried is stable" in made([0.8, 0.1, np.inf]).suggest().reason


def test_the_suggestion_is_the_best_rate_if_a_loss_is_not_positive():
    assert made([-0.1, -0.5, -0.3]).suggest().learning_rate == 2


def test_above_the_edge_a_rate_gains_less_than_half_of_what_the_best_does():
    assert made([1.5, 0.2, 1.0, 1.2, 0.9], first=2.0).edge == 4
    assert made([1.9, 0.2, 1.0, 1.0], first=2.0).edge == 8, "a slow rate below the best is stable"
    assert made([[0.5, 0.5], [0.2, 0.2], [0.2, 1.9], [0.3, 0.3]]).edge == 2, "one seed is enough"
    assert made([0.5, np.inf, 0.2]).edge == 1, "nothing above a rate that diverged is called stable"


def test_the_best_rate_has_the_lowest_mean_loss_and_no_diverged_run():
    found = made([[0.5, 0.5], [0.1, 0.6], [0.0, np.inf]], seeds=(0, 1))
    assert found.best == 2
    assert "in the mean of 2 seeds" in found.suggest().reason


def test_nothing_is_suggested_if_everything_diverged():
    found = sweep.learning_rates(optax.sgd, quadratic, jnp.ones(2), None, [1.0, 2.0], steps=20)
    with pytest.raises(ValueError, match="1, the smallest of `learning_rates`, diverged at step 2"):
        found.suggest()


def digits_loss(params, batch):
    x, y = batch
    logits = jax.nn.relu(x @ params["hidden"]) @ params["out"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def digits_start(key):
    hidden, out = jax.random.normal(key, (2, 64, 64)) / 8
    return {"hidden": hidden, "out": out[:, :10]}


@pytest.mark.full
@pytest.mark.parametrize(("make_tx", "octaves"), [(optax.sgd, (-4, 3)), (rmsprop, (-10, -2))])
def test_on_the_digits_the_suggested_rate_beats_half_and_twice_it_with_new_seeds(make_tx, octaves):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).integers(len(images), size=(300, 64))
    batches = (images[chosen] / 16).astype(np.float32), labels[chosen].astype(np.int32)
    train = functools.partial(sweep.learning_rates, make_tx, digits_loss, digits_start, batches)
    rate = train(2.0 ** np.arange(*octaves, 0.5), seeds=5).suggest().learning_rate
    half, itself, twice = train([rate / 2, rate, 2 * rate], seeds=range(100, 110)).final.mean(1)
    assert itself < min(half, twice)
