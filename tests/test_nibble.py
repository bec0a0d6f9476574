"""The codec of half a byte: every code comes back, its scales are exact, and what it gives is right on average.

What it does to an average over many steps is in test_codecs.py.
"""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmsprop_optax.compression import RmsByte, RmsNibble, ScaledCodec

CODEC = RmsNibble()
encode, decode, scales_of = jax.jit(CODEC.encode), jax.jit(CODEC.decode), jax.jit(CODEC.scales)
DITHERS = (0, 2**31, 2**32 - 1)


def magnitudes(shape=(64, 48), spread=0.7, seed=0, size=1e-6):
    """Return mean squares that a row and a column have much to do with."""
    rng = np.random.default_rng(seed)
    logs = 2 * rng.normal(size=(*shape[:-1], 1)) + 2 * rng.normal(size=shape[-1]) + spread * rng.normal(size=shape)
    return jnp.asarray(size * np.exp(logs), jnp.float32)


def bits(shape, value):
    return jnp.full(shape, value, jnp.uint32)


def through(x, dither_bits, scales=None):
    scales = scales_of(x) if scales is None else scales
    return decode(encode(x, jnp.broadcast_to(jnp.asarray(dither_bits, jnp.uint32), x.shape), scales), scales)


def every_code():
    """Return scales, and codes with all sixteen in each column: the largest are above all other points."""
    scales = scales_of(magnitudes((32, 16)))
    scales |= {part: scales[part] * 1000 for part in ("row_max", "column_max")}
    return scales, jnp.asarray(np.arange(16 * 16).reshape(16, 16), jnp.uint8)


def test_every_code_comes_back_whatever_the_dither():
    scales, codes = every_code()
    for value in DITHERS:
        assert (encode(decode(codes, scales), bits((32, 16), value), scales) == codes).all()


@pytest.mark.parametrize("toward", [np.inf, -np.inf])
def test_every_code_comes_back_from_a_value_wrong_in_its_last_places(toward):
    scales, codes = every_code()
    near = values = np.asarray(decode(codes, scales))
    for _ in range(3):
        near = np.where(values == 0, values, np.nextafter(near, np.float32(toward)))
        for value in DITHERS:
            assert (encode(jnp.asarray(near), bits((32, 16), value), scales) == codes).all()


def test_points_are_in_the_order_of_their_codes_and_next_to_the_estimate_an_eighth_of_an_octave_apart():
    scales, _ = every_code()
    one = jax.vmap(lambda code: decode(jnp.full((16, 16), code * 17, jnp.uint8), scales))(
        jnp.arange(16, dtype=jnp.uint8)
    )
    r = np.sqrt(np.asarray(one, np.float64))
    assert (r[0] == 0).all()
    assert (np.diff(r, axis=0) > 0).all()
    mantissa, exponent = np.frexp(r[1:15])
    eighths = np.diff(8 * (exponent + 2 * mantissa), axis=0)  # as a float counts them, linear within an octave
    assert (eighths[6:10] == 1).all()
    assert set(np.unique(eighths)) == {1, 2, 4}
    assert set(np.unique(eighths.sum(0))) == {28, 32}


def test_the_scales_are_the_root_mean_squares_and_the_largest_roots_of_rows_and_columns():
    x = magnitudes((3, 64, 48))
    scales = {part: np.asarray(scale, np.float64) for part, scale in scales_of(x).items()}
    nu = np.asarray(x, np.float64)
    for part, axis in (("row_rms", -1), ("column_rms", -2), ("rms", (-2, -1))):
        true = np.sqrt(nu.mean(axis, keepdims=True))
        assert scales[part].shape == true.shape
        np.testing.assert_allclose(scales[part], true, rtol=2.0**-8 if part != "rms" else 2.0**-7)
    for part, axis in (("row_max", -1), ("column_max", -2)):
        ratio = scales[part] / np.sqrt(nu.max(axis, keepdims=True))
        assert (ratio >= 1).all()
        assert (ratio <= 1 + 2.0**-7).all()
    assert scales_of(x)["rms"].dtype == jnp.bfloat16


def test_the_scales_of_permuted_rows_and_columns_are_the_same_bits():
    """They are sums of whole numbers: neither their order matters nor how they are split over devices."""
    x, rng = magnitudes((256, 96), spread=2.0), np.random.default_rng(1)
    m, n = rng.permutation(256), rng.permutation(96)
    ours, theirs = scales_of(x), scales_of(x[m][:, n])
    for part, scale in ours.items():
        moved = scale[m] if scale.shape[0] > 1 else scale
        moved = moved[:, n] if moved.shape[1] > 1 else moved
        assert (theirs[part] == moved).all(), part


def test_a_product_of_rows_and_columns_is_rounded_to_an_eighth_of_an_octave_at_most():
    x = jnp.outer(4.0 ** jnp.linspace(-12, 3, 64), 4.0 ** jnp.linspace(-9, 2, 48))
    for value in DITHERS:
        ratio = np.sqrt(np.asarray(through(x, value), np.float64) / np.asarray(x, np.float64))
        assert ratio.max() < 1.25
        assert ratio.min() > 1 / 1.25
    assert np.median(np.abs(np.log2(ratio))) < 1 / 8


def test_zero_stays_zero_what_is_positive_stays_so_and_rows_and_columns_may_be_zero():
    x = magnitudes().at[3].set(0).at[:, 5].set(0).at[7, 7].set(0)
    for value in DITHERS:
        back = through(x, value)
        assert ((back > 0) == (x > 0)).all()
        assert jnp.isfinite(back).all()
    assert (through(jnp.zeros((32, 16)), 1) == 0).all()


ODD = [np.nan, np.inf, -np.inf, -1.0, 3e38, 1e38, 2.0**93, 1e-38, 2.0**-126, 1e-44, 0.0]


@pytest.mark.parametrize("value", ODD)
def test_one_odd_number_leaves_all_others_what_they_are(value):
    x = magnitudes().at[3, 4].set(value)
    scales = scales_of(x)
    back = np.asarray(through(x, 2**31))
    assert all(bool(jnp.isfinite(scale).all()) for scale in scales.values())
    assert np.isfinite(back).all()
    if not value > 0 or value < 2.0**-126:
        assert back[3, 4] == 0
    elif value > 1:
        assert back[3, 4] == pytest.approx(2.0**92, rel=0.02)
    else:
        assert 0 < back[3, 4] < np.median(back[3])
    elsewhere = np.ones(x.shape, bool)
    elsewhere[3], elsewhere[:, 4] = False, False
    assert (back[elsewhere] > 0).all()


def test_no_bit_pattern_is_decoded_to_nan_or_infinity():
    raw = np.random.default_rng(2).integers(0, 2**32, (64, 256)).astype(np.uint32).view(np.float32)
    back = through(jnp.asarray(np.abs(raw)), 12345)
    assert jnp.isfinite(back).all()
    assert (back >= 0).all()


def test_an_element_far_below_takes_the_lowest_point_and_none_is_far_above_itself_and_the_largest():
    x = magnitudes(spread=4.0)
    scales, nu = scales_of(x), np.asarray(x, np.float64)
    most = np.minimum(*(np.asarray(scales[part], np.float64) for part in ("row_max", "column_max"))) ** 2
    for value in DITHERS:
        codes = encode(x, bits(x.shape, value), scales)
        code = np.stack([codes & 15, codes >> 4], 1).reshape(x.shape)
        back = np.asarray(decode(codes, scales), np.float64)
        assert (back[code == 15] == most[code == 15]).all()
        assert value < 2**32 - 1 or (code == 15).any()
        between = (code > 1) & (code < 15)
        assert (back <= 1.5**2 * nu)[between].all()  # the widest step
        assert (back >= nu / 1.5**2)[between & (code < 14)].all()
        assert ((back >= nu / 1.5**2) & (back > 0))[code == 1].all()


def test_the_fourth_root_of_r_is_right_on_average_between_points():
    x = magnitudes((64, 64), spread=0.2)
    even = jnp.arange(1024, dtype=jnp.uint32) << 22
    back = np.asarray(jax.lax.map(lambda value: through(x, value, scales_of(x)), even), np.float64)
    bias = (back**0.125).mean(0) / np.asarray(x, np.float64) ** 0.125 - 1
    between = (back.min(0) <= x) & (x <= back.max(0)) & (np.sqrt(back.max(0) / back.min(0)) < 1.6)
    assert between.mean() > 0.95
    assert np.abs(bias[between]).max() < 1.5e-3  # of the fourth root: a step is .02 to .1
    assert abs(bias[between].mean()) < 2e-4


def test_a_mean_square_above_all_other_points_is_right_on_average():
    x = magnitudes((64, 64), spread=0.2).at[::8, 3].mul(300.0)
    even = jnp.arange(1024, dtype=jnp.uint32) << 22
    back = np.asarray(jax.lax.map(lambda value: through(x, value, scales_of(x)), even), np.float64)
    above = back.max(0) > 4 * back.min(0)
    assert above.sum() >= 6
    off = np.abs(back.mean(0) - np.asarray(x))
    assert (off <= 0.01 * np.asarray(x) + back.max(0) / 1024)[above].all()  # a dither of 1024 more or less


@pytest.mark.parametrize(
    ("shape", "halves"),
    [
        ((), False),
        ((7,), False),
        ((4096,), False),
        ((15, 64), False),  # an odd number of rows
        ((8, 16), False),  # 128 bytes, and its scales 98 above 64
        ((16, 16), False),
        ((16, 20), True),
        ((18, 20), True),
        ((2, 4096), False),
        ((64, 1), False),
        ((64, 48), True),
        ((3, 3, 64, 48), True),
        ((5, 16, 16), False),
        ((0, 64), False),
    ],
)
def test_a_leaf_is_in_half_bytes_where_that_is_less_and_in_a_byte_elsewhere(shape, halves):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    scales = jax.eval_shape(CODEC.scales, x)
    codes = jax.eval_shape(CODEC.encode, x, jax.ShapeDtypeStruct(shape, jnp.uint32), scales)
    assert jax.eval_shape(CODEC.decode, codes, scales).shape == shape
    assert set(scales) == set(CODEC.parts)
    assert all(scale.ndim == x.ndim and scale.dtype == jnp.bfloat16 for scale in scales.values())
    total = sum(array.size * array.dtype.itemsize for array in (codes, *scales.values()))
    if halves:
        *_, m, n = shape
        matrices = x.size // (m * n)
        assert codes.shape == (*shape[:-2], m // 2, n)
        assert total == matrices * (m * n // 2 + 4 * (m + n) + 2) <= x.size
    else:
        assert codes.shape == shape
        assert total == x.size + 10


@pytest.mark.parametrize("shape", [(7,), (15, 64)])
def test_where_it_is_in_a_byte_it_has_the_byte_s_codes(shape):
    x = magnitudes((16, 64))[:15].ravel()[: np.prod(shape)].reshape(shape)
    scales = scales_of(x)
    codes = encode(x, bits(shape, 12345), scales)
    expected = jax.jit(RmsByte().encode)(x, bits(shape, 12345))
    assert (codes == expected).all()
    assert (decode(codes, scales) == RmsByte().decode(expected)).all()


def test_matrices_in_front_are_coded_as_they_would_be_alone():
    x = magnitudes((3, 32, 48))
    each = bits((32, 48), 99)
    scales = scales_of(x)
    codes = encode(x, bits(x.shape, 99), scales)
    for i in range(3):
        alone = scales_of(x[i])
        assert (codes[i] == encode(x[i], each, alone)).all()
        assert all((scales[part][i] == alone[part]).all() for part in CODEC.parts)


def test_it_is_a_value_of_the_protocol_and_cannot_be_called():
    assert isinstance(CODEC, ScaledCodec)
    assert pickle.loads(pickle.dumps(CODEC)) == CODEC == eval(repr(CODEC))
    assert hash(RmsNibble()) == hash(CODEC)
    assert not callable(CODEC)
    assert not isinstance(RmsByte(), ScaledCodec)


def test_other_arrays_than_its_own_are_refused_by_name():
    x, scales = magnitudes(), scales_of(magnitudes())
    codes = encode(x, bits(x.shape, 0), scales)
    with pytest.raises(TypeError, match="`x` must be an array of float32"):
        CODEC.scales(x.astype(jnp.bfloat16))
    with pytest.raises(TypeError, match="`codes` must be an array of uint8"):
        CODEC.decode(codes.astype(jnp.int8), scales)
    for bad in ({}, None, {**scales, "more": x}, [*scales.values()]):
        with pytest.raises(TypeError, match=r"`scales` must be what `scales\(x\)` returned"):
            CODEC.decode(codes, bad)
    with pytest.raises(TypeError, match=r"scales\['rms'\]` must be an array of bfloat16"):
        CODEC.encode(x, bits(x.shape, 0), scales | {"rms": scales["rms"].astype(jnp.float32)})
    with pytest.raises(ValueError, match="`bits` must have the shape of `x`"):
        CODEC.encode(x, bits((3,), 0), scales)
