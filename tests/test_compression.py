"""`compressed`: any transformation's moments in codes, wherever they sit, and nothing else changed."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from kit import training
from kit.memory import pinned_host
from kit.storing import through_msgpack, through_numpy, through_orbax, through_pickle
from kit.trees import furthest, same

from rmsprop_optax import compression, rmsprop, scale_by_rms
from rmsprop_optax.compression import (
    BFloat16,
    CompressedState,
    RmsByte,
    RmsNibble,
    SignedByte,
    compressed,
    decompress,
    recompress,
)

PARAMS = {"w": jnp.full((16, 20), 0.5, jnp.float32), "b": {"x": jnp.ones(5), "y": jnp.ones(())}}
BYTE = {"nu": RmsByte()}
BYTES = {"nu": RmsByte(), "mu": SignedByte(relative_to="nu")}
CENTERED = {"variance": RmsByte(), "mu": SignedByte(relative_to="nu")}
ALL = {**CENTERED, "trace": SignedByte(0.1)}
HALF = {"nu": RmsNibble()}
HALF_ALL = {**ALL, "variance": RmsNibble()}
MASK = {"w": True, "b": {"x": False, "y": True}}
LABELS = {"w": "a", "b": {"x": "b", "y": "a"}}
ROWS = {
    "plain": (rmsprop(0.1), BYTE),
    "bfloat16": (rmsprop(0.1), {"nu": BFloat16()}),
    "corrected": (rmsprop(0.1, bias_correction=True), BYTE),
    "everything": (rmsprop(0.1, centered=True, momentum=0.9, nesterov=True, weight_decay=0.1), ALL),
    "average": (rmsprop(0.1, momentum=0.9, average_momentum=True), {"nu": RmsByte(), "ema": SignedByte(0.1)}),
    "only the trace": (rmsprop(0.1, momentum=0.9), {"trace": BFloat16()}),
    "scale_by_rms": (scale_by_rms(centered=True), CENTERED),
    "optax.rmsprop": (optax.rmsprop(0.1, momentum=0.9), {"nu": RmsByte(), "trace": SignedByte(0.1)}),
    "optax.adam": (optax.adam(0.1), BYTES),
    "optax.adam, bfloat16": (optax.adam(0.1), {"nu": BFloat16(), "mu": BFloat16()}),
    "chain": (optax.chain(optax.clip(1.0), optax.scale_by_adam(), optax.scale_by_learning_rate(0.1)), BYTES),
    "schedule": (rmsprop(optax.linear_schedule(0.1, 0.0, 10), momentum=0.9), {"nu": RmsByte(), "trace": BFloat16()}),
    "masked": (optax.masked(rmsprop(0.1), MASK), BYTE),
    "partition": (optax.partition({"a": rmsprop(0.1), "b": optax.adam(0.1)}, LABELS), BYTE),
    "multisteps": (optax.MultiSteps(rmsprop(0.1), 2).gradient_transformation(), BYTE),
    "lookahead-like": (
        optax.chain(optax.ema(0.9), rmsprop(0.1, momentum=0.5)),
        {"nu": BFloat16(), "trace": BFloat16()},
    ),
    "half a byte": (rmsprop(0.1, bias_correction=True, weight_decay=0.1), HALF),
    "half a byte, everything": (rmsprop(0.1, centered=True, momentum=0.9), HALF_ALL),
    "half a byte, optax.rmsprop": (optax.rmsprop(0.1), HALF),
    "half a byte, optax.adam": (optax.adam(0.1), {**BYTES, **HALF}),
    "half a byte, masked": (optax.masked(rmsprop(0.1), MASK), HALF),
    "half a byte, partition": (optax.partition({"a": rmsprop(0.1), "b": optax.adam(0.1)}, LABELS), HALF),
    "half a byte, multisteps": (optax.MultiSteps(rmsprop(0.1), 2).gradient_transformation(), HALF),
    "half a byte, injected": (optax.inject_hyperparams(rmsprop)(0.1), HALF),
}
HALVES = {name for name in ROWS if "half" in name}
REPEATING = {
    *HALVES - {"half a byte, partition"},
    "corrected",
    "average",
    "only the trace",
    "optax.adam, bfloat16",
    "chain",
    "schedule",
    "lookahead-like",
    "everything",
}


def but(full):
    """Return every row, of which these are left to the full matrix."""
    marked = [pytest.param(*row, id=name, marks=[pytest.mark.full] * (name in full)) for name, row in ROWS.items()]
    return pytest.mark.parametrize(("tx", "codecs"), marked)


rows, some_rows = but(HALVES - {"half a byte, partition"}), but(REPEATING)
byte_and_half = pytest.mark.parametrize(
    "codecs", [pytest.param(ALL, id="bytes"), pytest.param(HALF_ALL, id="half a byte", marks=pytest.mark.full)]
)


def gradients(steps, params=PARAMS, seed=0):
    rng = np.random.default_rng(seed)
    return [
        jax.tree.map(
            lambda p: jnp.asarray(0.02 * rng.normal(size=p.shape) * np.exp(rng.normal(size=p.shape)), p.dtype), params
        )
        for _ in range(steps)
    ]


def train(tx, grads, params=PARAMS, state=None):
    return training.train(tx, grads, params, state)


def packed(codec, shape):
    """Return the shape of a leaf's codes."""
    return (shape[0] // 2, shape[1]) if isinstance(codec, RmsNibble) and len(shape) == 2 else shape


@some_rows
def test_a_step_is_the_bare_one_between_decoding_and_encoding(tx, codecs):
    wrapped = compressed(tx, **codecs)
    grads = gradients(6)
    _, state = train(wrapped, grads[:-1])
    updates, after = jax.jit(wrapped.update)(grads[-1], state, PARAMS)
    inner = decompress(state, **codecs).inner_state
    expected, bare = jax.jit(tx.update)(grads[-1], inner, PARAMS)
    for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    opened = decompress(after, **codecs).inner_state
    for name, codec in codecs.items():
        pairs = zip(optax.tree.get_all_with_path(opened, name), optax.tree.get_all_with_path(bare, name), strict=True)
        for (_, ours), (_, theirs) in pairs:
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                if packed(codec, a.shape) != a.shape:
                    apart = np.abs(np.log2(a / b)) / 2  # in octaves; what is far below its row and column is far off
                    assert np.median(apart) < 0.15
                    assert np.quantile(apart, 0.9) < 0.5
                    continue
                step = {jnp.uint8: 0.27, jnp.int8: 0.07, jnp.bfloat16: 0.008}[
                    codec.dtype
                ]  # of nu; a byte's root has .125
                np.testing.assert_allclose(a, b, rtol=step, atol=0.15 if codec.dtype == jnp.int8 else 0)


@rows
def test_the_state_is_plain_arrays_in_the_codecs_dtypes_whose_types_never_change(tx, codecs):
    wrapped, bare = compressed(tx, **codecs), tx.init(PARAMS)
    state = wrapped.init(PARAMS)
    for name, codec in codecs.items():
        coded = [tree for _, tree in optax.tree.get_all_with_path(state, name)]
        whole = [tree for _, tree in optax.tree.get_all_with_path(bare, name)]
        assert jax.tree.map(jnp.shape, coded) == jax.tree.map(lambda x, codec=codec: packed(codec, x.shape), whole)
        assert {leaf.dtype for leaf in jax.tree.leaves(coded)} == {jnp.dtype(codec.dtype)}
        parts = [scales for scales in state.scales if isinstance(codec, RmsNibble)]
        assert len(parts) == len(coded) * isinstance(codec, RmsNibble)
        for scales, tree in zip(parts, coded, strict=False):
            assert set(scales) == {f"{name}_{part}" for part in codec.parts}
            assert all(jax.tree.structure(scale) == jax.tree.structure(tree) for scale in scales.values())
            assert {leaf.dtype for leaf in jax.tree.leaves(scales)} == {jnp.dtype(jnp.bfloat16)}
    _, after = wrapped.update(gradients(1)[0], state, PARAMS)
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, after)
    assert after.dither_count == 1


@functools.cache
def recorded(steps=400):
    """Train a classifier of digits in float32, and return its gradients: one array, a row a step."""
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels)
    keys = jax.random.split(jax.random.key(0), 2)
    params = {"a": jax.random.normal(keys[0], (64, 24)) / 8, "b": jax.random.normal(keys[1], (24, 10)) / 5}
    tx = optax.rmsprop(3e-3)

    def loss(p, at):
        logits = jax.nn.relu(images[at] @ p["a"]) @ p["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[at]).mean()

    def step(carry, key):
        params, state = carry
        grads = jax.grad(loss)(params, jax.random.randint(key, (32,), 0, len(labels)))
        updates, state = tx.update(grads, state)
        flat = jnp.concatenate([g.ravel() for g in jax.tree.leaves(grads)])
        return (optax.apply_updates(params, updates), state), flat

    keys = jax.random.split(jax.random.key(1), steps)
    return np.asarray(jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[1])((params, tx.init(params))))


@pytest.mark.parametrize(
    ("codec", "decay", "error", "gain", "amp"),
    [
        pytest.param(RmsByte(), 0.9, 0.07, 0.01, (0.4, 2.5), marks=pytest.mark.full),
        (RmsByte(), 0.99, 0.12, 0.01, (0.4, 2.5)),
        pytest.param(RmsByte(), 0.999, 0.14, 0.01, (0.4, 2.5), marks=pytest.mark.full),
        pytest.param(BFloat16(), 0.9, 0.003, 0.001, (0.9, 1.1), marks=pytest.mark.full),
        pytest.param(BFloat16(), 0.99, 0.008, 0.001, (0.9, 1.1), marks=pytest.mark.full),
        (BFloat16(), 0.999, 0.012, 0.001, (0.9, 1.1)),
    ],
    ids=str,
)
def test_updates_on_recorded_gradients_are_near_float64_s_and_right_on_average(codec, decay, error, gain, amp):
    grads = recorded()
    tx = compressed(scale_by_rms(decay, eps=0.0), nu=codec)
    run = jax.jit(lambda g: jax.lax.scan(lambda s, x: tx.update(x, s)[::-1], tx.init(g[0]), g)[1])
    ours = np.asarray(run(grads), np.float64)
    nu, expected = np.zeros(grads.shape[1]), []
    for g in grads.astype(np.float64):
        nu = decay * nu + (1 - decay) * g * g
        expected.append(np.divide(g, np.sqrt(nu), out=np.zeros_like(g), where=np.sqrt(nu) >= 2.0**-28))
    expected = np.array(expected)
    ours[expected == 0] = 0  # outside the window
    assert np.sqrt(((ours - expected) ** 2).sum() / (expected**2).sum()) <= error
    assert abs((ours * expected).sum() / (expected**2).sum() - 1) <= gain
    ratio = ours[expected != 0] / expected[expected != 0]
    assert amp[0] <= ratio.min() <= ratio.max() <= amp[1]


def test_bytes_a_parameter_are_counted_from_the_arrays():
    params = {"w": jnp.ones((64, 32)), "b": jnp.ones(32)}
    size = sum(leaf.size for leaf in jax.tree.leaves(params))

    def cost(tx):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tx.init(params)) if leaf.ndim) / size

    assert cost(rmsprop(0.1)) == 4
    assert cost(compressed(rmsprop(0.1), **BYTE)) == 1
    assert cost(compressed(rmsprop(0.1), nu=BFloat16())) == 2
    assert cost(compressed(rmsprop(0.1, centered=True, momentum=0.9), **ALL)) == 3
    assert cost(compressed(optax.adam(0.1), **BYTES)) == 2
    assert cost(compressed(rmsprop(0.1), **HALF)) == (64 * 32 / 2 + 4 * (64 + 32) + 2 + 32 + 10) / size


@byte_and_half
def test_a_none_gradient_keeps_every_code(codecs):
    tx = compressed(rmsprop(0.1, centered=True, momentum=0.9), **codecs)
    params, state = train(tx, gradients(3))
    g = gradients(1)[0]
    updates, after = tx.update({"w": None, "b": g["b"]}, state, params)
    assert all(same(tree["w"], state.scales[0][part]["w"]) for scales in after.scales for part, tree in scales.items())
    moved = optax.apply_updates(params, updates)
    assert same(moved["w"], params["w"])
    for name in ALL:
        assert same(optax.tree.get(after, name)["w"], optax.tree.get(state, name)["w"])
        assert not same(optax.tree.get(after, name)["b"], optax.tree.get(state, name)["b"])


def test_a_trace_that_optax_drops_at_a_none_gradient_is_kept():
    tx = compressed(optax.trace(0.9), trace=BFloat16())
    state = tx.init(PARAMS)
    _, state = tx.update(gradients(1)[0], state)
    _, after = tx.update({"w": None, "b": PARAMS["b"]}, state)
    assert same(after.inner_state.trace["w"], state.inner_state.trace["w"])


@pytest.mark.parametrize(("codecs", "shape"), [(BYTE, (2,)), (HALF, (16, 20))], ids=["byte", "half a byte"])
def test_a_nan_gradient_does_not_stay_and_reaches_no_other_element(codecs, shape):
    tx = compressed(rmsprop(0.1), **codecs)
    first = (0,) * len(shape)
    updates, state = tx.update(jnp.ones(shape).at[first].set(jnp.nan), tx.init(jnp.ones(shape)))
    assert np.isnan(updates[first])
    assert np.isnan(updates).sum() == 1
    updates, state = tx.update(jnp.ones(shape), state)
    assert np.isfinite(updates).all()


@byte_and_half
def test_a_scan_equals_a_loop_bit_for_bit(codecs):
    tx = compressed(rmsprop(0.1, centered=True, momentum=0.9), **codecs)
    grads = gradients(5)

    def step(carry, g):
        updates, state = tx.update(g, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads)
    scanned, _ = jax.jit(lambda carry: jax.lax.scan(step, carry, stacked))((PARAMS, tx.init(PARAMS)))
    assert same(scanned[1], train(tx, grads)[1])


@pytest.mark.full
@pytest.mark.parametrize("codec", [RmsByte(), RmsNibble()], ids=str)
def test_members_under_vmap_have_the_codes_that_they_would_have_alone(codec):
    codecs = {"nu": codec, "trace": BFloat16()}
    tx = compressed(rmsprop(0.1, momentum=0.9), **codecs)
    members = [gradients(4, seed=seed) for seed in range(3)]

    def final(grads):
        state = tx.init(PARAMS)
        for g in grads:
            _, state = tx.update(g, state)
        return state

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    together = jax.jit(jax.vmap(final))(stacked)
    for i, grads in enumerate(members):
        assert same(jax.tree.map(lambda leaf, i=i: leaf[i], together), jax.jit(final)(grads))
    opened = decompress(together, **codecs)
    assert same(opened, jax.vmap(lambda state: decompress(state, **codecs))(together))
    assert same(jax.vmap(lambda state: recompress(state, **codecs))(opened), together)
    with pytest.raises(ValueError, match=r"`state` is that of an ensemble.*jax.vmap"):
        recompress(opened, **codecs)


@pytest.mark.parametrize("inside", [True, False])
def test_multisteps_accumulates_outside_and_inside(inside):
    grads = gradients(4)
    if inside:
        tx = optax.MultiSteps(compressed(rmsprop(0.1), **BYTE), 2).gradient_transformation()
    else:
        tx = compressed(optax.MultiSteps(rmsprop(0.1), 2).gradient_transformation(), **BYTE)
    params, state = train(tx, grads)
    halves = [jax.tree.map(lambda a, b: (a + b) / 2, *grads[i : i + 2]) for i in (0, 2)]
    expected, _ = train(rmsprop(0.1), halves)
    assert optax.tree.get_all_with_path(state, "nu")[0][1]["w"].dtype == np.uint8
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.1 * 0.15 * 3)
    assert not same(params, PARAMS)


def test_hyperparameters_are_injected_around_it_and_into_it():
    outside = optax.inject_hyperparams(lambda learning_rate: compressed(rmsprop(learning_rate), **BYTE))(0.1)
    inside = compressed(optax.inject_hyperparams(rmsprop)(0.1), **BYTE)
    grads = gradients(3)
    (a, first), (b, second) = train(outside, grads), train(inside, grads)
    assert optax.tree.get(first, "nu")["w"].dtype == optax.tree.get(second, "nu")["w"].dtype == np.uint8
    np.testing.assert_allclose(a["w"], b["w"], atol=0.1 * 0.15 * 3)
    assert not same(a, PARAMS)
    first.hyperparams["learning_rate"] = jnp.zeros_like(first.hyperparams["learning_rate"])
    updates, _ = outside.update(grads[0], first)
    assert (updates["w"] == 0).all()


def test_masked_leaves_keep_no_codes():
    for tx in (
        optax.masked(compressed(rmsprop(0.1), **BYTE), MASK),
        compressed(optax.masked(rmsprop(0.1), MASK), **BYTE),
    ):
        params, state = train(tx, gradients(3))
        assert [leaf.shape for leaf in jax.tree.leaves(state) if leaf.dtype == np.uint8] == [(), (16, 20)]
        plain, _ = train(optax.masked(rmsprop(0.1), MASK), gradients(3))
        assert same(params["b"]["x"], plain["b"]["x"])


def test_fields_of_parameters_with_a_moment_s_name_are_no_moments():
    equinox = pytest.importorskip("equinox")

    class Encoder(equinox.Module):
        mu: jax.Array
        trace: jax.Array

    params = Encoder(jnp.ones(3), jnp.ones(2))
    tx = compressed(optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(), **BYTES)
    state = tx.init(params)
    _, state = tx.update(params, state, params)
    assert state.inner_state.acc_grads.mu.dtype == np.float32
    assert optax.tree.get(state.inner_state.inner_opt_state, "nu").mu.dtype == np.uint8


@byte_and_half
def test_the_types_hold_under_strict_promotion_and_donation(codecs):
    params = {"w": jnp.ones((16, 20), jnp.bfloat16), "b": jnp.ones(4)}
    tx = compressed(rmsprop(0.1, centered=True, momentum=0.9), **codecs)
    traces = []

    def step(params, state, grads):
        traces.append(1)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    with jax.numpy_dtype_promotion("strict"):
        run, state = jax.jit(step, donate_argnums=(0, 1)), tx.init(params)
        for g in gradients(3, params):
            params, state = run(params, state, g)
    assert len(traces) == 1
    assert params["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("name", "compiled", "kind"),
    [
        ("plain", True, AxisType.Explicit),
        pytest.param("bfloat16", False, AxisType.Auto, marks=pytest.mark.full),
        pytest.param("everything", True, AxisType.Explicit, marks=pytest.mark.full),
        pytest.param("everything", True, AxisType.Auto, marks=pytest.mark.full),
        pytest.param("everything", False, AxisType.Explicit, marks=pytest.mark.full),
        pytest.param("bfloat16", True, AxisType.Explicit, marks=pytest.mark.full),
    ],
)
def test_eight_devices_make_the_bits_of_one_and_no_collective(name, compiled, kind):
    tx, codecs = ROWS[name]
    tx = compressed(tx, **codecs)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    specs = {"a": ("x", "y"), "b": ("y",), "c": (None, "x", None), "d": (("x", "y"), None), "e": ()}
    shapes = {"a": (12, 10), "b": (6,), "c": (3, 20, 5), "d": (24, 7), "e": (9, 11)}
    params = {leaf: jnp.full(shape, 0.5) for leaf, shape in shapes.items()}
    places = {leaf: NamedSharding(mesh, PartitionSpec(*spec)) for leaf, spec in specs.items()}
    grads = gradients(4, params)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    run, one, many = jax.jit(step), params, jax.device_put(params, places)
    state, sharded = tx.init(one), (jax.jit(tx.init) if compiled else tx.init)(many)
    for moment in codecs:
        for leaf, codes in optax.tree.get(sharded, moment).items():
            assert codes.sharding.is_equivalent_to(places[leaf], codes.ndim)
    for g in grads:
        one, state = run(one, state, g)
        many, sharded = run(many, sharded, jax.device_put(g, places))
    if jax.__version_info__ >= (0, 12):  # its XLA rounds shards of a few elements otherwise
        assert furthest(one, jax.device_get(many)) < 1e-6
    else:
        assert same(one, jax.device_get(many))
        assert same(state, jax.device_get(sharded))
    text = run.lower(many, sharded, jax.device_put(grads[0], places)).compile().as_text()
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in text


@byte_and_half
@pytest.mark.parametrize("mesh", [False, True], ids=["one device", "a mesh"])
def test_what_init_makes_for_parameters_in_the_host_s_memory_is_there_too(mesh, codecs):
    tx, place = compressed(rmsprop(0.1, centered=True, momentum=0.9), **codecs), pinned_host(mesh)
    state = tx.init(jax.device_put(PARAMS, place))
    for tree in (state, decompress(state, **codecs)):
        parts = jax.tree.leaves((tree.inner_state, tree.scales))
        assert all(x.sharding.is_equivalent_to(place, x.ndim) for x in parts)
    assert same(jax.device_get(state), tx.init(PARAMS))
    assert same(jax.device_get(recompress(decompress(state, **codecs), **codecs)), tx.init(PARAMS))


@pytest.mark.parametrize("codec", [BFloat16(), RmsNibble()], ids=str)
def test_python_numbers_are_parameters(codec):
    tx = compressed(rmsprop(0.1), nu=codec)
    updates, state = tx.update({"w": 1.0}, tx.init({"w": 0.5}), {"w": 0.5})
    expected, _ = rmsprop(0.1).update(1.0, rmsprop(0.1).init(0.5))
    assert updates["w"] == expected
    assert optax.tree.get(state, "nu")["w"].dtype == codec.dtype


def test_the_count_of_a_schedule_is_the_only_one():
    tx = compressed(rmsprop(optax.constant_schedule(0.1)), **BYTE)
    _, state = train(tx, gradients(3))
    assert optax.tree.get(state, "count") == 3


@pytest.mark.parametrize("codecs", [ALL, HALF_ALL], ids=["bytes", "half a byte"])
def test_map_params_pairs_codes_and_scales_with_their_parameters(codecs):
    tx = compressed(rmsprop(0.1, centered=True, momentum=0.9), **codecs)
    shapes = jax.eval_shape(tx.init, PARAMS)
    marked = optax.tree.map_params(tx, lambda _, p: p.dtype, shapes, PARAMS, transform_non_params=lambda _: None)
    expected = jax.tree.map(lambda p: p.dtype, PARAMS)
    assert all(optax.tree.get(marked, name) == expected for name in codecs)
    assert [tree for scales in marked.scales for tree in scales.values()] == [expected] * 5 * (codecs is HALF_ALL)


@byte_and_half
@pytest.mark.parametrize("through", [through_pickle, through_msgpack, through_orbax, through_numpy])
def test_a_restored_state_resumes_bit_for_bit(through, codecs, tmp_path):
    tx = compressed(rmsprop(0.1, centered=True, momentum=0.9), **{**codecs, "mu": BFloat16()})
    grads = gradients(6)
    whole, _ = train(tx, grads)
    params, state = train(tx, grads[:3])
    restored = through(state, tx.init(params), tmp_path)
    assert same(restored, state)
    resumed, _ = train(tx, grads[3:], params, restored)
    assert same(resumed, whole)


@pytest.mark.parametrize("codecs", [BYTE, pytest.param(HALF, marks=pytest.mark.full)], ids=["byte", "half a byte"])
def test_a_step_is_exported_and_loaded_again(codecs):
    tx = compressed(rmsprop(0.1), **codecs)
    g, state = gradients(1)[0], tx.init(PARAMS)
    exported = jax.export.export(jax.jit(tx.update))(g, state)
    again = jax.export.deserialize(exported.serialize())
    assert same(again.call(g, state), jax.jit(tx.update)(g, state))


def nnx_parameters(tx):
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: jnp.mean((model(jnp.ones((4, 3))) - 1) ** 2))(model))

    for _ in range(5):
        step(model, optimizer)
    codes = [leaf for leaf in jax.tree.leaves(nnx.state(optimizer)) if leaf.dtype == np.uint8]
    return nnx.state(model, nnx.Param), codes


def linen_parameters(tx):
    nn, train_state = pytest.importorskip("flax.linen"), pytest.importorskip("flax.training.train_state")
    model = nn.Dense(2)
    state = train_state.TrainState.create(
        apply_fn=model.apply, params=model.init(jax.random.key(0), jnp.ones((4, 3))), tx=tx
    )

    @jax.jit
    def step(state):
        loss = lambda params: jnp.mean((state.apply_fn(params, jnp.ones((4, 3))) - 1) ** 2)  # noqa: E731
        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    for _ in range(5):
        state = step(state)
    return state.params, [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == np.uint8]


@pytest.mark.parametrize("framework", [nnx_parameters, linen_parameters], ids=["nnx", "linen"])
def test_flax_trains_with_codes_as_it_does_without(framework):
    ours, codes = framework(compressed(rmsprop(0.01), **BYTE))
    theirs, none = framework(rmsprop(0.01))
    assert len(codes) == 2
    assert not none
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=5 * 0.01 * 0.2)


@rows
def test_decompressed_and_compressed_again_is_the_same_state(tx, codecs):
    _, state = train(compressed(tx, **codecs), gradients(3))
    opened = decompress(state, **codecs)
    assert not any(leaf.dtype in (np.uint8, np.int8) for leaf in jax.tree.leaves(opened))
    assert same(recompress(opened, **codecs), state)


def test_a_bare_state_is_compressed_and_a_decompressed_one_goes_on_bare():
    bare, packed = rmsprop(0.1), compressed(rmsprop(0.1), **BYTE)
    params, state = train(bare, gradients(3))
    wrapped = recompress(CompressedState(jnp.int32(3), state), **BYTE)
    params, state = train(packed, gradients(2), params, wrapped)
    assert state.dither_count == 5
    train(bare, gradients(1), params, decompress(state, **BYTE).inner_state)


def test_every_compressed_state_in_a_larger_one_is_decompressed():
    tx = optax.partition({"a": compressed(rmsprop(0.1), **BYTE), "b": compressed(rmsprop(0.2), **BYTE)}, LABELS)
    _, state = train(tx, gradients(2))
    opened = [tree for _, tree in optax.tree.get_all_with_path(decompress(state, **BYTE), "nu")]
    assert len(opened) == 2
    assert {leaf.dtype for leaf in jax.tree.leaves(opened)} == {np.dtype("float32")}


def test_it_is_a_value():
    tx = compressed(rmsprop(0.1), **BYTE)
    assert tx == compressed(rmsprop(0.1), nu=RmsByte())
    assert tx != compressed(rmsprop(0.1), nu=RmsNibble()) == compressed(rmsprop(0.1), **HALF)
    assert tx != compressed(rmsprop(0.1), nu=BFloat16())
    assert pickle.loads(pickle.dumps(tx)) == tx
    assert hash(pickle.loads(pickle.dumps(tx))) == hash(tx)
    assert repr(tx).startswith("compressed(tx=rmsprop(learning_rate=0.1, ")
    assert repr(tx).endswith("nu=RmsByte(window=(-28, 0)), variance=None, mu=None, trace=None, ema=None)")


@pytest.mark.parametrize(("codecs", "shape"), [(BYTE, (2,)), (HALF, (16, 20))], ids=["byte", "half a byte"])
def test_the_square_of_a_complex_gradient_may_be_in_codes(codecs, shape):
    tx = compressed(rmsprop(0.1), **codecs)
    params = {"w": jnp.full(shape, 1 + 1j, jnp.complex64).at[(0,) * len(shape)].set(2.0)}
    updates, state = tx.update(params, tx.init(params))
    expected, _ = rmsprop(0.1).update(params, rmsprop(0.1).init(params))
    assert updates["w"].dtype == np.complex64
    assert furthest(updates, expected) < 1e-6
    assert optax.tree.get(state, "nu")["w"].dtype == np.uint8


def test_the_public_names_are_reached_from_the_module():
    for name in ("Codec", "RmsByte", "SignedByte", "BFloat16", "compressed", "decompress", "with_master_weights"):
        assert name in compression.__all__
        assert getattr(compression, name).__doc__
