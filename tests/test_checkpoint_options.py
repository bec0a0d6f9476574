"""A state moves to other options, and from optax's own classes and back; a report says what became of each part."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import reference
from kit.rows import rows
from kit.trees import furthest
from kit.two_leaves import PARAMS, adapted, gradients, make, stepped, train

from rmsprop_optax import checkpoint, rmsprop

# The classes of optax.

CLASSES = {
    "ScaleByRmsState": {},
    "ScaleByRmsWithCountState": {"bias_correction": True},
    "ScaleByRStdDevState": {"centered": True},
}


@pytest.mark.parametrize("schedule", [0.01, stepped], ids=["constant", "scheduled"])
@pytest.mark.parametrize("momentum", rows([None, 0.9], [0.9]))
@pytest.mark.parametrize("name", CLASSES)
def test_a_run_of_optax_goes_on_here_and_back_there(name, momentum, schedule):
    options = {"eps": 1e-3, "momentum": momentum, **CLASSES[name]}
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
    assert furthest(here[0].variance, expected.variance) <= 1e-6
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


def test_switching_momentum_on_keeps_the_mean_square_and_starts_a_trace():
    moved, report = adapted({}, {"momentum": 0.9}, gradients(4))
    assert report == {"0/nu": "continued", "2/trace": "started"}
    chex.assert_trees_all_equal(moved[0].nu, train(make(), gradients(4))[1][0].nu)
    assert not jnp.any(moved[2].trace["w"])
    assert adapted({"momentum": 0.9}, {}, gradients(4))[1] == {"0/nu": "continued", "2/trace": "dropped"}


def test_switching_centering_off_gives_the_mean_square_of_the_same_gradients():
    moved, report = adapted({"centered": True, "momentum": 0.9}, {"momentum": 0.9}, gradients(6))
    assert report == {"0/nu": "continued", "0/mu": "dropped", "2/trace": "continued"}
    chex.assert_trees_all_close(moved[0].nu, train(make(), gradients(6))[1][0].nu, rtol=2e-6)


def test_switching_centering_on_subtracts_the_mean_from_then_on():
    moved, report = adapted({}, {"centered": True}, gradients(6))
    assert report == {"0/variance": "continued", "0/mu": "started"}
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
        np.testing.assert_allclose(state[0].variance[name], nu[name] - mu[name] ** 2, rtol=3e-6)


@pytest.mark.parametrize("inside", [True, False])
def test_moving_the_learning_rate_across_the_momentum_changes_nothing_while_it_is_constant(inside):
    old, new = ({"momentum": 0.9, "lr_in_momentum": order} for order in (inside, not inside))
    moved, report = adapted(old, new, gradients(5), learning_rate=0.01)
    traces = ("2/trace", "1/trace") if inside else ("1/trace", "2/trace")
    assert report == {"0/nu": "continued", traces[1]: "continued"}
    steps, _ = train(make(**old), gradients(10))
    rest, _ = train(make(**new), gradients(10)[5:], steps[4], moved)
    assert furthest(rest, steps[5:]) <= 1e-6


def test_a_schedule_goes_on_from_a_known_count_and_starts_at_0_without_one():
    assert adapted({}, {"learning_rate": stepped}, gradients(3))[1]["1/count"] == "started"
    moved, report = adapted({}, {"learning_rate": stepped}, gradients(3), count=3)
    assert (int(moved[1].count), report["1/count"]) == (3, "continued")
    moved, _ = adapted({"learning_rate": stepped}, {"learning_rate": stepped, "weight_decay": 0.1}, gradients(3))
    assert [int(count) for _, count in optax.tree.get_all_with_path(moved, "count")] == [3]
    assert adapted({"learning_rate": stepped}, {}, gradients(3))[1]["1/count"] == "dropped"


def test_bias_correction_switched_on_goes_on_as_if_it_had_been_on():
    moved, _ = adapted({"learning_rate": stepped}, {"bias_correction": True}, gradients(4))
    tx, g = make(bias_correction=True), gradients(1, seed=1)[0]
    expected = tx.update(g, train(tx, gradients(4))[1])[0]
    chex.assert_trees_all_equal(tx.update(g, moved)[0], expected)


def test_what_other_links_remember_goes_on_and_is_reported():
    wrap = lambda tx: optax.partition(  # noqa: E731
        {"a": tx, "b": optax.chain(optax.scale_by_adam(), optax.scale(-0.1))}, {"w": "a", "b": "b"}
    )
    _, state = train(wrap(make()), gradients(3))
    moved, report = checkpoint.adapt(state, wrap(make(momentum=0.9)), PARAMS)
    chex.assert_trees_all_equal(moved.inner_states["b"], state.inner_states["b"])
    assert report["inner_states/b/inner_state/0/mu"] == "continued"
    injected = optax.inject_hyperparams(rmsprop)
    _, state = train(injected(learning_rate=0.5), gradients(3))
    moved, report = checkpoint.adapt(state, injected(learning_rate=0.25, centered=True), PARAMS)
    assert moved.hyperparams["learning_rate"] == 0.5
    assert int(moved.count) == 3
    assert report["hyperparams"] == "continued"
    _, report = checkpoint.adapt(state, make(), PARAMS)
    assert report["hyperparams"] == "dropped"


def test_a_run_moves_to_float64_exactly_and_back_when_allowed():
    _, state = train(make(momentum=0.9), gradients(4))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), PARAMS)
        moved, report = checkpoint.adapt(state, make(momentum=0.9), wide)
        assert moved[0].nu["w"].dtype == jnp.float64
        assert report == {"0/nu": "continued", "2/trace": "continued"}
        narrow = jax.tree.map(np.asarray, PARAMS)  # arrays of jax.numpy.full follow the precision of the moment
        with pytest.raises(TypeError, match="rounded"):
            checkpoint.adapt(moved, make(momentum=0.9), narrow)
        back, _ = checkpoint.adapt(moved, make(momentum=0.9), narrow, allow_rounding=True)
    chex.assert_trees_all_equal(back, state)
