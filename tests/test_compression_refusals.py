"""`compressed`: what is refused, and the sentence that says so."""

import jax
import jax.numpy as jnp
import optax
import pytest

from rmsprop_optax import moments, rmsprop
from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble, SignedByte, compressed, decompress, recompress

PARAMS = {"w": jnp.ones((4, 6)), "b": {"x": jnp.ones(5)}}
BYTE = {"nu": RmsByte()}


def test_no_codec_at_all_is_refused():
    for function in (lambda: compressed(rmsprop(0.1)), lambda: decompress(())):
        with pytest.raises(ValueError, match="Name at least one of `nu`, `variance`, `mu`, `trace`"):
            function()


@pytest.mark.parametrize("bad", [RmsByte, "uint8", jnp.uint8, 8, lambda x: x])
def test_what_is_not_a_codec_is_refused(bad):
    with pytest.raises(TypeError, match="`nu` must be a codec, such as"):
        compressed(rmsprop(0.1), nu=bad)


@pytest.mark.parametrize("bad", [None, 3, rmsprop])
def test_what_is_not_a_transformation_is_refused(bad):
    with pytest.raises(TypeError, match="`tx` must be an optax transformation"):
        compressed(bad, **BYTE)


def test_an_unknown_field_is_refused_at_the_call_and_one_that_is_not_kept_at_init():
    with pytest.raises(TypeError, match="rho"):
        compressed(rmsprop(0.1), rho=RmsByte())
    with pytest.raises(ValueError, match="`mu` is no field of the state of this transformation; it has `nu`"):
        compressed(rmsprop(0.1), mu=BFloat16()).init(PARAMS)
    with pytest.raises(ValueError, match="it has none of `nu`, `variance`, `mu`, `trace`"):
        compressed(optax.sgd(0.1), **BYTE).init(PARAMS)


class Mine:
    """A codec from before codecs said what they hold."""

    dtype, relative_to = jnp.bfloat16, None
    encode = decode = staticmethod(lambda x, *_: x)


def test_a_codec_that_does_not_say_what_it_holds_is_refused_with_what_it_lacks():
    with pytest.raises(TypeError, match=r"`nu` must be a codec, .* It lacks `signed`, `scale_free`"):
        compressed(rmsprop(0.1), nu=Mine())


@pytest.mark.parametrize("codec", [RmsByte, RmsNibble])
@pytest.mark.parametrize("field", [name for name in moments.NAMES if name not in moments.SECOND])
def test_a_codec_without_signs_is_refused_for_what_can_be_negative(field, codec):
    name = codec.__name__
    with pytest.raises(ValueError, match=rf"`{field}` can be negative, and {name}\(.* no signs. Use .*SignedByte"):
        compressed(rmsprop(0.1), **{field: codec()})


@pytest.mark.parametrize("field", moments.SECOND)
def test_a_codec_with_one_scale_is_refused_for_a_second_moment(field):
    with pytest.raises(ValueError, match=rf"`{field}` spans many .* SignedByte\(.* has one scale. Use .*RmsByte"):
        compressed(rmsprop(0.1), **{field: SignedByte(1.0)})
    for function in (decompress, recompress):
        with pytest.raises(ValueError, match="has one scale"):
            function((), **{field: SignedByte(1.0)})


class Odd(BFloat16):
    """A codec that is relative to a field of which nothing is known."""

    relative_to = "loss"


def test_a_reference_that_is_not_there_or_is_relative_itself_is_refused():
    with pytest.raises(ValueError, match=r"`trace` is kept relative to 'loss'; `relative_to` must be None or \"nu\""):
        compressed(rmsprop(0.1), trace=Odd())
    for second in moments.SECOND:
        with pytest.raises(ValueError, match=f"`{second}` is a second moment and can't be kept relative to itself"):
            compressed(rmsprop(0.1), **{second: SignedByte(relative_to="nu")})
    with pytest.raises(ValueError, match="`state` at 2/trace/b/x has no second moment beside it"):
        compressed(rmsprop(0.1, momentum=0.9), trace=SignedByte(relative_to="nu")).init(PARAMS)


def test_the_mean_square_of_a_centered_optimizer_is_refused_with_what_it_keeps():
    with pytest.raises(
        ValueError, match="`nu` is no field of the state of this transformation; it has `variance`, `mu`"
    ):
        compressed(rmsprop(0.1, centered=True), **BYTE).init(PARAMS)


def test_complex_and_float64_moments_are_refused_by_their_path():
    tx = compressed(rmsprop(0.1, momentum=0.9, lr_in_momentum=False), trace=BFloat16())
    with pytest.raises(TypeError, match=r"`state` at 1/trace/w must be in float32 or less and real .* got complex64"):
        tx.init({"w": jnp.ones(2, jnp.complex64)})
    with jax.enable_x64(True), pytest.raises(TypeError, match=r"`state` at 0/nu must be in float32 .* got float64"):
        compressed(rmsprop(0.1), **BYTE).init(jnp.ones(2, jnp.float64))


def test_a_state_of_another_kind_or_another_codec_is_refused():
    tx = compressed(rmsprop(0.1), **BYTE)
    state = tx.init(PARAMS)
    with pytest.raises(TypeError, match=r"`state` must be the CompressedState that init made, got builtins\.tuple"):
        tx.update(PARAMS, state.inner_state)
    with pytest.raises(TypeError, match=r"`state` at 0/nu/\S+ must be the bfloat16 codes of BFloat16\(\), got uint8"):
        compressed(rmsprop(0.1), nu=BFloat16()).update(PARAMS, state)
    with pytest.raises(TypeError, match="decoded moments go through `recompress`"):
        tx.update(PARAMS, decompress(state, **BYTE))


def test_codes_without_a_codec_are_refused_by_their_path():
    state = compressed(optax.adam(0.1), nu=RmsByte(), mu=SignedByte(relative_to="nu")).init(PARAMS)
    with pytest.raises(TypeError, match=r"`state` at 0/mu/\S+ is in codes. Pass mu= the codec it was made with"):
        decompress(state, **BYTE)


def test_a_state_without_codes_is_refused_by_decompress():
    for state in (rmsprop(0.1).init(PARAMS), (), None):
        with pytest.raises(ValueError, match="`state` must hold a CompressedState"):
            decompress(state, **BYTE)
