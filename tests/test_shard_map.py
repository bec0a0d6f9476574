"""Codes inside `jax.shard_map`: each shard rounds by a dither of its own, and replicas stay equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.rows import rows
from kit.training import step
from kit.trees import same

from rmsprop_optax import compression, rmsprop
from rmsprop_optax.compression import BFloat16, RmsByte
from rmsprop_optax.compression.codecs import dither

CODES = compression.compressed(rmsprop(0.01, momentum=0.9), nu=RmsByte(), trace=BFloat16())
OPTIMIZERS = {"codes": CODES, "low halves": compression.with_master_weights(CODES, low_bits=8)}


def over(spec, function, x, axis_type=AxisType.Auto, **options):
    """Apply a function to the shards of an array, which are split and come back by one spec."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(axis_type, axis_type))
    inside = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, **options)
    return jax.jit(inside)(jax.device_put(x, NamedSharding(mesh, spec)))


def bits(x):
    return dither(x, jnp.uint32(3), jnp.int32(77))


ZEROS = np.zeros((8, 6), np.float32)
WHOLE = np.asarray(bits(jnp.asarray(ZEROS)))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_each_shard_has_a_dither_of_its_own(axis_type):
    found = np.asarray(over(P("x", "y"), bits, ZEROS, axis_type))
    assert len(np.unique(found)) == found.size
    assert (found[:2, :3] == bits(jnp.zeros((2, 3)))).all()  # the first has that of an array alone


@pytest.mark.parametrize("spec", [P("x"), P("y"), P(("x", "y"))], ids=str)
def test_split_along_the_first_axis_shards_have_the_dither_of_the_whole(spec):
    assert (np.asarray(over(spec, bits, ZEROS)) == WHOLE).all()


def test_an_axis_that_shard_map_leaves_to_the_compiler_is_part_of_the_whole():
    assert (np.asarray(over(P("x"), bits, ZEROS, axis_names={"x"})) == WHOLE).all()


def test_shards_that_are_equal_over_an_axis_have_one_dither_along_it():
    found = over(P("x"), bits, ZEROS)
    held = {}
    for shard in found.addressable_shards:
        held.setdefault(str(shard.index), []).append(np.asarray(shard.data))
    assert {len(copies) for copies in held.values()} == {2}
    assert all((copy == copies[0]).all() for copies in held.values() for copy in copies)


def test_without_the_types_of_shard_map_all_shards_have_one_dither():
    found = np.asarray(over(P("x"), bits, ZEROS, check_vma=False))
    assert (found.reshape(4, 2, 6) == bits(jnp.zeros((2, 6)))).all()


def test_the_errors_of_the_shards_average_out():
    """Eight shards of the same numbers: their mean is wrong by the root of an eighth of what one is wrong by."""
    codec, nu = RmsByte(), np.exp(np.random.default_rng(0).normal(size=400)).astype(np.float32)
    error = lambda x: jnp.log(codec.decode(codec.encode(x, bits(x))) / x)  # noqa: E731
    errors = np.asarray(over(P(("x", "y")), error, np.tile(nu, (8, 1)))).reshape(8, -1)
    rms = lambda x: np.sqrt(np.mean(x**2))  # noqa: E731
    assert rms(errors.mean(0)) < 0.5 * rms(errors)


def replicated(name):
    """Return an optimizer, parameters, and a gradient for each of eight replicas."""
    rng, dtype = np.random.default_rng(1), jnp.bfloat16 if name == "low halves" else jnp.float32
    params = {"w": jnp.asarray(rng.normal(size=(8, 6)), dtype), "b": jnp.asarray(rng.normal(size=()), dtype)}
    grads = [jax.tree.map(lambda p: jnp.asarray(rng.normal(size=(8, *p.shape)), dtype), params) for _ in range(3)]
    return OPTIMIZERS[name], params, grads


def all_copies_equal(tree):
    copies = lambda x: [np.asarray(shard.data).tobytes() for shard in x.addressable_shards]  # noqa: E731
    return all(len(set(copies(x))) == 1 and len(copies(x)) == 8 for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", rows(OPTIMIZERS, []))
def test_replicas_stay_equal_in_shard_map_and_in_pmap(name):
    tx, params, gradients = replicated(name)

    def advance(params, state, grads):
        mean = jax.tree.map(lambda g: jax.lax.pmean(g, "i"), grads)
        return step(tx, params, state, mean)

    def first(tree):
        return jax.tree.map(lambda x: x[0], tree)

    mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))
    inside = jax.jit(
        jax.shard_map(lambda p, s, g: advance(p, s, first(g)), mesh=mesh, in_specs=(P(), P(), P("i")), out_specs=P())
    )
    mapped = jax.pmap(advance, axis_name="i")
    one = (params, tx.init(params))
    many = jax.tree.map(lambda x: jnp.stack([x] * 8), one)
    for grads in gradients:
        one, many = inside(*one, grads), mapped(*many, grads)
    assert all_copies_equal(one)
    assert all(same(one, jax.tree.map(lambda x, i=i: x[i], many)) for i in range(8))
