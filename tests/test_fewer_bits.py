"""The codes of less than a byte that docs/memory.md compares: they are of as few bits as it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

NAMES = ("4 bits, largest", "3 bits, mean", "2 bits, mean")
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


def test_what_a_code_below_the_largest_gave_comes_back(fewer_bits):
    through = jax.jit(fewer_bits.CODES["4 bits, largest"].through)
    once = through(NU, 0, jnp.int32(1))
    assert (through(once, 0, jnp.int32(2)) == once).all()
    assert (once != NU).any()


def test_the_bytes_of_half_a_byte_are_those_of_its_arrays(fewer_bits):
    assert fewer_bits._bytes((64, 48), "nibble") == 64 * 48 / 2 + 4 * (64 + 48) + 2
    assert fewer_bits._bytes((15, 48), "nibble") == 15 * 48 + 10
    assert fewer_bits._bytes((64, 48), "3 bits, mean") == 64 * 48 * 3 / 8 + 5 * (64 + 48)
