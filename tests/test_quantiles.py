"""Quantiles of arrays together are those of the joined array, to a rounding of the last digit, and move no data."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.rows import rows

from rmsprop_optax import diagnostics, rmsprop
from rmsprop_optax.diagnostics import quantiles as counting
from rmsprop_optax.diagnostics.quantiles import quantiles, shares
from rmsprop_optax.sharding import state_shardings

Q = np.array([0.0, 0.05, 0.5, 0.951, 1.0], np.float32)
RNG = np.random.default_rng(0)
WIDE = [RNG.normal(size=shape) * 10.0 ** RNG.integers(-30, 30, shape) for shape in [(3,), (8, 4), (1,), (50, 3, 7), ()]]
KINDS = {
    "positive": [np.minimum(x**2, 1e37) for x in WIDE],
    "of both signs": WIDE,
    "with ties": [RNG.integers(0, 3, x.shape).astype(float) for x in WIDE],
    "all equal": [np.full(x.shape, 2.5) for x in WIDE],
    "with infinities": [np.where(x > 1, np.inf, x) for x in WIDE],
    "with a NaN": [*WIDE[:-1], np.array(np.nan)],
    "with zeros of both signs": [np.where(x > 0, 0.0, -0.0) for x in WIDE],
}


def joined(arrays):
    return jnp.concatenate([jnp.ravel(x) for x in arrays])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantiles_are_those_of_the_joined_array(kind, dtype):
    with jax.enable_x64(dtype == "float64"):
        arrays = [jnp.asarray(x, dtype) for x in KINDS[kind]]
        each, every = quantiles(arrays, jnp.asarray(Q))
        for found, x in [*zip(each, arrays, strict=True), (every, joined(arrays))]:
            expected = jnp.quantile(x, jnp.asarray(Q, dtype))
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(dtype).eps)  # of one sum, rounded otherwise


def test_elements_are_found_to_the_bit():
    arrays = [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in [(4, 8), (30,), (3,)]]
    _, every = quantiles(arrays, jnp.arange(65) / 64)  # whose ranks are whole numbers
    assert np.array_equal(every, np.sort(joined(arrays)))


def test_mixed_precision_keeps_each_array_s_own():
    with jax.enable_x64(True):
        arrays = [jnp.asarray(KINDS["positive"][1], jnp.float32), jnp.asarray(KINDS["positive"][3], jnp.float64)]
        each, every = quantiles(arrays, jnp.asarray(Q))
        assert [x.dtype for x in (*each, every)] == ["float32", "float64", "float64"]
        np.testing.assert_allclose(every, jnp.quantile(joined(arrays), jnp.asarray(Q, float)), rtol=1e-12)


def test_counts_go_beyond_what_32_bits_hold():
    count = counting._carried(jnp.uint32(2**20), jnp.uint32(2**17 + 5))
    assert [int(part) for part in count] == [2**20 + 2, 5]
    more = counting._Count(jnp.uint32(2**20 + 2), jnp.uint32(6))
    assert bool(counting._at_most(count, more))
    assert not bool(counting._at_most(more, count))


def test_an_array_of_more_elements_is_counted_row_by_row(monkeypatch):
    monkeypatch.setattr(counting, "_TOO_MANY", 100)
    mask = jnp.asarray(RNG.random((40, 5, 7)) < 0.5)
    counts = [counting._carried(*count) for count in counting._count(mask, ~mask)]
    assert [int(count.high) * 2**16 + int(count.low) for count in counts] == [mask.sum(), mask.size - mask.sum()]


def test_eight_billion_parameters_are_measured():
    params = {"w": jax.ShapeDtypeStruct((2**20, 2**13), jnp.float32), "b": jax.ShapeDtypeStruct((3,), jnp.float32)}
    state = jax.eval_shape(rmsprop(0.1).init, params)
    found = jax.eval_shape(lambda *trees: diagnostics.measure(*trees, 0.1), params, params, state, params)
    assert found["all"]["effective_learning_rate"].shape == (3,)
    assert jax.eval_shape(diagnostics.oscillation, params, params)["all"]["reversed"].shape == ()


def test_a_rank_that_float32_rounds_up_is_the_last():
    size = 2**24 + 4
    assert np.float32(size - 1) == size
    rank, last, weight = counting._ranks([size], [jnp.dtype("float32")], jnp.ones(1))
    assert [int(part[0, 0]) for part in rank] == [int(part[0, 0]) for part in last] == [2**8, 3]
    assert weight == 0


@pytest.mark.full
def test_a_share_is_counted_exactly():
    masks = [jnp.ones(2**24 + 1, bool), jnp.zeros((2, 3), bool), jnp.asarray(True)]
    assert float(shares(masks)[1]) == np.float32(2**24 + 2) / np.float32(2**24 + 8)


def test_members_under_vmap_are_measured_apart():
    x = jnp.asarray(RNG.normal(size=(3, 5, 7)), jnp.float32)
    each, every = jax.vmap(lambda x: quantiles([x, 2 * x], jnp.asarray(Q)))(x)
    for i in range(3):
        np.testing.assert_allclose(each[0][i], jnp.quantile(x[i], Q), rtol=3e-7)
        np.testing.assert_allclose(every[i], jnp.quantile(joined([x[i], 2 * x[i]]), Q), rtol=3e-7)


SHAPES = {"w": (256, 512), "v": (512, 256), "b": (4096,)}
SPECS = {"w": P("x", "y"), "v": P(("x", "y")), "b": P("y")}


@pytest.mark.parametrize("axis_type", rows([AxisType.Auto, AxisType.Explicit], []))
def test_diagnostics_on_eight_devices_hold_a_few_shards_and_exchange_a_few_numbers(axis_type):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type, axis_type))
    homes = {key: NamedSharding(mesh, spec) for key, spec in SPECS.items()}
    params, gradients, updates = (
        {key: jax.device_put(np.float32(RNG.normal(size=n)), homes[key]) for key, n in SHAPES.items()} for _ in range(3)
    )
    tx = rmsprop(0.1)
    state = jax.jit(tx.init, out_shardings=state_shardings(tx, params))(params)
    _, state = jax.jit(tx.update)(gradients, state)
    shard = sum(x.addressable_shards[0].data.nbytes for x in params.values())
    calls = {
        lambda *trees: diagnostics.measure(*trees, 0.1): (gradients, updates, state, params),
        diagnostics.oscillation: (gradients, updates),
    }
    for function, given in calls.items():
        compiled = jax.jit(function).lower(*given).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 8 * shard  # gathered, it was 21 and 24
        program = compiled.as_text()
        moved = re.findall(r"= \w+\[([\d,]*)\]\S* (?:all-gather|all-to-all|collective-permute)\(", program)
        assert max([np.prod([int(n) for n in shape.split(",")]) for shape in moved], default=0) <= 8  # counts
        assert "sort(" not in program
        alone = jax.jit(function)(*jax.device_get(given))
        for ours, theirs in zip(jax.tree.leaves(compiled(*given)), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)
