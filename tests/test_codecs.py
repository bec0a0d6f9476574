"""Codecs, on every code they have: what comes back, what is lost, and that it is right on average."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.rows import rows

from rmsprop_optax import compression
from rmsprop_optax.compression import RmsNibble, ScaledCodec
from rmsprop_optax.compression.codecs import BFloat16, Codec, RmsByte, SignedByte, dither
from rmsprop_optax.compression.scales import encoded_again, is_scaled

RMS = [RmsByte(), RmsByte((-24, 4)), RmsByte((-31, 0)), RmsByte((-20, 5))]
SIGNED = [SignedByte(1.0), SignedByte(3e-4), SignedByte(np.float32(8.0)), SignedByte(relative_to="nu")]
CODECS = [*RMS, *SIGNED, BFloat16()]
BITS = np.concatenate([[0, 2**32 - 1], np.random.default_rng(0).integers(0, 2**32, 510)]).astype(np.uint32)[:, None]
EVEN = (np.arange(4096, dtype=np.uint32) << 20)[:, None]  # every dither there is, evenly
ANY = np.random.default_rng(1).integers(0, 2**32, 200_000).astype(np.uint32).view(np.float32)  # nan, inf, subnormal
ZERO = np.zeros(1, np.uint32)
encoded = jax.jit(lambda codec, x, bits: codec.encode(*jnp.broadcast_arrays(x, bits)), static_argnums=0)


def codes_of(codec):
    """Return every code in the order of what it stands for; NaN is left out."""
    if codec.dtype == jnp.bfloat16:
        codes = np.arange(2**16).astype(np.uint16).view(jnp.bfloat16)
        codes = codes[~np.isnan(codes.astype(np.float32)) & (np.abs(codes.astype(np.float32)) >= 2.0**-126)]
        return jnp.asarray(np.concatenate([codes[codes < 0][::-1], jnp.zeros(1, jnp.bfloat16), codes[codes > 0]]))
    info = jnp.iinfo(codec.dtype)
    return jnp.arange(info.min, info.max + 1, dtype=codec.dtype)


def decoded(codec):
    return np.asarray(codec.decode(codes_of(codec)))


def test_every_public_codec_is_tried_here():
    public = {getattr(compression, name) for name in compression.__all__}
    codecs = {thing for thing in public if inspect.isclass(thing) and hasattr(thing, "encode") and thing is not Codec}
    assert codecs - {ScaledCodec} == {type(codec) for codec in CODECS} | {RmsNibble}  # which is in test_nibble.py


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_every_code_comes_back_whatever_the_dither(codec):
    codes, few = codes_of(codec), BITS[:: 8 if codec.dtype == jnp.bfloat16 else 1]
    assert (encoded(codec, decoded(codec), few) == codes).all()


@pytest.mark.parametrize("codec", [*RMS, *SIGNED], ids=str)
def test_every_code_comes_back_from_a_value_wrong_in_its_last_places(codec):
    values, codes = decoded(codec), codes_of(codec)
    for toward in (np.float32(np.inf), np.float32(-np.inf)):
        near = values
        for _ in range(3):
            near = np.where(values == 0, values, np.nextafter(near, toward))
            assert (encoded(codec, near, BITS) == codes).all()


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_codes_are_in_the_order_of_what_they_stand_for(codec):
    assert (np.diff(decoded(codec)) > 0).all()
    assert len(codes_of(codec)) >= 256


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_larger_moment_or_a_larger_dither_never_has_a_smaller_code(codec):
    values = np.sort(ANY[np.isfinite(ANY) & ((ANY >= 0) | (codec not in RMS))])
    codes = codec.decode(encoded(codec, values, BITS[:32]))
    assert (np.diff(codes, axis=1) >= 0).all()
    positive = values[values > 0][::100]
    assert (np.diff(codec.decode(encoded(codec, positive, EVEN[::64])), axis=0) >= 0).all()


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_moment_becomes_one_of_its_two_neighbours(codec):
    grid = decoded(codec)
    grid = grid[np.isfinite(grid)]
    values = np.random.default_rng(2).permutation(ANY[np.isfinite(ANY) & (np.abs(ANY) >= 2.0**-126)])[:20_000]
    values = np.clip(np.abs(values) if codec in RMS else values, grid[0], grid[-1])
    above = np.clip(np.searchsorted(grid, values * (1 + 1e-6 * np.sign(values)), side="left"), 1, len(grid) - 1)
    below = np.clip(np.searchsorted(grid, values * (1 - 1e-6 * np.sign(values)), side="right") - 1, 0, None)
    back = np.asarray(codec.decode(encoded(codec, values, BITS[:32])))
    assert (back >= np.minimum(grid[below], grid[above])).all()
    assert (back <= np.maximum(grid[below], grid[above])).all()


def test_the_default_byte_has_eight_codes_an_octave_inside_its_window_and_one_outside():
    r = np.sqrt(decoded(RmsByte()))
    assert r[0] == 0
    assert (r[1], r[-1]) == (2.0**-46, 2.0**12)
    inside = (r >= 2.0**-28) & (r < 1)
    assert inside.sum() == 28 * 8
    assert set(np.round(np.diff(r[inside]) / 2.0 ** np.floor(np.log2(r[inside][:-1])), 6)) == {0.125}
    np.testing.assert_array_equal(np.log2(r[1:][~inside[1:]]), [*range(-46, -28), *range(13)])


@pytest.mark.parametrize("codec", RMS, ids=str)
def test_a_mean_square_beyond_the_grid_counts_as_its_end_and_nan_as_zero(codec):
    ends = codec.decode(jnp.array([1, 255], jnp.uint8)).tolist()
    beyond = np.array([1.2e-38, ends[0] / 9, ends[1] * 9, 3e38, np.inf, np.nan, 0.0], np.float32)
    back = np.asarray(codec.decode(encoded(codec, beyond, BITS)))
    assert (back == np.array([ends[0]] * 2 + [ends[1]] * 3 + [0, 0])).all()


@pytest.mark.parametrize("codec", SIGNED, ids=str)
def test_a_signed_moment_beyond_the_grid_counts_as_its_end_and_nan_as_zero(codec):
    ends = codec.decode(jnp.array([-128, 127], jnp.int8)).tolist()
    beyond = np.array([-np.inf, -3e38, ends[0] * 2, ends[1] * 2, 3e38, np.inf, np.nan, 0.0], np.float32)
    back = np.asarray(codec.decode(encoded(codec, beyond, BITS)))
    assert (back == np.array([ends[0]] * 3 + [ends[1]] * 3 + [0, 0])).all()
    assert encoded(codec, -np.array(beyond[4:5]), ZERO) == -128


def test_bfloat16_saturates_what_is_finite_and_keeps_what_is_not():
    largest = float(jnp.finfo(jnp.bfloat16).max)
    values = np.array([3.4e38, -3.4e38, np.inf, -np.inf, np.nan], np.float32)
    back = np.asarray(encoded(BFloat16(), values, BITS).astype(jnp.float32))
    np.testing.assert_array_equal(back, np.broadcast_to([largest, -largest, np.inf, -np.inf, np.nan], back.shape))


@pytest.mark.parametrize("codec", [*RMS, *SIGNED], ids=str)
def test_no_bit_pattern_is_decoded_to_nan_or_infinity(codec):
    values = np.abs(ANY) if codec in RMS else ANY
    back = codec.decode(encoded(codec, values, BITS[:4]))
    assert jnp.isfinite(back).all()
    if codec in RMS:
        assert (back >= 0).all()
        normal = values >= 2.0**-126
        assert (back[:, normal] > 0).all()


@pytest.mark.parametrize("codec", RMS[:2], ids=str)
def test_the_logarithm_of_a_root_mean_square_is_right_on_average(codec):
    low, high = codec.window
    r = (2.0 ** np.random.default_rng(3).uniform(low, high - 0.01, 2000)).astype(np.float32)
    back = np.asarray(codec.decode(encoded(codec, r * r, EVEN)), np.float64)
    bias = np.log(back).mean(0) / 2 - np.log(r.astype(np.float64))
    assert np.abs(bias).max() < 0.004  # a step is .06 to .12
    assert abs(bias.mean()) < 0.0005


@pytest.mark.parametrize("codec", [SignedByte(1.0), SignedByte(relative_to="nu")], ids=str)
def test_a_signed_moment_is_right_on_average(codec):
    values = np.random.default_rng(4).uniform(-60, 60, 500).astype(np.float32)
    values[:250] /= 60
    back = np.asarray(codec.decode(encoded(codec, values, EVEN)), np.float64)
    np.testing.assert_allclose(back.mean(0), values, atol=2e-5, rtol=2e-5)


def test_bfloat16_is_right_on_average():
    values = np.random.default_rng(5).normal(size=500).astype(np.float32)
    back = np.asarray(encoded(BFloat16(), values, EVEN).astype(jnp.float32), np.float64)
    np.testing.assert_allclose(back.mean(0), values, rtol=2.0**-19)


def follow(codec, decay, gradients, shape, steps, counted=lambda t: 1.0):
    """Average squares through a codec; return the average stored, the true one, and the sum of r used over r true."""
    rest = np.float32(1 - decay)

    def step(carry, t):
        stored, true, total = carry
        g = gradients(t)
        used, true = stored - rest * stored + rest * g * g, true - rest * true + rest * g * g
        bits = dither(used, jnp.uint32(0), t + 1)
        if is_scaled(codec):
            stored = codec.decode(*encoded_again(codec, used, bits, None, None))
        else:
            stored = codec.decode(codec.encode(used, bits))
        return (stored, true, total + counted(t) * jnp.sqrt(used / true)), None

    carry = (jnp.ones(shape), jnp.ones(shape), jnp.zeros(shape))
    return map(np.asarray, jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(steps))[0])(carry))


FALLING = [(RmsByte(), 0.04, 3.0), (BFloat16(), 0.01, 0.3), (RmsNibble(), 0.04, 4.0)]
SPANS = [(0.9, 300), (0.99, 3000), (0.999, 20000)]
FALLS = [(*row, *span) for row in FALLING for span in SPANS]


@pytest.mark.parametrize(
    ("codec", "within", "most", "decay", "steps"), rows(FALLS, [row for row in FALLS if row[0] != RmsNibble()])
)
def test_without_gradients_the_average_falls_at_its_rate(codec, within, most, decay, steps):
    shape = (16, 32)
    stored, true, _ = follow(codec, decay, lambda t: jnp.zeros(shape), shape, steps)
    ratio = np.log(stored / true) / 2  # nothing pulls it back, so an element walks; all of them together do not drift
    assert abs(ratio.mean()) < within * abs(np.log(true[0, 0]) / 2)
    assert np.abs(ratio).max() < most


def test_without_gradients_the_byte_ends_at_its_smallest_code_and_bfloat16_at_zero():
    stored, _, _ = follow(RmsByte(), 0.9, lambda t: jnp.zeros(64), 64, 1500)
    assert (stored == 2.0**-92).all()
    stored, _, _ = follow(BFloat16(), 0.9, lambda t: jnp.zeros(64), 64, 1500)
    assert (stored < 1e-37).all()


REPEATED = [(RmsByte(), 0.9, 1.12, (48,)), (BFloat16(), 0.97, 1.03, (48,)), (RmsNibble(), 0.9, 1.12, (16, 20))]


@pytest.mark.parametrize(
    ("codec", "low", "high", "elements", "decay"),
    rows(
        [(*row, decay) for row in REPEATED for decay in (0.9, 0.99, 0.999)],
        [(*row, decay) for row in REPEATED[:2] for decay in (0.9, 0.999)],
    ),
)
@pytest.mark.parametrize("kind", ["spike", "random"])
def test_gradients_that_repeat_exactly_do_not_shift_the_average_at_any_period_to_200(
    codec, low, high, elements, decay, kind
):
    periods = np.arange(2, 201)
    table = np.random.default_rng(6).normal(size=200).astype(np.float32) * 0.1
    warm, cycles = round(6 / (1 - decay)), 4096 // periods
    shape, alone = (len(periods), *elements), (-1, *(1,) * len(elements))

    def gradients(t):
        g = jnp.where(t % periods == 0, 1.0, 0.0) if kind == "spike" else jnp.asarray(table)[t % periods]
        return jnp.broadcast_to(g.reshape(alone), shape)

    def counted(t):
        return ((t >= warm) & (t < warm + cycles * periods)).reshape(alone)

    _, _, total = follow(codec, decay, gradients, shape, warm + 4096, counted)
    means = total.reshape(len(periods), -1).mean(1) / (cycles * periods)
    assert means.min() >= low
    assert means.max() <= high


@pytest.mark.full
def test_the_dither_numbers_elements_in_their_order_whatever_the_shape():
    flat = dither(jnp.zeros(105), jnp.uint32(3), jnp.int32(77))
    for shape in ((3, 5, 7), (105, 1), (1, 15, 7)):
        assert (dither(jnp.zeros(shape), jnp.uint32(3), jnp.int32(77)) == flat.reshape(shape)).all()
    assert dither(jnp.zeros(()), jnp.uint32(3), jnp.int32(77)) == flat[0]


def test_the_dither_of_an_element_fills_the_range_evenly_within_128_steps_and_then_starts_elsewhere():
    bits = jax.vmap(lambda count: dither(jnp.zeros(1000), jnp.uint32(0), count))(jnp.arange(256))
    for epoch in (bits[:128], bits[128:]):
        ordered = np.sort(np.asarray(epoch, np.float64), axis=0) / 2**32
        uniform = (np.arange(128)[:, None] + 0.5) / 128
        assert np.abs(ordered - uniform).max() < 0.04  # for 128 independent numbers it is .12 at the median
    step = np.asarray(bits[128] - bits[127])
    assert len(np.unique(step)) == 1000
    assert len(np.unique(np.asarray(bits[127] - bits[126]))) == 4


def test_elements_leaves_and_steps_have_dithers_of_their_own():
    leaves = [np.asarray(dither(jnp.zeros(500), jnp.uint32(n), jnp.int32(t))) for n in range(4) for t in (1, 2, 300)]
    assert len(np.unique(leaves)) == 500 * 12
    correlations = np.corrcoef(np.array(leaves, np.float64))[np.triu_indices(12, 1)]
    assert np.median(np.abs(correlations)) < 0.1


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_codec_is_a_value_of_the_protocol_and_cannot_be_called(codec):
    assert isinstance(codec, Codec)
    assert pickle.loads(pickle.dumps(codec)) == codec
    assert hash(pickle.loads(pickle.dumps(codec))) == hash(codec)
    assert not callable(codec)
    assert eval(repr(codec), {type(codec).__name__: type(codec), "np": np}) == codec


@pytest.mark.parametrize("window", [(-28.0, 0), [-28, 0], (-28,), (-28, 0, 1), -28, None, (True, 30), "ab"], ids=str)
def test_a_window_that_is_not_a_pair_of_integers_is_refused(window):
    with pytest.raises(TypeError, match="`window` must be two integers"):
        RmsByte(window)


@pytest.mark.parametrize("window", [(0, 0), (0, -28), (-23, 0), (-32, 0)], ids=str)
def test_a_window_too_narrow_or_too_wide_is_refused(window):
    with pytest.raises(ValueError, match="`window` must be 24 to 31 octaves wide"):
        RmsByte(window)


@pytest.mark.parametrize("window", [(-60, -32), (30, 58), (-50, -22)], ids=str)
def test_a_window_whose_codes_leave_float32_is_refused(window):
    with pytest.raises(ValueError, match=r"`window` must keep all codes within 2\^-62 and 2\^62"):
        RmsByte(window)


@pytest.mark.parametrize("unit", [0.0, -1.0, float("inf"), float("nan"), 1e-40])
def test_a_unit_out_of_range_is_refused(unit):
    with pytest.raises(ValueError, match="`unit` must be a number within"):
        SignedByte(unit)


@pytest.mark.parametrize("unit", [True, "1", 1j])
def test_a_unit_that_is_not_a_number_is_refused(unit):
    with pytest.raises(TypeError, match="`unit` must be a number within"):
        SignedByte(unit)


def test_a_signed_byte_asks_for_its_unit_where_it_cannot_be_told():
    with pytest.raises(ValueError, match=r"Pass `unit`, about the size of what is kept: .* learning rate"):
        SignedByte()
    codes = jnp.arange(-128, 128, dtype=jnp.int8)
    assert (SignedByte(relative_to="nu").decode(codes) == SignedByte(1.0).decode(codes)).all()


@pytest.mark.parametrize("field", ["mu", "variance", 1])
def test_another_reference_than_the_second_moment_is_refused(field):
    with pytest.raises(ValueError, match='`relative_to` must be None or "nu", the second moment beside it, got'):
        SignedByte(relative_to=field)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_what_a_codec_says_it_can_hold_is_what_it_holds(codec):
    values = decoded(codec)
    assert codec.signed == (values.min() < 0)
    positive = values[(values > 0) & np.isfinite(values)].astype(np.float64)
    assert codec.scale_free == (positive.max() / positive.min() > 2.0**64)  # gradients of 1e-10 and of 1, squared


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a compiler for CPUs compiles equal kernels once")
def test_the_number_of_a_leaf_is_not_part_of_the_kernel_that_encodes_it():
    def encode(x, count):
        return RmsByte().encode(x, dither(x, np.uint32(5), count))

    shapes = jax.ShapeDtypeStruct((64, 32), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    text = jax.jit(encode).lower(*shapes).compile().as_text()
    number = str(5 * 0x85EBCA6B % 2**32)
    (kernel,) = (part for part in text.split("\n}") if "ROOT" in part and "u8[64,32]" in part and "ENTRY" not in part)
    assert number in text
    assert number not in kernel
