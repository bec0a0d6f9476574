"""A running optax.rmsprop goes on here with everything it remembers, in any wrapper, and back; nothing is dropped."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.rows import rows

from rmsprop_optax import checkpoint, rmsprop

PARAMS = {"w": jnp.array([[1.0, -2.0, 0.5], [0.3, 0.1, -1.0]]), "b": jnp.array([0.5, -0.25, 2.0])}
STEPS = 4


def falling(count):
    return 0.1 / (1 + count)


OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "schedule": {"learning_rate": falling, "momentum": 0.9},
    "centered": {"centered": True, "eps": 1e-3, "momentum": 0.9},
    "corrected": {"bias_correction": True, "learning_rate": falling},
}
WRAPPERS = {
    "alone": lambda tx: tx,
    "after an average": lambda tx: optax.chain(optax.ema(0.9), tx),
    "reduce_on_plateau": lambda tx: optax.chain(tx, optax.contrib.reduce_on_plateau(0.1, patience=1)),
    "partition with Adam": lambda tx: optax.partition({"a": tx, "b": optax.adam(0.1)}, {"w": "a", "b": "b"}),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 3).gradient_transformation(),
    "a trace behind": lambda tx: optax.chain(tx, optax.trace(0.5)),
    "schedule_free": lambda tx: optax.contrib.schedule_free(tx, 0.1, b1=0.9),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "named_chain": lambda tx: optax.named_chain(("clip", optax.clip(1.0)), ("rmsprop", tx)),
    "add_noise": lambda tx: optax.chain(optax.add_noise(0.1, 0.5, 3), tx),
    "decay in front": lambda tx: optax.chain(optax.add_decayed_weights(0.1), tx),
    "a scale that adapts": lambda tx: optax.chain(optax.scale_by_rss(), tx),
}


def gradients(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), PARAMS)


def run(tx, params, state, seeds):
    """Train on recorded gradients, with a loss for the links that want one: the parameters and the state."""
    tx = optax.with_extra_args_support(tx)
    update = jax.jit(tx.update)
    for seed in seeds:
        updates, state = update(gradients(seed), state, params, value=jnp.float32(1 + seed % 2))
        params = optax.apply_updates(params, updates)
    return params, state


def plain(state):
    """The state with the numbers of its random keys."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda x: jax.random.key_data(x) if is_key(x) else x, state)


ALWAYS = {(wrapper, "schedule") for wrapper in list(WRAPPERS)[::2]} | {("alone", option) for option in OPTIONS}


@pytest.mark.parametrize(("wrapper", "option"), rows(itertools.product(WRAPPERS, OPTIONS), ALWAYS))
def test_a_run_of_optax_goes_on_here_and_back_with_all_that_it_remembers(wrapper, option):
    ours, theirs = (
        WRAPPERS[wrapper](make(**({"learning_rate": 0.1} | OPTIONS[option]))) for make in (rmsprop, optax.rmsprop)
    )
    params, state = run(theirs, PARAMS, theirs.init(PARAMS), range(STEPS))
    expected, _ = run(theirs, params, state, range(STEPS, 2 * STEPS))

    here, report = checkpoint.adapt(state, ours, params)
    assert set(report.values()) <= {"continued"}
    chex.assert_trees_all_equal_shapes_and_dtypes(here, ours.init(PARAMS))
    chex.assert_trees_all_close(run(ours, params, here, range(STEPS, 2 * STEPS))[0], expected, rtol=1e-5, atol=1e-6)

    back, report = checkpoint.adapt(here, theirs, params)
    assert set(report.values()) <= {"continued"}
    chex.assert_trees_all_close(plain(back), plain(state), rtol=2e-6, atol=1e-6)
    chex.assert_trees_all_close(plain(checkpoint.to_optax(here, theirs.init(PARAMS))), plain(back))


def test_the_slow_weights_and_their_clock_go_on_under_lookahead():
    ours, theirs = (optax.lookahead(make(falling, momentum=0.9), 3, 0.5) for make in (rmsprop, optax.rmsprop))
    both = optax.LookaheadParams.init_synced(PARAMS)

    def train(tx, params, state, seeds):
        for seed in seeds:
            updates, state = jax.jit(tx.update)(gradients(seed), state, params)
            params = optax.apply_updates(params, updates)
        return params, state

    params, state = train(theirs, both, theirs.init(both), range(STEPS))
    here, report = checkpoint.adapt(state, ours, params)
    paths = ["fast_state/0/nu", "fast_state/1/count", "fast_state/2/trace", "steps_since_sync"]
    assert report == dict.fromkeys(paths, "continued")
    (rest, _), (expected, _) = train(ours, params, here, range(4, 8)), train(theirs, params, state, range(4, 8))
    chex.assert_trees_all_close(rest, expected, rtol=1e-5)


def injected(make, **options):
    return optax.inject_hyperparams(make)(**({"learning_rate": 0.1} | options))


def test_a_rate_that_was_lowered_by_hand_stays_lowered():
    theirs, ours = injected(optax.rmsprop, momentum=0.9), injected(rmsprop, momentum=0.9)
    params, state = run(theirs, PARAMS, theirs.init(PARAMS), range(STEPS))
    state.hyperparams["learning_rate"] = jnp.float32(0.001)
    here, report = checkpoint.adapt(state, ours, params)
    assert here.hyperparams["learning_rate"] == np.float32(0.001)
    assert report["hyperparams"] == "continued" or report["hyperparams/learning_rate"] == "continued"
    assert here.count == STEPS
    chex.assert_trees_all_close(
        run(ours, params, here, range(4, 6))[0], run(theirs, params, state, range(4, 6))[0], rtol=1e-5
    )


@pytest.mark.parametrize("wrapper", ["after an average", "reduce_on_plateau", "partition with Adam", "MultiSteps"])
def test_from_optax_and_to_optax_refuse_what_they_would_lose(wrapper):
    ours, theirs = (WRAPPERS[wrapper](make(0.1)) for make in (rmsprop, optax.rmsprop))
    with pytest.raises(ValueError, match=r"remembers more .*checkpoint.adapt"):
        checkpoint.from_optax(theirs.init(PARAMS))
    if wrapper != "partition with Adam":  # whose parameters optax.rmsprop alone has besides
        with pytest.raises(ValueError, match=r"dropped.*checkpoint.adapt"):
            checkpoint.to_optax(ours.init(PARAMS), optax.rmsprop(0.1).init(PARAMS))


def test_what_has_no_counterpart_is_named():
    theirs = optax.chain(optax.ema(0.9), optax.rmsprop(0.1, momentum=0.9))
    _, report = checkpoint.adapt(theirs.init(PARAMS), rmsprop(falling), PARAMS)
    assert report == {
        "0/nu": "continued",
        "1/count": "started",
        "0/count": "dropped",
        "0/ema": "dropped",
        "1/2/trace": "dropped",
    }
    text = str(report)
    assert "continued (goes on as it was): 0/nu" in text
    assert "dropped (has no counterpart and is dropped): 0/count, 0/ema, 1/2/trace" in text


def test_a_run_of_optax_changes_its_options_on_the_way():
    theirs = optax.rmsprop(0.1, centered=True, eps=1e-3)
    params, state = run(theirs, PARAMS, theirs.init(PARAMS), range(STEPS))
    plain, report = checkpoint.adapt(state, rmsprop(0.1, eps=1e-3), params)
    assert report == {"0/nu": "continued", "0/mu": "dropped"}
    chex.assert_trees_all_equal(plain[0].nu, state[0].nu)
    centered, _ = checkpoint.adapt(state, rmsprop(0.1, centered=True, eps=1e-3), params)
    chex.assert_trees_all_close(
        centered[0].variance, jax.tree.map(lambda n, m: n - m**2, state[0].nu, state[0].mu), rtol=1e-5, atol=1e-7
    )


def test_a_chain_that_does_not_tell_its_order_is_refused():
    theirs = optax.chain(optax.scale_by_rms(), optax.clip(1.0), optax.trace(0.9), optax.scale(-0.1))
    with pytest.raises(ValueError, match="does not tell whether its learning rate stands before or behind"):
        checkpoint.adapt(theirs.init(PARAMS), rmsprop(0.1, momentum=0.9), PARAMS)


def test_a_momentum_in_front_of_the_rule_is_not_the_rule_s_trace():
    theirs = optax.chain(optax.trace(0.9), optax.rmsprop(0.1))
    _, report = checkpoint.adapt(theirs.init(PARAMS), rmsprop(0.1, momentum=0.9), PARAMS)
    assert report == {"0/nu": "continued", "2/trace": "started", "0/trace": "dropped"}
    ours = optax.chain(optax.trace(0.9), rmsprop(0.1))
    params, state = run(theirs, PARAMS, theirs.init(PARAMS), range(STEPS))
    here, report = checkpoint.adapt(state, ours, params)
    assert report == {"0/trace": "continued", "1/0/nu": "continued"}
    chex.assert_trees_all_equal(here[0].trace, state[0].trace)


def test_branches_that_count_differently_each_go_on():
    branches = lambda make: optax.partition(  # noqa: E731
        {"a": make(falling), "b": optax.conditionally_mask(make(falling), lambda step: step < 2)}, {"w": "a", "b": "b"}
    )
    theirs = branches(optax.rmsprop)
    params, state = run(theirs, PARAMS, theirs.init(PARAMS), range(STEPS))
    here, report = checkpoint.adapt(state, branches(rmsprop), params)
    assert set(report.values()) == {"continued"}
    counts = [int(count) for _, count in optax.tree.get_all_with_path(here, "count")]
    assert sorted(counts) == [2, 4]


@pytest.mark.full
def test_an_ensemble_moves_with_a_count_for_each_member():
    members = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), PARAMS)
    theirs, ours = optax.rmsprop(falling, momentum=0.9), rmsprop(falling, momentum=0.9)
    state = jax.vmap(theirs.init)(members)
    _, state = jax.vmap(theirs.update)(members, state)
    here, report = checkpoint.adapt(state, ours, members)
    assert set(report.values()) == {"continued"}
    chex.assert_trees_all_equal_shapes_and_dtypes(here, jax.vmap(ours.init)(members))
    chex.assert_trees_all_close(
        jax.vmap(ours.update)(members, here)[0], jax.vmap(theirs.update)(members, state)[0], rtol=1e-5
    )
    said = checkpoint.preview(state, ours, members, old_tx=theirs, gradients=members)
    assert float(said.split("at most ")[1].split(";")[0]) < 1e-6
    moments = checkpoint.from_optax(state)
    assert moments["count"].tolist() == [1, 1, 1]
    chex.assert_trees_all_equal(checkpoint.restore(jax.vmap(ours.init)(members), moments), here)
    chex.assert_trees_all_equal(checkpoint.to_optax(here, jax.vmap(theirs.init)(members)), state)
    centered, report = checkpoint.adapt(here, rmsprop(falling, centered=True), members)
    assert report["0/variance"] == "continued"
    assert centered[1].count.shape == (3,)
    with pytest.raises(ValueError, match=r"an ensemble of 3.*one at a time"):
        checkpoint.to_torch(here, {"state": {}, "param_groups": [{"params": [0, 1], "momentum": 0.9}]}, PARAMS)


def test_statistics_of_each_part_of_a_complex_number_do_not_become_optax_s():
    from rmsprop_optax import dialects

    params = {"z": jnp.array([1 + 2j, 3.0], jnp.complex64)}
    pairs = dialects.torch_rmsprop(0.1).init(params)
    with pytest.raises(TypeError, match="a mean square for each part"):
        checkpoint.to_optax(pairs, optax.rmsprop(0.1).init(params))
    with pytest.raises(TypeError, match="PyTorch keeps a mean square for each part"):
        checkpoint.adapt(optax.rmsprop(0.1).init(params), dialects.torch_rmsprop(0.1), params)


def test_what_goes_on_keeps_its_kind_of_memory():
    device = jax.devices()[0]
    kinds = {memory.kind for memory in device.addressable_memories()}
    if "pinned_host" not in kinds:
        pytest.skip("this backend has one kind of memory")
    tx, home = rmsprop(0.1, momentum=0.9), functools.partial(jax.sharding.SingleDeviceSharding, device)
    params = jax.device_put(PARAMS, home())
    state = tx.init(params)
    state = (jax.device_put(state[0], home(memory_kind="pinned_host")), *state[1:])
    moved, _ = checkpoint.adapt(state, rmsprop(0.2, momentum=0.9), params)
    assert moved[0].nu["w"].sharding.memory_kind == "pinned_host"
    assert moved[2].trace["w"].sharding.memory_kind == params["w"].sharding.memory_kind


def test_the_preview_says_what_goes_on_and_how_far_the_next_update_is():
    theirs, ours = optax.rmsprop(0.1, momentum=0.9), rmsprop(0.1, momentum=0.9)
    params, state = run(theirs, PARAMS, theirs.init(PARAMS), range(STEPS))
    said = checkpoint.preview(state, ours, params, old_tx=theirs, gradients=gradients(9))
    assert said.startswith("continued (goes on as it was): 0/nu, 2/trace\nThe next update differs by at most ")
    assert float(said.split("at most ")[1].split(";")[0]) < 1e-6
    said = checkpoint.preview(state, rmsprop(0.1), params, old_tx=theirs, gradients=gradients(9))
    assert "dropped (has no counterpart and is dropped): 2/trace" in said
    assert float(said.split("at most ")[1].split(";")[0]) > 1e-3
    said = checkpoint.preview(state, rmsprop(0.1, momentum=0.9, lr_in_momentum=False), params)
    assert said.startswith("refused: ")
    assert "checkpoint.adapt(old_state, tx, params, learning_rate=...)" in said
    thawed = PARAMS | {"head": jnp.ones(2)}
    said = checkpoint.preview(ours.init(PARAMS), ours, thawed, start=["head"])
    assert "started (starts as init starts it): 0/nu/head, 2/trace/head" in said
    assert checkpoint.preview(ours.init(PARAMS), ours, thawed).startswith("refused: ")
    with pytest.raises(ValueError, match="`gradients` needs `old_tx`"):
        checkpoint.preview(state, ours, params, gradients=gradients(9))
