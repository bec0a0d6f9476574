"""Moments in half a byte wherever they sit: what steps, wrappers, devices and files do with codes and scales."""

import functools
import pickle

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from kit.memory import pinned_host
from kit.rows import rows
from kit.storing import through_msgpack, through_orbax, through_pickle, through_safetensors
from kit.training import gradients, train
from kit.trees import furthest, same, types

from rmsprop_optax import checkpoint, diagnostics, rmsprop, sweep
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

PARAMS = jax.tree.map(
    lambda shape: jnp.full(shape, 0.5, jnp.float32),
    {"w": (32, 48), "b": {"x": (5,), "y": ()}, "odd": (3, 40), "layers": (2, 16, 24)},
    is_leaf=lambda x: isinstance(x, tuple),
)
HALVES = {("w",): (16, 48), ("layers",): (2, 8, 24)}
NIBBLE = {"nu": RmsNibble()}
BOTH = {"nu": RmsNibble(), "mu": SignedByte(relative_to="nu")}
CENTERED = {"variance": RmsNibble(), "mu": SignedByte(relative_to="nu"), "trace": BFloat16()}
MASK = {"w": True, "b": {"x": False, "y": True}, "odd": False, "layers": True}
LABELS = {"w": "a", "b": {"x": "b", "y": "a"}, "odd": "b", "layers": "b"}
OPTIMIZERS = {
    "plain": (rmsprop(0.1), NIBBLE),
    "corrected": (rmsprop(0.1, bias_correction=True, weight_decay=0.1), NIBBLE),
    "centered": (rmsprop(0.1, centered=True, momentum=0.9), CENTERED),
    "optax.rmsprop": (optax.rmsprop(0.1), NIBBLE),
    "optax.adam": (optax.adam(0.1), BOTH),
    "masked": (optax.masked(rmsprop(0.1), MASK), NIBBLE),
    "partition": (optax.partition({"a": rmsprop(0.1), "b": optax.adam(0.1)}, LABELS), NIBBLE),
    "MultiSteps": (optax.MultiSteps(rmsprop(0.1), 2).gradient_transformation(), NIBBLE),
    "injected": (optax.inject_hyperparams(rmsprop)(0.1), NIBBLE),
}


def made(codecs=NIBBLE, tx=None, steps=3, **options):
    """Return an optimizer, and the parameters and the state after some steps."""
    tx = compressed(rmsprop(0.01, **options) if tx is None else tx, **codecs)
    return tx, *train(tx, gradients(steps, PARAMS), PARAMS)


@pytest.mark.full
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_bare_one_between_decoding_and_encoding(name):
    tx, codecs = OPTIMIZERS[name]
    packed, params, state = made(codecs, tx, steps=5)
    (g,) = gradients(1, PARAMS, seed=1)
    updates, after = jax.jit(packed.update)(g, state, params)
    expected, bare = jax.jit(tx.update)(g, decompress(state, **codecs).inner_state, params)
    assert furthest(updates, expected) < 1e-6
    opened = decompress(after, **codecs).inner_state
    field = "variance" if "variance" in codecs else "nu"
    pairs = zip(optax.tree.get_all_with_path(opened, field), optax.tree.get_all_with_path(bare, field), strict=True)
    ratios = [
        np.sqrt(np.asarray(a) / np.asarray(b)).ravel()
        for (_, ours), (_, theirs) in pairs
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    ]
    assert ratios
    apart = np.abs(np.log2(np.concatenate(ratios)))
    assert np.median(apart) < 0.15  # of an octave
    assert np.quantile(apart, 0.9) < 0.5


@pytest.mark.parametrize("name", rows(OPTIMIZERS, ["centered"]))
def test_the_state_is_plain_arrays_and_its_types_never_change(name):
    tx, codecs = OPTIMIZERS[name]
    packed = compressed(tx, **codecs)
    state = packed.init(PARAMS)
    field = "variance" if "variance" in codecs else "nu"
    trees = [tree for _, tree in optax.tree.get_all_with_path(state, field)]  # so no key of the scales is called so
    assert len(trees) == len(optax.tree.get_all_with_path(tx.init(PARAMS), field))
    for tree in trees:
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            keys = tuple(key.key for key in path)
            whole = functools.reduce(lambda node, key: node[key], keys, PARAMS)
            assert leaf.dtype == np.uint8
            assert leaf.shape == HALVES.get(keys, whole.shape)
    assert {x.dtype.name for x in jax.tree.leaves(state.scales)} == {"bfloat16"}
    assert {key for scales in state.scales for key in scales} == {f"{field}_{part}" for part in RmsNibble.parts}
    for scales, tree in zip(state.scales, trees, strict=True):
        assert all(jax.tree.structure(scale) == jax.tree.structure(tree) for scale in scales.values())
    _, after = packed.update(gradients(1, PARAMS)[0], state, PARAMS)
    assert types(after) == types(state)


@pytest.mark.parametrize("name", rows(OPTIMIZERS, ["partition"]))
def test_decompressed_and_compressed_again_is_the_same_state(name):
    tx, codecs = OPTIMIZERS[name]
    _, _, state = made(codecs, tx)
    opened = decompress(state, **codecs)
    assert not any(leaf.dtype in (np.uint8, np.int8) for leaf in jax.tree.leaves(opened))
    assert same(recompress(opened, **codecs), state)


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
def test_a_none_gradient_keeps_codes_and_scales():
    tx, params, state = made(CENTERED, centered=True, momentum=0.9)
    (g,) = gradients(1, PARAMS)
    _, after = jax.jit(tx.update)(g | {"w": None}, state, params)
    assert same(optax.tree.get(after, "variance")["w"], optax.tree.get(state, "variance")["w"])
    for part, tree in after.scales[0].items():
        assert same(tree["w"], state.scales[0][part]["w"])
    assert not same(optax.tree.get(after, "variance")["layers"], optax.tree.get(state, "variance")["layers"])


def test_a_nan_gradient_does_not_stay_and_reaches_no_other_element():
    tx = compressed(rmsprop(0.1), **NIBBLE)
    g = {"w": jnp.ones((32, 48)).at[3, 4].set(jnp.nan)}
    updates, state = tx.update(g, tx.init(g))
    assert np.isnan(updates["w"]).sum() == 1
    updates, state = tx.update({"w": jnp.ones((32, 48))}, state)
    assert np.isfinite(updates["w"]).all()


@pytest.mark.full
def test_a_scan_equals_a_loop_bit_for_bit():
    tx, grads = compressed(rmsprop(0.1, centered=True, momentum=0.9), **CENTERED), gradients(5, PARAMS)

    def step(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads)
    scanned, _ = jax.jit(lambda carry: jax.lax.scan(step, carry, stacked))((PARAMS, tx.init(PARAMS)))
    assert same(scanned[1], train(tx, grads, PARAMS)[1])


def final(tx, grads):
    state = tx.init(PARAMS)
    for g in grads:
        _, state = tx.update(g, state)
    return state


@pytest.mark.full
def test_members_under_vmap_have_the_codes_that_they_would_have_alone():
    tx, members = compressed(rmsprop(0.1), **NIBBLE), [gradients(3, PARAMS, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    together = jax.jit(jax.vmap(functools.partial(final, tx)))(stacked)
    for i, grads in enumerate(members):
        assert same(jax.tree.map(lambda leaf, i=i: leaf[i], together), jax.jit(functools.partial(final, tx))(grads))
    opened = decompress(together, **NIBBLE)
    mapped = jax.vmap(lambda state: decompress(state, **NIBBLE))(together)
    assert same(opened, mapped)
    assert same(jax.vmap(lambda state: recompress(state, **NIBBLE))(opened), together)
    with pytest.raises(ValueError, match=r"`state` is that of an ensemble.*jax.vmap"):
        recompress(opened, **NIBBLE)


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
def test_the_types_hold_under_strict_promotion_and_donation():
    tx, params = compressed(rmsprop(0.1), **NIBBLE), PARAMS | {"odd": jnp.ones((4, 40), jnp.bfloat16)}
    traces = []

    def step(params, state, grads):
        traces.append(1)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("strict"):
        run, params = jax.jit(step, donate_argnums=(0, 1)), jax.tree.map(jnp.copy, params)
        state = tx.init(params)
        for g in gradients(3, params):
            params, state = run(params, state, g)
    assert len(traces) == 1


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


def test_complex_parameters_and_python_numbers_are_parameters_too():
    params = {"w": jnp.full((16, 20), 1 + 2j), "n": 0.5}
    tx = coded(rmsprop(0.1))
    updates, state = tx.update({"w": params["w"], "n": 1.0}, tx.init(params), params)
    bare, _ = rmsprop(0.1).update({"w": params["w"], "n": 1.0}, rmsprop(0.1).init(params), params)
    assert updates["w"].dtype == jnp.complex64
    assert furthest(updates, bare) < 1e-6
    assert optax.tree.get(state, "nu")["w"].shape == (8, 20)


@pytest.mark.full
@pytest.mark.parametrize("mesh", [False, True], ids=["one device", "a mesh"])
def test_what_init_makes_for_parameters_in_the_host_s_memory_is_there_too(mesh):
    tx, place = coded(rmsprop(0.1)), pinned_host(mesh)
    state = tx.init(jax.device_put(PARAMS, place))
    for tree in (state, decompress(state, **NIBBLE)):
        parts = jax.tree.leaves((tree.inner_state, tree.scales))
        assert {x.sharding.memory_kind for x in parts} == {"pinned_host"}
    assert same(jax.device_get(state), tx.init(PARAMS))
    assert same(jax.device_get(recompress(decompress(state, **NIBBLE), **NIBBLE)), tx.init(PARAMS))


def test_map_params_pairs_codes_and_scales_with_their_parameters():
    tx = compressed(rmsprop(0.1, centered=True, momentum=0.9), **CENTERED)
    shapes = jax.eval_shape(tx.init, PARAMS)
    marked = optax.tree.map_params(tx, lambda _, p: p.dtype, shapes, PARAMS, transform_non_params=lambda _: None)
    expected = jax.tree.map(lambda p: p.dtype, PARAMS)
    assert optax.tree.get(marked, "variance") == expected
    assert list(marked.scales[0].values()) == [expected] * 5


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


# files


def safetensors_typed(state, like, folder):
    arrays = through_safetensors(state, like, folder)
    return checkpoint.restore(like, arrays)


def orbax_untyped(state, like, folder):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "untyped", state)
        checkpointer.wait_until_finished()
        return checkpoint.restore(like, checkpointer.restore(folder / "untyped"))


def msgpack_untyped(state, like, folder):
    return checkpoint.restore(like, flax.serialization.msgpack_restore(flax.serialization.to_bytes(state)))


FORMATS = [through_pickle, through_msgpack, msgpack_untyped, through_orbax, orbax_untyped, safetensors_typed]


@pytest.mark.parametrize("through", rows(FORMATS, [msgpack_untyped, orbax_untyped, safetensors_typed]))
@pytest.mark.parametrize("name", rows(["plain", "partition", "8 low bits"], ["partition"]))
def test_a_restored_run_goes_on_bit_for_bit(through, name, tmp_path):
    tx = compressed(OPTIMIZERS["partition" if name == "partition" else "plain"][0], **NIBBLE)
    start = PARAMS
    if name == "8 low bits":
        tx, start = with_master_weights(tx, low_bits=8), jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    params, state = train(tx, gradients(3, start), start)
    restored = through(state, tx.init(start), tmp_path)
    assert same(restored, state)
    assert same(checkpoint.restore(tx.init(start), restored), state)
    more = gradients(2, start, seed=1)
    assert same(train(tx, more, params, restored), train(tx, more, params, state))


@pytest.mark.full
def test_a_step_is_exported_and_loaded_again():
    tx, _params, state = made()
    (g,) = gradients(1, PARAMS)
    exported = jax.export.export(jax.jit(tx.update))(g, state)
    again = jax.export.deserialize(exported.serialize())
    assert same(again.call(g, state), jax.jit(tx.update)(g, state))


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


# diagnostics


def test_diagnostics_refuse_codes():
    with pytest.raises(TypeError, match=r"compression\.decompress"):
        diagnostics.effective_learning_rate(compressed(rmsprop(0.01), **NIBBLE).init(PARAMS), 0.01)


@pytest.mark.full
def test_diagnostics_measure_what_codes_stand_for():
    tx, params, state = made()
    (ours,) = diagnostics.effective_learning_rate(decompress(state, **NIBBLE), 0.01).values()
    bare = train(rmsprop(0.01), gradients(3, PARAMS), PARAMS)[1]
    (exact,) = diagnostics.effective_learning_rate(bare, 0.01).values()
    apart = np.abs(np.log2(np.asarray(ours["w"]) / np.asarray(exact["w"])))
    assert 0 < np.median(apart) < 0.2
    (g,) = gradients(1, PARAMS)
    updates, after = jax.jit(tx.update)(g, state, params)
    step = diagnostics.measure(g, updates, decompress(after, **NIBBLE), params, 0.01)
    assert set(step["leaves"]) == {"w", "b/x", "b/y", "odd", "layers"}
    assert step["all"]["root_nu"] > 0


def test_it_is_a_value():
    tx = compressed(rmsprop(0.1), **NIBBLE)
    assert tx == compressed(rmsprop(0.1), nu=RmsNibble()) != compressed(rmsprop(0.1), nu=RmsByte())
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert "nu=RmsNibble()" in repr(tx)


def test_it_holds_second_moments_only():
    with pytest.raises(ValueError, match=r"`mu` can be negative, and RmsNibble\(\) holds no signs"):
        compressed(optax.adam(0.1), mu=RmsNibble())
    with pytest.raises(ValueError, match=r"`trace` can be negative"):
        compressed(rmsprop(0.1, momentum=0.9), trace=RmsNibble())
