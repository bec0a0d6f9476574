"""The scales of half bytes in a state: when they change, and what files, `adapt` and `recompress` do with them.

What holds for all codes is in test_compression.py and test_together.py.
"""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.rows import rows
from kit.training import gradients, train
from kit.trees import same, types

from rmsprop_optax import checkpoint, rmsprop, sweep
from rmsprop_optax.compression import (
    CompressedState,
    RmsByte,
    RmsNibble,
    compressed,
    decompress,
    export_weights,
    recompress,
    with_master_weights,
)

PARAMS = jax.tree.map(
    lambda shape: jnp.full(shape, 0.5, jnp.float32),
    {"w": (32, 48), "b": {"x": (5,), "y": ()}, "odd": (3, 40), "layers": (2, 16, 24)},
    is_leaf=lambda x: isinstance(x, tuple),
)
NIBBLE = {"nu": RmsNibble()}
LABELS = {"w": "a", "b": {"x": "b", "y": "a"}, "odd": "b", "layers": "b"}


def made(codecs=NIBBLE):
    """Return an optimizer, and the parameters and the state after some steps."""
    tx = compressed(rmsprop(0.01), **codecs)
    return tx, *train(tx, gradients(3, PARAMS), PARAMS)


@pytest.mark.full
def test_a_bare_state_is_compressed_and_an_edited_one_gets_scales_of_its_own():
    _tx, params, state = made()
    _, bare = train(rmsprop(0.01), gradients(3, PARAMS), PARAMS)
    wrapped = recompress(CompressedState(jnp.int32(3), bare), **NIBBLE)
    assert types(wrapped) == types(state)
    opened = decompress(state, **NIBBLE)
    nu = optax.tree.get(opened, "nu")
    edited = optax.tree.set(opened, nu=nu | {"w": nu["w"] * 64, "layers": nu["layers"].at[1].mul(64)})
    again = recompress(edited, **NIBBLE)
    (old,), (new,) = state.scales, again.scales
    np.testing.assert_allclose(new["nu_row_rms"]["w"], 8 * old["nu_row_rms"]["w"], rtol=0.1)
    assert same(new["nu_row_rms"]["layers"][0], old["nu_row_rms"]["layers"][0])
    assert same(optax.tree.get(again, "nu")["layers"][0], optax.tree.get(state, "nu")["layers"][0])
    assert not same(new["nu_row_rms"]["layers"][1], old["nu_row_rms"]["layers"][1])
    byte = recompress(opened, nu=RmsByte())
    assert byte.scales == ()
    assert types(byte) == types(compressed(rmsprop(0.01), nu=RmsByte()).init(params))


@pytest.mark.parametrize("wrap", rows(["MultiSteps", "apply_if_finite"], ["apply_if_finite"]))
def test_what_has_not_changed_keeps_its_codes_and_scales(wrap):
    inner = {
        "MultiSteps": lambda: optax.MultiSteps(rmsprop(0.1), 4).gradient_transformation(),
        "apply_if_finite": lambda: optax.apply_if_finite(rmsprop(0.1), 5),
    }[wrap]()
    tx = compressed(inner, **NIBBLE)
    params, state = train(tx, gradients(4, PARAMS), PARAMS)
    (g,) = gradients(1, PARAMS, seed=1)
    if wrap == "apply_if_finite":
        g = g | {"odd": g["odd"].at[0, 0].set(jnp.nan)}
    _, after = jax.jit(tx.update)(g, state, params)
    assert after.dither_count == state.dither_count + 1
    assert same(after.scales, state.scales)
    for (_, ours), (_, theirs) in zip(
        optax.tree.get_all_with_path(after, "nu"), optax.tree.get_all_with_path(state, "nu"), strict=True
    ):
        assert same(ours, theirs)
        assert (ours["w"] > 0).all()


@pytest.mark.full
def test_a_sweep_over_learning_rates_has_members_of_its_own():
    def loss(params, batch):
        return jnp.mean((batch @ params["w"] - 1) ** 2)

    start = {"w": jnp.full((32, 48), 0.1)}
    batches = np.random.default_rng(0).normal(size=(40, 8, 32)).astype(np.float32)
    make = lambda rate: compressed(rmsprop(rate), **NIBBLE)  # noqa: E731
    found = sweep.learning_rates(make, loss, start, batches, [1e-3, 1e-2], progress=False)
    alone = sweep.learning_rates(make, loss, start, batches, [1e-2], progress=False)
    np.testing.assert_allclose(found.losses[-1:], alone.losses, rtol=1e-4)


@pytest.mark.full
def test_derivatives_through_steps_are_near_those_of_float32():
    params = {"w": jnp.full((16, 20), 0.5)}

    def after(rate, wrap):
        tx = wrap(rmsprop(rate))
        p, state = params, tx.init(params)
        for _ in range(3):
            updates, state = tx.update(jax.tree.map(lambda x: 2 * x, p), state, p)
            p = optax.apply_updates(p, updates)
        return jnp.sum(p["w"] ** 2)

    ours, exact = (jax.jit(jax.grad(after), static_argnums=1)(0.01, wrap) for wrap in (coded, lambda tx: tx))
    np.testing.assert_allclose(ours, exact, rtol=0.1)


def coded(tx):
    return compressed(tx, **NIBBLE)


def test_three_and_a_half_bytes_a_parameter_are_counted_from_the_arrays():
    params = {"w": jax.ShapeDtypeStruct((2048, 2048), jnp.bfloat16)}
    tx = with_master_weights(compressed(rmsprop(1e-3), **NIBBLE), low_bits=8)
    shapes = jax.eval_shape(tx.init, params)
    total = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((params, shapes)) if x.ndim)
    assert total == 2048 * 2048 * 3.5 + 4 * 4096 + 2
    assert f"{total / 2048**2:.3f}" == "3.504"  # docs/memory.md says so


@pytest.mark.full
def test_with_master_weights_the_run_is_near_that_of_float32():
    tx, bare = with_master_weights(compressed(rmsprop(0.01), **NIBBLE), low_bits=8), rmsprop(0.01)
    low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    grads = gradients(20, PARAMS)
    params, state = train(tx, grads, low)
    weights, (exact, _) = export_weights(params, state), train(bare, grads, PARAMS)
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])  # noqa: E731
    moved, apart = flat(exact) - flat(PARAMS), flat(weights) - flat(exact)
    assert np.sqrt(np.mean(apart**2)) < 0.1 * np.sqrt(np.mean(moved**2))


def test_codes_of_another_codec_and_codes_without_scales_are_refused():
    tx, params, state = made()
    byte, _, bytes_ = made({"nu": RmsByte()})
    for ours, theirs in ((tx, bytes_), (byte, state)):
        with pytest.raises((TypeError, ValueError), match=r"scales|other codecs|shape"):
            checkpoint.restore(ours.init(PARAMS), theirs)
        with pytest.raises((TypeError, ValueError), match=r"scales|other codecs|shape"):
            checkpoint.adapt(theirs, ours, PARAMS)
    with pytest.raises(ValueError, match=r"`nu` at .* is in codes that count from scales, which `moments` has not"):
        checkpoint.restore(tx.init(PARAMS), {"nu": optax.tree.get(state, "nu")})
    with pytest.raises(TypeError, match=r"`state` has no scales of RmsNibble\(\) for .*nu"):
        tx.update(gradients(1, PARAMS)[0], state._replace(scales=()), params)
    with pytest.raises(TypeError, match=r"no scales of RmsNibble\(\)"):
        decompress(state._replace(scales=()), **NIBBLE)
    saved = flax.serialization.to_state_dict(state)
    del saved["scales"]["0"]["nu_rms"]["w"]
    with pytest.raises(ValueError, match="missing: scales/0/nu_rms/w"):
        checkpoint.restore(tx.init(PARAMS), saved)


def test_adapt_carries_codes_with_their_scales():
    _, _, state = made()
    tx = optax.chain(optax.clip(1.0), compressed(rmsprop(0.01, momentum=0.9), **NIBBLE))
    new, report = checkpoint.adapt(state, tx, PARAMS)
    assert report["1/inner_state/0/nu"] == report["1/scales"] == "continued"
    assert report["1/inner_state/2/trace"] == "started"
    assert same(new[1].scales, state.scales)
    assert same(new[1].inner_state[0], state.inner_state[0])
    more = PARAMS | {"new": jnp.ones((16, 24))}
    new, report = checkpoint.adapt(state, compressed(rmsprop(0.01), **NIBBLE), more, start=["new"])
    assert report["inner_state/0/nu/new"] == report["scales/0/nu_row_rms/new"] == "started"
    assert report["scales/0/nu_row_rms/w"] == "continued"
    assert same(new.scales[0]["nu_row_max"]["w"], state.scales[0]["nu_row_max"]["w"])


def test_adapt_refuses_codes_whose_scales_are_in_another_place():
    """A partition whose parts have changed places keeps each moment with its parameter; scales would not follow."""
    parts = {"a": rmsprop(0.01), "b": rmsprop(0.02)}
    swapped = jax.tree.map({"a": "b", "b": "a"}.get, LABELS)
    tx = compressed(optax.partition(parts, LABELS), **NIBBLE)
    state = train(tx, gradients(3, PARAMS), PARAMS)[1]
    other = compressed(optax.partition(parts, swapped), **NIBBLE)
    with pytest.raises(ValueError, match=r"count from scales, which `old_state` has not in their place"):
        checkpoint.adapt(state, other, PARAMS)
    bare, _ = checkpoint.adapt(decompress(state, **NIBBLE).inner_state, optax.partition(parts, swapped), PARAMS)
    moved = recompress(CompressedState(state.dither_count, bare), **NIBBLE)
    assert types(moved) == types(other.init(PARAMS))


def test_preview_says_what_would_go_on():
    tx, _, state = made()
    text = str(checkpoint.preview(state, tx, PARAMS, old_tx=tx))
    assert "scales" in text
