"""Half bytes and their scales on several devices: the bits of one, collectives of vectors, shards of their own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.rows import rows
from kit.storing import through_orbax
from kit.training import gradients, train
from kit.trees import same, types

from rmsprop_optax import checkpoint, rmsprop
from rmsprop_optax.compression import RmsNibble, compressed
from rmsprop_optax.sharding import state_shardings

NIBBLE = {"nu": RmsNibble()}


@pytest.mark.parametrize("axis_type", rows([AxisType.Auto, AxisType.Explicit], [AxisType.Auto]))
def test_where_only_the_number_of_the_matrix_is_split_nothing_moves(axis_type):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axis_type,))
    place = NamedSharding(mesh, P("x"))
    tx, params = compressed(rmsprop(0.01), **NIBBLE), {"experts": jnp.ones((8, 32, 16))}
    many = jax.device_put(params, place)
    layout = state_shardings(tx, many)
    assert {s.spec[0] for s in jax.tree.leaves(layout.scales)} == {"x"}
    state = jax.jit(tx.init, out_shardings=layout)(many)
    update = jax.jit(tx.update, out_shardings=(jax.tree.map(lambda p: p.sharding, many), layout))
    text = update.lower(many, state, many).compile().as_text()
    for collective in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in text
    grads = gradients(1, params)[0]
    _, ours = update(jax.device_put(grads, place), state, many)
    _, theirs = jax.jit(tx.update)(grads, tx.init(params), params)
    assert same(theirs, jax.device_get(ours))


@pytest.mark.full
@pytest.mark.skipif(
    jax.__version_info__ < (0, 8), reason="orbax saves replicated arrays in a context that jax 0.7 lacks"
)
def test_a_run_on_eight_devices_goes_on_bit_for_bit_on_two_from_a_file(tmp_path):
    tx, params = compressed(rmsprop(0.01), **NIBBLE), {"w": np.full((64, 32), 0.5, np.float32)}

    def on(devices, tree):
        mesh = jax.make_mesh((devices,), ("x",), devices=jax.devices()[:devices])
        return jax.device_put(tree, NamedSharding(mesh, P("x")))

    eight, two = on(8, params), on(2, params)
    grads = gradients(4, params)
    _, state = train(tx, [on(8, g) for g in grads[:2]], eight, tx.init(eight))
    loaded = checkpoint.restore(tx.init(two), through_orbax(state, tx.init(two), tmp_path))
    assert same(jax.device_get(loaded), jax.device_get(state))
    assert {len(x.devices()) for x in jax.tree.leaves(loaded)} == {2}
    there, here = ([on(n, g) for g in grads[2:]] for n in (2, 8))
    assert same(jax.device_get(train(tx, there, two, loaded)), jax.device_get(train(tx, here, eight, state)))


@pytest.mark.parametrize("axis_type", rows([AxisType.Auto, AxisType.Explicit], [AxisType.Auto]))
def test_inside_shard_map_each_shard_has_scales_of_its_own(axis_type):
    """Its error is no larger than that of the whole: fewer elements share a scale."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type, axis_type))
    codec, spec = RmsNibble(), P("x", "y")
    rng = np.random.default_rng(0)
    nu = np.exp(rng.normal(size=(128, 1)) + rng.normal(size=(1, 96)) + 0.7 * rng.normal(size=(128, 96)))

    def error(x):
        scales = codec.scales(x)
        bits = jax.random.bits(jax.random.key(0), x.shape)
        return jnp.log(codec.decode(codec.encode(x, bits, scales), scales) / x) / 2

    nu = jnp.asarray(nu, jnp.float32)
    inside = jax.jit(jax.shard_map(error, mesh=mesh, in_specs=spec, out_specs=spec))
    shards = np.asarray(inside(jax.device_put(nu, NamedSharding(mesh, spec))))
    rms = lambda x: np.sqrt(np.mean(np.asarray(x) ** 2))  # noqa: E731
    assert 0.05 < rms(shards) < 1.05 * rms(jax.jit(error)(nu))


def test_a_run_inside_shard_map_keeps_its_types_with_scales_split_as_the_parameters():
    mesh, spec, tx = jax.make_mesh((4, 2), ("x", "y")), P("x", "y"), compressed(rmsprop(0.1), **NIBBLE)
    params = jax.device_put({"w": jnp.ones((128, 64))}, NamedSharding(mesh, spec))
    layout = jax.tree.map(lambda x: spec if x.ndim else P(), jax.eval_shape(tx.init, params))
    over = functools.partial(jax.shard_map, mesh=mesh)
    state = jax.jit(over(tx.init, in_specs=spec, out_specs=layout))(params)
    assert state.scales[0]["nu_row_rms"]["w"].shape == (128, 2)
    update = jax.jit(over(tx.update, in_specs=(spec, layout), out_specs=(spec, layout)))
    for _ in range(2):
        updates, after = update(params, state)
        assert types(after) == types(state)
        state = after
    assert np.isfinite(updates["w"]).all()
