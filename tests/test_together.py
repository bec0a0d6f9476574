"""Checkpoints and diagnostics on states in codes and on bfloat16 parameters with master weights."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.rows import rows
from kit.storing import through_pickle, through_safetensors, through_untyped_msgpack, through_untyped_orbax
from kit.training import gradients, train
from kit.trees import same

from rmsprop_optax import checkpoint, diagnostics, rmsprop
from rmsprop_optax.compression import (
    BFloat16,
    CompressedState,
    RmsByte,
    RmsNibble,
    SignedByte,
    compressed,
    decompress,
    export_weights,
    recompress,
    with_master_weights,
)

BYTE, HALF = {"nu": RmsByte()}, {"nu": RmsNibble()}
PARAMS = {"w": jnp.full((4, 2), 0.5), "b": {"x": jnp.full(3, -1.0)}}
LARGER = PARAMS | {"w": jnp.full((16, 20), 0.5)}  # half bytes pay
HALVES, LARGER_HALVES = jax.tree.map(lambda p: p.astype(jnp.bfloat16), (PARAMS, LARGER))
OPTIMIZERS = {
    "byte": (compressed(rmsprop(0.01), **BYTE), PARAMS),
    "half a byte": (compressed(rmsprop(0.01), **HALF), LARGER),
    "three fields": (
        compressed(
            rmsprop(0.01, centered=True, eps=1e-3, momentum=0.9),
            variance=RmsByte(),
            mu=SignedByte(relative_to="nu"),
            trace=BFloat16(),
        ),
        PARAMS,
    ),
    "scheduled": (compressed(rmsprop(lambda count: 0.01 / (1 + count)), **BYTE), PARAMS),
    "accumulating": (optax.MultiSteps(compressed(rmsprop(0.01), **BYTE), 2).gradient_transformation(), PARAMS),
    "after an average": (optax.chain(optax.ema(0.9), rmsprop(0.01, momentum=0.9)), PARAMS),
    "master 16": (with_master_weights(rmsprop(0.01, momentum=0.9)), HALVES),
    "master 8 and byte": (with_master_weights(compressed(rmsprop(0.01), **BYTE), low_bits=8), HALVES),
    "master 0 and byte": (with_master_weights(compressed(rmsprop(0.01), **BYTE), low_bits=0), HALVES),
    "master 8 and half": (with_master_weights(compressed(rmsprop(0.01), **HALF), low_bits=8), LARGER_HALVES),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def made_of(tx, params):
    return train(tx, gradients(3, params), params)


FORMATS = [through_pickle, through_untyped_msgpack, through_untyped_orbax, through_safetensors]


@every_optimizer
@pytest.mark.parametrize("through", rows(FORMATS, [through_untyped_msgpack]))
def test_a_restored_run_goes_on_bit_for_bit(name, through, tmp_path):
    tx, start = OPTIMIZERS[name]
    params, state = made_of(tx, start)
    restored = checkpoint.restore(tx.init(start), through(state, tx.init(start), tmp_path))
    assert same(restored, state)
    more = gradients(2, start, seed=1)
    assert same(train(tx, more, params, restored), train(tx, more, params, state))


def test_a_file_without_a_low_half_is_refused_by_its_name():
    tx, start = OPTIMIZERS["master 16"]
    saved = flax.serialization.to_state_dict(tx.init(start))
    del saved["low"]["b"]["x"]
    with pytest.raises(ValueError, match="the leaves of `state`, as init made it; missing: low/b/x"):
        checkpoint.restore(tx.init(start), saved)


OTHER_CODECS = {
    "another window": ({"nu": RmsByte(window=(-24, 2))}, {"nu": RmsByte()}),
    "another unit": ({"trace": SignedByte(0.01)}, {"trace": SignedByte(0.5)}),
}


@pytest.mark.parametrize(("old", "new"), OTHER_CODECS.values(), ids=OTHER_CODECS)
@pytest.mark.parametrize("typed", [True, False])
def test_codes_that_other_codecs_made_are_refused_and_can_be_changed(old, new, typed):
    before, after = (compressed(rmsprop(0.01, momentum=0.9), **codecs) for codecs in (old, new))
    state = made_of(before, PARAMS)[1]
    saved = state if typed else through_untyped_msgpack(state, None, None)
    with pytest.raises(ValueError, match=r"made by other codecs.*compression.recompress"):
        checkpoint.restore(after.init(PARAMS), saved)
    with pytest.raises(ValueError, match="made by other codecs"):
        checkpoint.adapt(state, after, PARAMS)
    changed = recompress(decompress(state, **old), **new)
    assert same(checkpoint.restore(after.init(PARAMS), changed), changed)
    assert same(checkpoint.restore(before.init(PARAMS), saved), state)


def test_codes_of_another_width_are_refused_with_the_leaf():
    state = made_of(compressed(rmsprop(0.01), nu=BFloat16()), PARAMS)[1]
    with pytest.raises(TypeError, match=r"b/x.*uint8|uint8.*b/x"):
        checkpoint.restore(OPTIMIZERS["byte"][0].init(PARAMS), state)


@pytest.mark.parametrize(
    "moments", [{"nu": PARAMS, "count": 3}, {"nu": {"w": PARAMS["w"], "b/x": PARAMS["b"]["x"]}, "count": 3}]
)
def test_numbers_for_codes_are_refused_with_the_way(moments):
    with pytest.raises(TypeError, match="recompress"):
        checkpoint.restore(OPTIMIZERS["byte"][0].init(PARAMS), moments)


def test_adapt_carries_codes_as_they_are():
    tx, start = OPTIMIZERS["byte"]
    state = made_of(tx, start)[1]
    new, report = checkpoint.adapt(state, compressed(rmsprop(0.01, momentum=0.9), **BYTE), start)
    assert report["inner_state/0/nu"] == report["dither_count"] == "continued"
    assert report["inner_state/2/trace"] == "started"
    assert same(new.inner_state[0], state.inner_state[0])
    assert new.dither_count == state.dither_count


def test_adapt_carries_the_low_halves_of_master_weights():
    tx, start = OPTIMIZERS["master 16"]
    params, state = made_of(tx, start)
    new, report = checkpoint.adapt(state, with_master_weights(rmsprop(0.02)), start)
    assert report["inner_state/0/nu"] == report["low"] == "continued"
    assert report["inner_state/2/trace"] == "dropped"
    assert same(export_weights(params, new), export_weights(params, state))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rmsprop(0.01), compressed(rmsprop(0.01), **BYTE)),
        (compressed(rmsprop(0.01), **BYTE), rmsprop(0.01)),
        (compressed(rmsprop(0.01, centered=True), variance=RmsByte()), compressed(rmsprop(0.01), **BYTE)),
        (
            compressed(rmsprop(0.01, momentum=0.9), trace=SignedByte(0.01)),
            compressed(rmsprop(0.01, momentum=0.9, lr_in_momentum=False), trace=SignedByte(1.0)),
        ),
    ],
    ids=["into codes", "out of codes", "variance in codes", "trace in codes"],
)
def test_adapt_refuses_to_calculate_with_codes(old, new):
    with pytest.raises(TypeError, match=r"decompress|recompress"):
        checkpoint.adapt(made_of(old, PARAMS)[1], new, PARAMS, learning_rate=0.01)


def test_decoded_moments_move_to_other_options_and_back_into_codes():
    tx, start = OPTIMIZERS["byte"]
    state = made_of(tx, start)[1]
    bare, report = checkpoint.adapt(
        decompress(state, **BYTE).inner_state, rmsprop(0.01, centered=True, eps=1e-3), start
    )
    assert report == {"0/variance": "continued", "0/mu": "started"}
    moved = recompress(CompressedState(state.dither_count, bare), variance=RmsByte())
    assert same(moved.inner_state[0].variance, state.inner_state[0].nu)


@pytest.mark.parametrize(
    ("name", "codecs"), [("byte", BYTE), pytest.param("half a byte", HALF, marks=pytest.mark.full)]
)
def test_diagnostics_refuse_codes_and_measure_what_they_stand_for(name, codecs):
    tx, start = OPTIMIZERS[name]
    state = made_of(tx, start)[1]
    with pytest.raises(TypeError, match=r"b/x.*compression\.decompress"):
        diagnostics.effective_learning_rate(state, 0.01)
    (coded,) = diagnostics.effective_learning_rate(decompress(state, **codecs), 0.01).values()
    (exact,) = diagnostics.effective_learning_rate(made_of(rmsprop(0.01), start)[1], 0.01).values()
    for one, other in zip(jax.tree.leaves(coded), jax.tree.leaves(exact), strict=True):
        if one.shape == (16, 20):
            assert 0 < np.median(np.abs(np.log2(one / other))) < 0.2
        else:
            np.testing.assert_allclose(one, other, rtol=0.25)  # a code is an eighth of an octave; three steps


@pytest.mark.parametrize(
    ("name", "codecs"),
    [("master 16", {}), ("master 8 and byte", BYTE), pytest.param("master 8 and half", HALF, marks=pytest.mark.full)],
)
def test_diagnostics_measure_master_weights(name, codecs):
    tx, start = OPTIMIZERS[name]
    grads = gradients(1, start)
    _, state = made_of(tx, start)
    updates, state = tx.update(grads[0], state, start)
    if codecs:
        state = decompress(state, **codecs)
    step = diagnostics.measure(grads[0], updates, state, start, 0.01)
    assert step["all"]["root_nu"] > 0
    assert set(step["leaves"]) == {"w", "b/x"}
