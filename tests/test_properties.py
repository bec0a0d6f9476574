"""Properties over the whole float range of each dtype, subnormals and largest values included, found by hypothesis."""

import functools
import itertools

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.rows import rows

from rmsprop_optax import moments, rmsprop

STEPS, WIDTH = 8, 6
OPTIONS = {
    "plain": {},
    "outside": {"eps_in_sqrt": False},
    "corrected": {"bias_correction": True},
    "centered": {"centered": True},
    "centered outside": {"centered": True, "eps_in_sqrt": False},
    "momentum": {"momentum": 0.9},
    "torch": {"momentum": 0.9, "lr_in_momentum": False, "eps_in_sqrt": False},
    "average": {"momentum": 0.9, "average_momentum": True, "nesterov": True},
    "l2": {"weight_decay": 0.1, "decoupled_weight_decay": False, "momentum": 0.9, "nesterov": True},
    "decoupled": {"weight_decay": 0.1, "centered": True, "momentum": 0.9},
}
DTYPES = {"float32": np.float32, "bfloat16": jnp.bfloat16, "float16": np.float16, "float64": np.float64}
every_option = pytest.mark.parametrize("name", rows(OPTIONS, OPTIONS.keys() - {"average"}))
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


@functools.cache
def trainer(name, dtype):
    """A compiled series of steps, its numbers traced: one program for all examples."""

    def run(params, grads, learning_rate, decay, eps):
        tx = rmsprop(learning_rate, decay, eps, **OPTIONS[name])

        def step(state, g):
            updates, state = tx.update(g, state, params)
            return state, (
                updates,
                next(getattr(entry, moments.second(entry)) for entry in state if moments.second(entry)),
            )

        state, (updates, nu) = jax.lax.scan(step, tx.init(params), grads)
        return updates, nu, state

    return jax.jit(run)


def train(name, dtype, params, grads, learning_rate=1.0, decay=0.9, eps=1e-8):
    with jax.enable_x64(True):
        wide = jnp.float64 if dtype == "float64" else jnp.float32
        numbers = [jnp.asarray(number, wide) for number in (learning_rate, decay, eps)]
        arrays = [jnp.asarray(x).astype(dtype) for x in (params, grads)]
        return jax.tree.map(np.asarray, trainer(name, dtype)(*arrays, *numbers))


def bits(dtype):
    """Any finite number of a dtype by its bits, the zeros, the smallest and the largest more often."""
    info, kind = jnp.finfo(dtype), np.dtype(f"uint{jnp.finfo(dtype).bits}")
    edges = np.array([0, info.smallest_subnormal, info.tiny, info.max], DTYPES[dtype])
    edges = np.concatenate([edges, -edges]).view(kind)
    return st.one_of(st.integers(0, np.iinfo(kind).max), st.sampled_from(edges.tolist()))


def arrays(dtype, shape):
    kind = np.dtype(f"uint{jnp.finfo(dtype).bits}")
    exponent = np.array(np.inf, DTYPES[dtype]).view(kind)  # all ones in an infinity and a NaN, also one that signals

    def as_finite(array):
        return np.where(array & exponent == exponent, kind.type(0), array).view(DTYPES[dtype])

    return hnp.arrays(kind, shape, elements=bits(dtype)).map(as_finite)


def series(dtype):
    return arrays(dtype, (STEPS, WIDTH))


decays = st.floats(0, 1 - 2**-20, width=32)
epsilons = st.one_of(st.just(0.0), st.floats(0, 1e10, width=32))


@pytest.mark.parametrize(
    ("name", "dtype"),
    rows(
        itertools.product(OPTIONS, DTYPES),
        {(name, dtype) for name in OPTIONS for dtype in DTYPES if dtype == "float32" or name in ("plain", "l2")},
    ),
)
@given(data=st.data())
def test_finite_gradients_give_finite_updates_and_states(name, dtype, data):
    grads = data.draw(series(dtype))
    params = data.draw(arrays(dtype, WIDTH))
    rate = data.draw(st.floats(0, 1, width=32))
    updates, nu, state = train(name, dtype, params, grads, rate, data.draw(decays), data.draw(epsilons))
    assert all(np.isfinite(leaf.astype(np.float64)).all() for leaf in jax.tree.leaves((updates, state)))
    assert (nu >= 0).all()


@pytest.mark.parametrize("name", ["plain", "outside", "corrected"])
@every_dtype
@given(data=st.data())
def test_uncentered_updates_stay_within_the_bound(name, dtype, data):
    decay = np.float32(data.draw(decays))
    grads = data.draw(series(dtype))
    updates, _, _ = train(name, dtype, np.zeros(WIDTH), grads, 1.0, decay, data.draw(epsilons))
    slack = {"bfloat16": 2**-8, "float16": 2**-10}.get(dtype, 1e-6)
    assert np.abs(updates.astype(np.float64)).max() * np.sqrt(1 - np.float64(decay)) <= 1 + slack


@every_option
@given(grads=series("float32"), decay=decays, eps=epsilons)
def test_the_sign_of_the_gradient_is_the_sign_of_the_update(name, grads, decay, eps):
    params = np.zeros(WIDTH, np.float32)
    ours, _, _ = train(name, "float32", params, grads, 0.1, decay, eps)
    mirrored, _, _ = train(name, "float32", params, -grads, 0.1, decay, eps)
    np.testing.assert_array_equal(mirrored, -ours)


ordinary = st.one_of(st.just(0.0), st.floats(2**-10, 2**10, width=32), st.floats(-(2**10), -(2**-10), width=32))


@pytest.mark.parametrize("name", ["plain", "outside", "corrected", "centered", "momentum", "torch"])
@given(
    grads=hnp.arrays(np.float32, (STEPS, WIDTH), elements=ordinary),
    decay=st.floats(0.25, 1 - 2**-10, width=32),
    power=st.integers(-20, 20),
)
def test_without_eps_the_scale_of_the_gradients_does_not_matter(name, grads, decay, power):
    params = np.zeros(WIDTH, np.float32)
    ours, nu, _ = train(name, "float32", params, grads, 0.1, decay, 0.0)
    scaled, _, _ = train(name, "float32", params, grads * np.float32(2.0**power), 0.1, decay, 0.0)
    varied = (nu > 0) | (grads == 0)  # a variance that is exactly 0 leaves the gradient as it is, scale and all
    np.testing.assert_array_equal(scaled[varied], ours[varied])


@every_option
@given(grads=series("float32"), order=st.permutations(range(WIDTH)))
def test_elements_do_not_see_each_other(name, grads, order):
    params = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    ours, _, _ = train(name, "float32", params, grads)
    shuffled, _, _ = train(name, "float32", params[order], grads[:, order])
    np.testing.assert_array_equal(shuffled, ours[:, order])


@functools.cache
def separate(name):
    tx = rmsprop(0.1, **OPTIONS[name])
    return tx.init, jax.jit(tx.update)


@every_option
@given(grads=series("float32"))
def test_one_leaf_alone_equals_the_tree(name, grads):
    init, update = separate(name)
    params = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    halves = lambda x: {"a": x[..., :3], "b": x[..., 3:]}  # noqa: E731
    state, whole = init(halves(params)), init(params)
    for g in grads:
        updates, state = update(halves(g), state, halves(params))
        expected, whole = update(g, whole, params)
        np.testing.assert_array_equal(np.concatenate([updates["a"], updates["b"]]), expected)
