"""`state_shardings` says from shapes where each array of any optax state belongs, and `init` makes it there."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from kit.memory import pinned_host
from kit.rows import rows

from rmsprop_optax import compression, rmsprop
from rmsprop_optax.sharding import state_shardings

SHAPES = {"blk": {"w": (8, 4), "b": (6,)}, "none": None, "w": (16, 2)}
SPECS = {"blk": {"w": P("x", "y"), "b": P("y")}, "none": None, "w": P(("x", "y"))}
MASK = {"blk": {"w": True, "b": False}, "none": None, "w": True}
LABELS = {"blk": {"w": "ours", "b": "adam"}, "none": None, "w": "ours"}
is_shape = lambda x: isinstance(x, tuple)  # noqa: E731

every_mesh = pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])


def ours():
    return rmsprop(optax.constant_schedule(0.1), momentum=0.9, bias_correction=True)


TRANSFORMATIONS = {
    "ours": ours(),
    "centered": rmsprop(0.1, centered=True),
    "byte": compression.compressed(ours(), nu=compression.RmsByte(), trace=compression.BFloat16()),
    "low halves": compression.with_master_weights(ours(), low_bits=8),
    "adam": optax.adam(0.1),
    "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
    "muon": optax.contrib.muon(0.1),
    "masked": optax.masked(ours(), MASK),
    "partition": optax.partition({"ours": ours(), "adam": optax.adam(0.1)}, LABELS),
    "multisteps": optax.MultiSteps(ours(), 2),
    "injected": optax.inject_hyperparams(rmsprop)(0.1, momentum=0.9),
    "flatten": optax.flatten(optax.adam(0.1)),
    "apply_if_finite": optax.apply_if_finite(ours(), 3),
    "ema": optax.chain(optax.clip(1.0), ours(), optax.ema(0.9)),
    "schedule_free": optax.contrib.schedule_free(ours(), 0.1),
    "lbfgs": optax.scale_by_lbfgs(3),
    "sm3": optax.sm3(0.1),
    "noise": optax.add_noise(0.1, 0.5, key=0),
    "split": optax.contrib.split_real_and_imaginary(ours()),
}


def sharded(axis_type, dtype=jnp.float32):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type, axis_type))
    layout = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
    params = jax.tree.map(lambda s, home: jax.device_put(jnp.ones(s, dtype), home), SHAPES, layout, is_leaf=is_shape)
    return mesh, params


def name_of(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


def expected(path, x, params, mesh):
    """Write the rule down again, by names: of the parameters whose path ends an array's path the longest counts."""
    where = f"/{name_of(path)}"
    homes = {name_of(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(params)}
    fitting = [key for key in homes if where.endswith(f"/{key}") or f"/{key}/" in where]
    home = homes[max(fitting, key=len)] if fitting else None
    return home.sharding if home is not None and home.shape == x.shape else NamedSharding(mesh, P())


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@every_mesh
def test_what_has_a_parameter_s_shape_follows_it_and_the_rest_is_replicated(name, axis_type):
    dtype = {"low halves": jnp.bfloat16, "split": jnp.complex64}.get(name, jnp.float32)
    mesh, params = sharded(axis_type, dtype)
    tx = TRANSFORMATIONS[name]
    layout = state_shardings(tx, params)
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding), params)
    assert state_shardings(tx, shapes) == layout
    state = jax.eval_shape(tx.init, jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params))
    assert jax.tree.structure(state) == jax.tree.structure(layout)
    pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(layout), strict=True)
    assert all(found == expected(path, x, params, mesh) for (path, x), found in pairs)
    followed = sum(not s.is_fully_replicated for s in jax.tree.leaves(layout))
    assert followed >= {"adafactor": 1, "flatten": 0, "sm3": 1, "noise": 0}.get(name, 2)


@pytest.mark.parametrize("name", rows(["ours", "byte", "multisteps", "partition", "adafactor"], ["byte", "partition"]))
@every_mesh
def test_init_and_a_step_have_these_shardings(name, axis_type):
    mesh, params = sharded(axis_type)
    tx = TRANSFORMATIONS[name]
    layout = state_shardings(tx, params)
    homes = jax.tree.map(lambda p: p.sharding, params)
    with jax.set_mesh(mesh):
        state = jax.jit(tx.init, out_shardings=layout)(params)
        update = jax.jit(tx.update, in_shardings=(homes, layout, homes), out_shardings=(homes, layout))
        _, after = update(params, state, params)
    for tree in (state, after):
        same = jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim) and x.committed, tree, layout)
        assert jax.tree.all(same)


def test_our_own_eager_init_agrees():
    for axis_type in (AxisType.Auto, AxisType.Explicit):
        _, params = sharded(axis_type)
        for name in ("ours", "centered", "byte"):
            tx = TRANSFORMATIONS[name]
            alike = lambda x, s: x.sharding.is_equivalent_to(s, x.ndim)  # noqa: E731
            assert jax.tree.all(jax.tree.map(alike, tx.init(params), state_shardings(tx, params)))


def test_lookahead_s_parameters_have_a_container_more_than_its_state():
    mesh, params = sharded(AxisType.Auto)
    layout = state_shardings(optax.lookahead(ours(), 2, 0.5), optax.LookaheadParams(fast=params, slow=params))
    nu = optax.tree.get(layout, "nu")
    assert nu == jax.tree.map(lambda p: p.sharding, params)
    assert layout.steps_since_sync == NamedSharding(mesh, P())


def test_given_shardings_stand_in_for_the_parameters_own():
    """ZeRO-1: parameters everywhere, their state split."""
    mesh, _ = sharded(AxisType.Auto)
    params = jax.tree.map(jnp.ones, SHAPES, is_leaf=is_shape)
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("y"))
    replicated = jax.device_put(params, whole)
    for given in (split, jax.tree.map(lambda _: split, params), {"blk": split, "none": None, "w": split}):
        for tree in (params, replicated, jax.eval_shape(lambda: params)):
            layout = state_shardings(ours(), tree, given)
            assert optax.tree.get(layout, "nu") == jax.tree.map(lambda _: split, params)
            assert layout[0].count == whole


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_an_abstract_mesh_will_do(axis_type):
    mesh = AbstractMesh((64, 32), ("x", "y"), axis_types=(axis_type, axis_type))
    params = {"w": jax.ShapeDtypeStruct((128, 64), jnp.bfloat16, sharding=NamedSharding(mesh, P("x", "y")))}
    layout = state_shardings(compression.with_master_weights(ours(), low_bits=8), params)
    assert layout.low == {"w": NamedSharding(mesh, P("x", "y"))}
    assert layout.dither_count == NamedSharding(mesh, P())
    if axis_type is AxisType.Auto:  # the other needs jax.set_mesh around it, and before jax 0.8 a mesh of devices
        lowered = jax.jit(lambda p: p, out_shardings=layout.low).trace(params).lower(lowering_platforms=("tpu",))
        assert "2048" in lowered.as_text()


@dataclasses.dataclass(frozen=True)
class Packed:
    """Two numbers in a byte, along the last axis: a code whose shape is not its parameter's."""

    dtype: Any = jnp.uint8
    signed: bool = True
    scale_free: bool = True
    relative_to: Any = None

    def encode(self, x, bits):
        half = (jnp.abs(x) > 1).astype(jnp.uint8)
        return half if x.ndim == 0 else half[..., ::2] | half[..., 1::2] << 4

    def decode(self, codes):
        return jnp.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:-1], -1).astype(jnp.float32)


def test_codes_of_another_shape_are_split_where_that_comes_out_even():
    mesh, params = sharded(AxisType.Auto)
    tx = compression.compressed(ours(), nu=Packed())
    nu = optax.tree.get(state_shardings(tx, params), "nu")
    assert nu["blk"] == {"w": NamedSharding(mesh, P("x", "y")), "b": NamedSharding(mesh, P(None))}  # (8, 2), (3,)
    assert nu["w"] == NamedSharding(mesh, P(("x", "y")))


@pytest.mark.parametrize("spec", [P("x"), P(None, "y"), P("x", "y"), P(("x", "y"))], ids=str)
@pytest.mark.parametrize("front", [(), (3,)], ids=["matrix", "stacked"])
def test_scales_are_split_along_the_axes_that_they_have(spec, front):
    mesh, _ = sharded(AxisType.Auto)
    whole = P(*(None,) * len(front), *spec)
    params = {"w": jax.ShapeDtypeStruct((*front, 64, 32), jnp.float32, sharding=NamedSharding(mesh, whole))}
    layout = state_shardings(compression.compressed(ours(), nu=compression.RmsNibble()), params)
    row, column = (*spec, None) if len(spec) == 1 else spec
    assert optax.tree.get(layout, "nu")["w"].spec == whole
    of_parts = {"row_rms": (row, None), "column_max": (None, column), "rms": (None, None)}
    for part, ends in of_parts.items():
        expected = NamedSharding(mesh, P(*(None,) * len(front), *ends))
        assert layout.scales[0][f"nu_{part}"]["w"].is_equivalent_to(expected, len(front) + 2), part


def test_moments_share_the_parameters_kind_of_memory_and_counters_do_not():
    sharding = pinned_host(mesh=True)
    params = {"w": jax.ShapeDtypeStruct((4, 2), jnp.float32, sharding=sharding)}
    layout = state_shardings(ours(), params)
    assert layout[0].nu["w"] == layout[2].trace["w"] == sharding
    assert layout[0].count == layout[1].count == NamedSharding(sharding.mesh, P())


@pytest.mark.parametrize(
    "params", [np.ones((8, 4), np.float32), [np.ones((8,), np.float32), np.ones((4,), np.float32)]]
)
def test_a_bare_array_and_a_list_are_parameters_too(params):
    mesh, _ = sharded(AxisType.Auto)
    split = NamedSharding(mesh, P("x"))
    layout = state_shardings(optax.chain(ours(), optax.scale_by_adam()), params, split)
    assert layout[0][0].nu == layout[1].mu == jax.tree.map(lambda _: split, params)
    assert layout[0][0].count == layout[1].count == NamedSharding(mesh, P())


def test_parameters_without_one_mesh_are_refused_by_name():
    mesh, params = sharded(AxisType.Auto)
    other = NamedSharding(jax.make_mesh((8,), ("z",), axis_types=(AxisType.Auto,)), P("z"))
    one = SingleDeviceSharding(jax.devices()[0])
    for place, message in ((one, "`params` at w must be on a mesh"), (other, "must be on one mesh.* at w")):
        mixed = params | {"w": jax.ShapeDtypeStruct((16, 2), jnp.float32, sharding=place)}
        with pytest.raises(ValueError, match=message):
            state_shardings(ours(), mixed)
        state_shardings(ours(), mixed, NamedSharding(mesh, P()))
    with pytest.raises(ValueError, match="Pass `shardings`"):
        state_shardings(ours(), jax.eval_shape(lambda: params["blk"]["w"] * 1))
    with pytest.raises(ValueError, match="an array at least"):
        state_shardings(ours(), {})


def test_shardings_that_do_not_fit_are_refused_by_name():
    mesh, params = sharded(AxisType.Auto)
    rows = NamedSharding(mesh, P("x"))
    with pytest.raises(ValueError, match="structure of `params` or be a prefix"):
        state_shardings(ours(), params, {"w": rows})
    with pytest.raises(TypeError, match=r"`shardings` at blk/b must be a NamedSharding, got .*P.*'x'"):
        state_shardings(ours(), params, P("x"))
    with pytest.raises(TypeError, match="must be an optax transformation"):
        state_shardings(rmsprop, params)
