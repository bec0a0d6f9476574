"""From one batch size to another: half-lives in examples, and the square-root rule on gradients that are noise."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmsprop_optax import rmsprop, scaling

SIZES = st.integers(1, 4096)


@given(st.floats(10, 1e6), SIZES)
def test_after_a_half_life_of_examples_half_is_forgotten(half_life, batch_size):
    steps = half_life / batch_size
    assert scaling.decay(half_life, batch_size) ** steps == pytest.approx(0.5)


@given(SIZES, SIZES, st.floats(0.5, 0.9999), st.booleans())
def test_there_and_back_is_where_it_was(one, other, decay, inside):
    numbers = {"learning_rate": 1e-3, "decay": decay, "eps": 1e-8, "eps_in_sqrt": inside}
    there = scaling.rescaled(one, other, **numbers)
    if there["decay"] > 1e-100:
        back = scaling.rescaled(other, one, **there)
        assert back == pytest.approx(numbers, rel=1e-6)


@given(SIZES, SIZES, st.floats(100, 1e6))
def test_the_half_life_in_examples_stays(one, other, half_life):
    numbers = scaling.rescaled(one, other, learning_rate=1.0, decay=scaling.decay(half_life, one), eps=0.0)
    assert numbers["decay"] == pytest.approx(scaling.decay(half_life, other), rel=1e-6, abs=1e-300)


def test_rmsprop_takes_what_it_returns():
    numbers = scaling.rescaled(1, 4, learning_rate=1e-3, decay=0.9, eps=1e-8)
    assert rmsprop(**numbers) == rmsprop(0.002, 0.9**4, 2.5e-9)
    assert numbers.keys() <= inspect.signature(rmsprop).parameters.keys()


def test_a_number_may_be_traced_or_one_of_a_sweep():
    rates = jax.vmap(lambda size: scaling.rescaled(1.0, size, learning_rate=1.0, decay=0.9, eps=1.0))(
        jnp.array([1.0, 4.0])
    )
    np.testing.assert_allclose(rates["learning_rate"], [1, 2])
    np.testing.assert_allclose(rates["eps"], [1, 0.25])
    np.testing.assert_allclose(jax.jit(scaling.decay)(100.0, 100.0), 0.5)


@pytest.mark.parametrize("inside", [True, False])
def test_where_gradients_are_noise_a_walk_is_as_long_as_before(inside):
    """Over the same examples, whose gradients are all noise, a walk ends as far away at either batch size.

    Eps is as large as what it is added to, so that an eps that does not follow the batch size would show.
    """
    noise = np.random.default_rng(0).normal(size=(16_384, 256)).astype(np.float32)

    def walked(batch_size, numbers):
        grads = noise.reshape(-1, batch_size, 256).mean(1)
        tx = rmsprop(**numbers)

        def step(carry, g):
            x, state = carry
            u, state = tx.update(g, state)
            return (x + u, state), None

        start = jnp.zeros(256)
        (x, _), _ = jax.lax.scan(step, (start, tx.init(start)), grads)
        return float(jnp.sqrt(jnp.mean(x**2)))

    numbers = {"learning_rate": 1e-3, "decay": 0.999, "eps": 1.0, "eps_in_sqrt": inside}
    one = walked(1, numbers)
    rescaled = scaling.rescaled(1, 32, **numbers)
    assert walked(32, rescaled) == pytest.approx(one, rel=0.05)
    for name in ("learning_rate", "eps"):
        assert walked(32, rescaled | {name: numbers[name]}) < 0.8 * one


WRONG = {
    "no half-life": (lambda: scaling.decay(0, 1), ValueError, "`half_life` must be above 0"),
    "a batch of nothing": (lambda: scaling.decay(1, 0), ValueError, "`batch_size` must be above 0"),
    "text": (lambda: scaling.decay("1000", 1), TypeError, "`half_life` must be a number"),
    "a schedule": (
        lambda: scaling.rescaled(1, 2, learning_rate=lambda step: 0.1, decay=0.9, eps=0.0),
        TypeError,
        "`learning_rate` must be a number.*pass its peak",
    ),
    "a decay of 1": (
        lambda: scaling.rescaled(1, 2, learning_rate=0.1, decay=1.0, eps=0.0),
        ValueError,
        r"`decay` must be a number in \[0, 1\)",
    ),
    "no number for a switch": (
        lambda: scaling.rescaled(1, 2, learning_rate=0.1, decay=0.9, eps=0.0, eps_in_sqrt=1),
        TypeError,
        "`eps_in_sqrt` must be True or False",
    ),
    "not a number": (lambda: scaling.rescaled(math.nan, 2, learning_rate=0.1, decay=0.9, eps=0.0), ValueError, "nan"),
}


@pytest.mark.parametrize("why", WRONG)
def test_what_is_refused(why):
    call, error, message = WRONG[why]
    with pytest.raises(error, match=f"(?s){message}"):
        call()
