"""The codes of less than a byte that docs/memory.md compares: they are of as few bits as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

NAMES = ("4 bits, mean", "4 bits, largest", "4 bits, largest, evenly", "3 bits, mean", "2 bits, mean")
NU = jnp.asarray(np.random.default_rng(0).lognormal(sigma=6, size=(48, 20)), jnp.float32).at[3].set(0).at[:, 2].set(0)


@pytest.fixture
def fewer_bits(benchmark_modules):
    import fewer_bits

    return fewer_bits


@pytest.mark.parametrize("name", NAMES)
def test_the_points_about_an_estimate_are_as_many_as_the_bits_can_number_beside_zero_and_the_largest(fewer_bits, name):
    estimate, grid = fewer_bits.GRIDS[name]
    about_mean = estimate is fewer_bits.mean
    near = jnp.arange(960, 1024, 1 if about_mean else 2)[:, None]
    r = jnp.asarray(2.0 ** np.linspace(-20, 8, 1500), jnp.float32)[None]
    rounded = jax.jit(lambda r, bits: fewer_bits.rounded(*jnp.broadcast_arrays(r, near), grid, bits))
    back = np.concatenate([rounded(r, jnp.uint32(bits)) for bits in (0, 2**31, 2**32 - 1)], axis=1)
    points = [np.unique(row) for row in back]
    assert max(map(len, points)) == 2**grid.bits - (2 if about_mean else 1)
    for row in (np.array([row[i % len(row)] for row in points], np.float32)[:, None] for i in range(15)):
        np.testing.assert_array_equal(rounded(row, jnp.uint32(2**32 - 1)), row)


@pytest.mark.parametrize("name", NAMES)
def test_zero_stays_zero_what_is_positive_stays_so_and_none_is_above_the_largest(fewer_bits, name):
    back = jax.jit(fewer_bits.CODES[name].through)(NU, 0, jnp.int32(5))
    assert ((back > 0) == (NU > 0)).all()
    assert jnp.isfinite(back).all()
    step = 1 + max(fewer_bits.GRIDS[name][1].spacings) / 8  # the widest, from point to point
    assert (back.max(1) <= step**2 * NU.max(1)).all()


@pytest.mark.parametrize("name", NAMES[1:3])
def test_what_a_code_below_the_largest_gave_comes_back(fewer_bits, name):
    through = jax.jit(fewer_bits.CODES[name].through)
    once = through(NU, 0, jnp.int32(1))
    assert (through(once, 0, jnp.int32(2)) == once).all()
    assert (once != NU).any()


def test_what_a_code_about_the_mean_gave_is_at_rest_after_a_few_times(fewer_bits):
    rng = np.random.default_rng(0)
    sizes = rng.normal(size=(256, 1)) + rng.normal(size=(1, 128)) + 0.7 * rng.normal(size=(256, 128))
    through = jax.jit(fewer_bits.CODES["4 bits, mean"].through)
    first = through(jnp.asarray(np.exp(sizes), jnp.float32), 0, jnp.int32(1))
    back = first
    for count in range(2, 6):
        back = through(back, 0, jnp.int32(count))
    assert (through(back, 0, jnp.int32(6)) == back).all()
    assert (back != first).mean() < 0.02
