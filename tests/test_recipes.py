"""Each recipe takes the steps that its source takes, in NumPy; what the sources disagree on; what is refused."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import reference

from rmsprop_optax import recipes

INSIDE, OUTSIDE = {"eps_mode": "inside"}, {"eps_mode": "outside", "lr_in_momentum": False}
AVERAGE = {"momentum": 0.9, "average_momentum": True}
ONES, CENTERED = {"acc_init": 1.0}, {"decay": 0.95, "centered": True}
TF_NETWORK = {"decay": 0.9, "momentum": 0.9} | INSIDE | ONES
STEPS = 70


def linear(t):
    return 1 - t / STEPS


# The published numbers again, as the reference has them: the call, the switches, the learning rate of step t, from 0.
PUBLISHED = {
    "dqn, nature": (lambda: recipes.dqn(), CENTERED | {"eps": 0.01}, lambda t: 2.5e-4),
    "dqn, dqn_zoo": (lambda: recipes.dqn(source="dqn_zoo"), CENTERED | {"eps": 0.01 / 1024}, lambda t: 2.5e-4),
    "dqn, dopamine": (lambda: recipes.dqn(source="dopamine"), CENTERED | ONES | {"eps": 1e-5}, lambda t: 2.5e-4),
    "prioritized_dqn": (lambda: recipes.prioritized_dqn(), CENTERED | {"eps": 0.01 / 1024 / 16}, lambda t: 2.5e-4 / 4),
    "qmix": (
        lambda: recipes.qmix(),
        {"decay": 0.99, "eps": 1e-5, "clip": ("global_norm", 10.0)} | OUTSIDE,
        lambda t: 5e-4,
    ),
    "dreamer_v3": (
        lambda: recipes.dreamer_v3(),
        {"decay": 0.999, "eps": 1e-20, "clip": ("adaptive", 0.3, 1e-3), "bias_correction": True} | AVERAGE | OUTSIDE,
        lambda t: 4e-5 * t / 1000,
    ),
    "dpo": (
        lambda: recipes.dpo(),
        {"decay": 0.99, "eps": 1e-8, "clip": ("global_norm", 10.0)} | OUTSIDE,
        lambda t: 5e-7 * min(1, (t + 1) / 151),
    ),
    "a3c, mnih": (lambda: recipes.a3c(STEPS), {"decay": 0.99, "eps": 0.1}, lambda t: 7e-4 * linear(t)),
    "a3c, async_rl": (
        lambda: recipes.a3c(STEPS, source="async_rl"),
        {"decay": 0.99, "eps": 0.1, "clip": ("global_norm", 40.0)},
        lambda t: 7e-4 * linear(t),
    ),
    "a3c, baselines": (
        lambda: recipes.a3c(STEPS, source="baselines"),
        {"decay": 0.99, "eps": 1e-5, "clip": ("global_norm", 0.5)} | ONES,
        lambda t: 7e-4 * linear(t),
    ),
    "a3c, sb3": (
        lambda: recipes.a3c(None, source="sb3"),
        {"decay": 0.99, "eps": 1e-5, "clip": ("global_norm", 0.5)} | OUTSIDE,
        lambda t: 7e-4,
    ),
    "impala, scalable_agent": (
        lambda: recipes.impala(STEPS),
        {"decay": 0.99, "eps": 0.1} | ONES,
        lambda t: 4.8e-4 * linear(t),
    ),
    "impala, torchbeast": (
        lambda: recipes.impala(STEPS, source="torchbeast"),
        {"decay": 0.99, "eps": 0.01, "clip": ("global_norm", 40.0)} | OUTSIDE,
        lambda t: 4.8e-4 * linear(t),
    ),
    "impala, cleanba": (
        lambda: recipes.impala(STEPS, source="cleanba"),
        {"decay": 0.99, "eps": 0.01, "clip": ("global_norm", 40.0)} | OUTSIDE,
        lambda t: 6e-4 * linear(t // 4 * 4),
    ),
    "inception_v3, inception": (
        lambda: recipes.inception_v3(1),
        TF_NETWORK | {"eps": 1.0, "weight_decay": 4e-5},
        lambda t: 0.1 * 0.16 ** (t // 30),
    ),
    "inception_v3, slim": (
        lambda: recipes.inception_v3(1, source="slim"),
        TF_NETWORK | {"eps": 1.0, "weight_decay": 4e-5},
        lambda t: 0.01 * 0.94 ** (t // 2),
    ),
    "mobilenet_v3": (
        lambda: recipes.mobilenet_v3(3),
        {"decay": 0.9, "eps": 0.0316, "momentum": 0.9, "weight_decay": 1e-5} | OUTSIDE,
        lambda t: 0.064 * 0.973 ** (t // 6),
    ),
    "efficientnet": (
        lambda: recipes.efficientnet(5),
        TF_NETWORK | {"eps": 1e-3, "weight_decay": 1e-5},
        lambda t: 0.128 * (t / 25 if t < 25 else 0.97 ** (t // 12)),
    ),
    "char_rnn": (
        lambda: recipes.char_rnn(4),
        {"decay": 0.95, "eps": 1e-8, "clip": ("value", 5.0)} | OUTSIDE,
        lambda t: 2e-3 * 0.97 ** max(0, t // 4 - 9),
    ),
    "wgan": (lambda: recipes.wgan(), {"decay": 0.99, "eps": 1e-8} | OUTSIDE, lambda t: 5e-5),
}
DECAYING = {"inception_v3": ["w"], "efficientnet": ["w", "b"], "mobilenet_v3": ["w", "b", "BatchNorm_0"]}

RNG = np.random.default_rng(0)
PARAMS = {name: RNG.normal(size=shape) for name, shape in {"w": (3, 4), "b": (4,), "BatchNorm_0": (4,)}.items()}
GRADS = [{name: 10.0 ** (t % 4 - 2) * RNG.normal(size=p.shape) for name, p in PARAMS.items()} for t in range(STEPS)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_takes_the_published_steps(name):
    make, switches, rate = PUBLISHED[name]
    with jax.enable_x64(True):
        tx, params = make(), jax.tree.map(jnp.asarray, PARAMS)
        _, ours = jax.lax.scan(step(tx), (params, tx.init(params)), jax.tree.map(lambda *g: jnp.stack(g), *GRADS))
        ours = jax.tree.map(np.asarray, ours)
    rates = [rate(t) for t in range(STEPS)]
    decayed, _ = reference.trajectory(switches, PARAMS, GRADS, rates)
    plain, _ = reference.trajectory(switches | {"weight_decay": 0.0}, PARAMS, GRADS, rates)
    decaying = DECAYING.get(name.split(",")[0], [])
    assert decaying or not switches.get("weight_decay")
    for leaf in PARAMS:
        theirs = np.stack([path[leaf] for path in (decayed if leaf in decaying else plain)])
        # schedules of optax are float32: 1e-7 of a learning rate
        np.testing.assert_allclose(ours[leaf], theirs, rtol=0, atol=2e-6 * np.max(np.abs(theirs - PARAMS[leaf])))


def step(tx):
    def one(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return one


def test_the_weight_decay_that_was_published_shows_in_the_comparison():
    for name in ("inception_v3, inception", "efficientnet", "mobilenet_v3"):
        _, switches, rate = PUBLISHED[name]
        rates = [rate(t) for t in range(STEPS)]
        decayed, _ = reference.trajectory(switches, PARAMS, GRADS, rates)
        plain, _ = reference.trajectory(switches | {"weight_decay": 0.0}, PARAMS, GRADS, rates)
        distance = np.max(np.abs(plain[-1]["w"] - PARAMS["w"]))
        assert np.max(np.abs(decayed[-1]["w"] - plain[-1]["w"])) > 2e-5 * distance


def first_step(tx, g):
    params = jnp.zeros(())
    return float(tx.update(jnp.asarray(g), tx.init(params), params)[0])


def test_averaging_over_the_batch_of_dqn_needs_its_eps_over_32_squared():
    summed, averaged = recipes.dqn(source="nature"), recipes.dqn(source="dqn_zoo")
    for g in (1e-3, 0.1, 10.0):
        assert math.isclose(first_step(summed, g), first_step(averaged, g / 32), rel_tol=1e-5)


def test_small_gradients_in_the_end_take_steps_32_times_larger_in_torchbeast_than_in_impala_s_own_code():
    last = {}
    for source in ("scalable_agent", "torchbeast"):
        tx, params = recipes.impala(None, source=source), jnp.zeros(())
        _, path = jax.lax.scan(step(tx), (params, tx.init(params)), jnp.full(3000, 1e-6))
        last[source] = float(path[-1] - path[-2])
    assert math.isclose(last["torchbeast"] / last["scalable_agent"], np.sqrt(0.1) / 0.01, rel_tol=1e-3)


def test_the_learning_rate_may_be_given_and_traced():
    assert first_step(recipes.inception_v3(1, 0.2), 1.0) == 2 * first_step(recipes.inception_v3(1, 0.1), 1.0)
    for make in (recipes.wgan, lambda rate: recipes.char_rnn(10, rate), lambda rate: recipes.impala(9, rate)):
        both = jax.vmap(lambda rate, make=make: make(rate).update(jnp.ones(()), make(rate).init(jnp.ones(())))[0])(
            jnp.array([0.1, 0.2])
        )
        assert math.isclose(both[1], 2 * both[0], rel_tol=1e-6)


def test_a_mask_of_true_decays_everything_and_none_decays_nothing():
    params = {"kernel": jnp.ones((1, 1)), "bn": {"scale": jnp.ones(1)}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    everywhere, nowhere = recipes.inception_v3(1, weight_decay_mask=True), recipes.inception_v3(1, weight_decay=None)
    updates, _ = everywhere.update(zeros, everywhere.init(params), params)
    assert all(u < 0 for u in jax.tree.leaves(updates))
    updates, _ = nowhere.update(zeros, nowhere.init(params))
    assert not any(jax.tree.leaves(updates))


@pytest.mark.parametrize("path", ["BatchNorm_0", "batch_normalization_1", "TpuBatchNormalization", "batch_norm"])
def test_efficientnet_leaves_out_batch_normalization_by_name(path):
    params = {path: {"scale": jnp.ones(1)}, "conv": {"bias": jnp.ones(1)}}
    tx = recipes.efficientnet(0.1, weight_decay=1.0)  # so short an epoch has no warm-up
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    assert updates[path]["scale"] == 0
    assert updates["conv"]["bias"] < 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_compares_hashes_pickles_and_prints(name):
    make = PUBLISHED[name][0]
    assert make() == make()
    assert hash(make()) == hash(make())
    assert pickle.loads(pickle.dumps(make())) == make()
    assert repr(make()).startswith(name.split(",")[0] + "(")


REFUSALS = {
    "an unknown source": (lambda: recipes.dqn(source="rainbow"), ValueError, "`source` must be one of 'nature', .*"),
    "a source that is not a word": (lambda: recipes.impala(9, source=1), ValueError, "`source` must be one of"),
    "a run of no steps": (lambda: recipes.a3c(0), ValueError, "`steps` must be above 0.*Pass None"),
    "a fall every 0 updates": (lambda: recipes.impala(9, every=0), ValueError, "`every` must be above 0.*Pass 1"),
    "a rate that is not a number": (lambda: recipes.dpo("5e-7"), TypeError, "`learning_rate` must be a number"),
    "a negative rate": (lambda: recipes.qmix(-1.0), ValueError, "`learning_rate` must be"),
    "a rate by epoch": (lambda: recipes.dreamer_v3(lambda t: 0.1), TypeError, "`learning_rate` must be a number"),
    "no rate": (lambda: recipes.prioritized_dqn(None), TypeError, "`learning_rate` must be a number"),
    "an epoch of no steps": (lambda: recipes.char_rnn(0), ValueError, "`steps_per_epoch` must be above 0"),
    "a traced epoch": (lambda: recipes.mobilenet_v3(jnp.array(9.0)), TypeError, "`steps_per_epoch` must be a Python"),
    "a negative learning rate": (lambda: recipes.wgan(-1.0), ValueError, "`learning_rate` must be"),
    "a schedule": (lambda: recipes.efficientnet(9, lambda t: 0.1), TypeError, "`learning_rate` must be a number"),
    "a negative decay": (lambda: recipes.inception_v3(9, weight_decay=-1.0), ValueError, "`weight_decay` must be"),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_recipe_refuses(why):
    call, error, message = REFUSALS[why]
    with pytest.raises(error, match=message):
        call()
