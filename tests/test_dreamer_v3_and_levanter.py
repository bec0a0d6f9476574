"""DreamerV3's and Levanter's rules beyond the recordings: 300 float64 steps, masks of nested trees, small gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import reference, training
from kit.rows import rows
from kit.trees import furthest

from rmsprop_optax import dialects

DREAMER, LEVANTER = dialects.dreamer_v3_rmsprop, dialects.levanter_rmsprop
PARAMS = {"enc": {"kernel": (3, 2), "bias": (2,)}, "LayerNorm_0": {"scale": (4,)}, "Embedding_0": {"kernel": (2, 2)}}
RNG = np.random.default_rng(18)
PARAMS = jax.tree.map(lambda shape: RNG.normal(size=shape), PARAMS, is_leaf=lambda x: type(x) is tuple)
STEPS = 300
SIZES = 10 ** RNG.uniform(-6, 3, size=(STEPS, 4))
GRADS = [
    jax.tree.unflatten(
        jax.tree.structure(PARAMS),
        [s * RNG.normal(size=p.shape) for s, p in zip(sizes, jax.tree.leaves(PARAMS), strict=True)],
    )
    for sizes in SIZES
]


def flat(tree):
    return {"/".join(key.key for key in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def falling(t, cos=math.cos):
    return 0.01 * (0.55 + 0.45 * cos(math.pi * t / STEPS))


AVERAGE = {"momentum": 0.9, "average_momentum": True, "bias_correction": True, "lr_in_momentum": False}
AVERAGE |= {"eps_mode": "outside", "weight_decay": 0.1, "wd_mode": "decoupled"}
KERNELS = ["enc/kernel", "Embedding_0/kernel"]
RULES = {
    "dreamer_v3": (
        lambda: DREAMER(lambda t: falling(t, jnp.cos), wd=0.1),
        {"decay": 0.999, "eps": 1e-20, "clip": ("adaptive", 0.3, 1e-3), "decays": KERNELS},
        lambda t: falling(t) * min(1, t / 1000),
    ),
    "dreamer_v3, nesterov": (
        lambda: DREAMER(0.01, nesterov=True, wd=0.1, schedule="cosine", warmup=20, anneal=250),
        {"decay": 0.999, "eps": 1e-20, "clip": ("adaptive", 0.3, 1e-3), "decays": KERNELS, "nesterov": "trace"},
        lambda t: (
            0.01 * t / 20 if t < 20 else 0.01 * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * min(1, (t - 20) / 230))))
        ),
    ),
    "levanter": (
        lambda: LEVANTER(lambda t: falling(t, jnp.cos)),
        {"decay": 0.99, "eps": 1e-30, "clip": ("global_norm", 1.0), "decays": ["enc/kernel"]},
        falling,
    ),
}


@pytest.mark.parametrize("rule", rows(RULES, ["dreamer_v3"]))
def test_300_steps_of_any_size_agree_with_the_float64_reference_to_1e_10(rule):
    make, switches, rate = RULES[rule]
    rates = [rate(t) for t in range(STEPS)]
    theirs, _ = reference.trajectory(AVERAGE | switches, flat(PARAMS), map(flat, GRADS), rates)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, PARAMS)
        ours, _ = training.scan(make(), training.stacked([jax.tree.map(jnp.asarray, g) for g in GRADS]), params)
        assert all(x.dtype == np.float64 for x in jax.tree.leaves(ours))
        expected = {name: np.stack([step[name] for step in theirs]) for name in theirs[0]}
        assert furthest(flat(ours), expected) <= 1e-10
    assert furthest(theirs[-1], flat(PARAMS)) > 0.01


def decayed(tx):
    """Return the paths of the parameters that a step without gradients moves."""
    params = jax.tree.map(jnp.asarray, PARAMS)
    state, zeros = tx.init(params), jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, state, params)
    return {path for path, u in flat(updates).items() if bool((u != 0).all())}


EVERY, ENCODER = {*flat(PARAMS)}, {"enc/kernel", "enc/bias"}
MASKS = {
    "by default": (lambda: DREAMER(0.1, wd=0.1, warmup=0), {*KERNELS}),
    "an expression": (lambda: DREAMER(0.1, wd=0.1, warmup=0, wdregex="^enc/"), ENCODER),
    "a mask": (lambda: DREAMER(0.1, wd=0.1, warmup=0, wdregex=True), EVERY),
    "no decay": (lambda: DREAMER(0.1, warmup=0), set()),
    "Levanter's default": (lambda: LEVANTER(0.1), {"enc/kernel"}),
    "no mask": (lambda: LEVANTER(0.1, default_weight_decay_mask=False), EVERY),
    "a start": (lambda: LEVANTER(0.1, weight_decay_modules=r"enc\."), ENCODER),
    "no start": (lambda: LEVANTER(0.1, weight_decay_modules="kernel"), set()),
    "words": (lambda: LEVANTER(0.1, weight_decay_modules=["kernel"]), {*KERNELS}),
    "words and default": (
        lambda: LEVANTER(0.1, weight_decay_modules=["bias"], default_weight_decay_mask=True),
        ENCODER,
    ),
    "a tree": (
        lambda: LEVANTER(0.1, weight_decay_modules={"enc": True, "LayerNorm_0": False, "Embedding_0": False}),
        ENCODER,
    ),
    "no decay in Levanter": (lambda: LEVANTER(0.1, weight_decay=0.0), set()),
}


@pytest.mark.parametrize("mask", rows(MASKS, ["Levanter's default", "words and default"]))
def test_a_mask_follows_the_paths_of_nested_trees(mask):
    make, expected = MASKS[mask]
    assert decayed(make()) == expected


def test_a_gradient_is_clipped_to_a_share_of_its_parameter_s_norm_which_counts_as_1e_3_or_more():
    params = {"large": jnp.array([3.0, 4.0]), "zero": jnp.zeros(1), "none": jnp.ones(1)}
    tx = DREAMER(1.0, agc=0.1, eps=1e6, beta1=0.0, beta2=0.0, warmup=0)  # eps divides by a million
    grads = {"large": jnp.array([30.0, 40.0]), "zero": jnp.ones(1), "none": None}
    updates, state = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["large"] * -1e6, [0.3, 0.4], rtol=1e-5)
    np.testing.assert_allclose(updates["zero"] * -1e6, [1e-4], rtol=1e-5)
    assert updates["none"] == 0
    small, _ = tx.update(jax.tree.map(lambda g: 1e-3 * g, grads), state, params)
    np.testing.assert_allclose(small["large"] * -1e6, [0.03, 0.04], rtol=1e-5)


@pytest.mark.full
def test_the_clipping_has_a_derivative_where_gradient_and_parameter_are_0():
    tx = DREAMER(1.0, warmup=0)
    slope = jax.grad(lambda p: tx.update({"zero": p}, tx.init({"zero": p}), {"zero": p})[0]["zero"][0])(jnp.zeros(1))
    assert bool(jnp.isfinite(slope).all())


@pytest.mark.parametrize(
    "make", [lambda: DREAMER(0.1, warmup=0), lambda: LEVANTER(0.1)], ids=["dreamer_v3", "levanter"]
)
@pytest.mark.parametrize("dtype", rows(["float32", "bfloat16", "float16"], []))
def test_the_smallest_gradients_give_bounded_steps(make, dtype):
    params, tx = {"w": jnp.ones(3, dtype)}, make()
    grads = {"w": jnp.array([jnp.finfo(dtype).tiny, 0.0, -jnp.finfo(dtype).tiny], dtype)}
    state = tx.init(params)
    for _ in range(5):
        updates, state = tx.update(grads, state, params)
        assert float(jnp.max(jnp.abs(updates["w"]))) <= 0.111  # the rate, and the decay times it
    assert float(updates["w"][1]) in (0.0, pytest.approx(-0.01, rel=1e-2))


def test_the_warm_up_multiplies_a_schedule_and_none_leaves_the_rate_alone():
    rates = [float(-step(DREAMER(lambda t: 0.5, warmup=4), t)) for t in range(6)]
    np.testing.assert_allclose(rates, [0, 0.125, 0.25, 0.375, 0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose([float(-step(DREAMER(0.5, warmup=0), t)) for t in (0, 3)], 0.5, rtol=1e-6)
    falls = [float(-step(DREAMER(0.5, schedule="linear", warmup=2, anneal=6), t)) for t in range(8)]
    np.testing.assert_allclose(falls, [0, 0.25, 0.5, 0.3875, 0.275, 0.1625, 0.05, 0.05], rtol=1e-6)


def step(tx, t):
    """Return the update of step t on a steady gradient."""
    params = jnp.full(1, 10.0)
    state = tx.init(params)
    for _ in range(t + 1):
        updates, state = tx.update(jnp.ones(1), state, params)
    return updates[0]


def test_the_state_answers_by_name():
    params = jax.tree.map(jnp.asarray, PARAMS)
    for tx in (DREAMER(wd=0.1), LEVANTER()):
        state = tx.init(params)
        assert jax.tree.structure(optax.tree.get(state, "ema")) == jax.tree.structure(params)
        assert jax.tree.structure(optax.tree.get(state, "nu")) == jax.tree.structure(params)
