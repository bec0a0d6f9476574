"""Every layout with every optimizer: the state follows the parameters, a step moves nothing, and one device agrees.

FSDP, tensor parallel, ZeRO-1 and replicated, stacked layers among the parameters, on Auto and Explicit meshes of eight
devices; `init` called eagerly, compiled, and with shardings; inside of `jax.set_mesh` and outside.
"""

import contextlib
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.optimizers import OPTIONS, make
from kit.rows import rows
from kit.trees import same

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble, SignedByte, compressed, with_master_weights
from rmsprop_optax.sharding import state_shardings

SHAPES = {"w": (64, 32), "b": (64,), "layers": (3, 32, 64), "scale": ()}
BOTH = ("x", "y")
SPLIT = {"w": P(BOTH), "b": P(BOTH), "layers": P(None, BOTH), "scale": P()}
WHOLE = dict.fromkeys(SHAPES, P())
LAYOUTS = {  # of the parameters, and of their state
    "replicated": (WHOLE, WHOLE),
    "FSDP": (SPLIT, SPLIT),
    "tensor parallel": ({"w": P("x", "y"), "b": P("y"), "layers": P(None, "x", "y"), "scale": P()},) * 2,
    "ZeRO-1": (WHOLE, SPLIT),
    "columns": ({"w": P(None, "x"), "b": P(), "layers": P(None, None, "x"), "scale": P()},) * 2,
}
MASK = {"w": True, "b": False, "layers": True, "scale": False}
COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
AXES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}

schedule = make("schedule")
byte = compressed(rmsprop(0.01), nu=RmsByte())
nibble = compressed(rmsprop(0.01), nu=RmsNibble())
OPTIMIZERS = {name: make(name, **({"weight_decay_mask": MASK} if name == "everything" else {})) for name in OPTIONS} | {
    "byte": byte,
    "byte, momentum bfloat16": compressed(schedule, nu=RmsByte(), trace=BFloat16()),
    "byte, centered": compressed(rmsprop(0.01, centered=True), variance=RmsByte(), mu=SignedByte(relative_to="nu")),
    "byte, 16 low bits": with_master_weights(byte),
    "byte, 8 low bits": with_master_weights(byte, low_bits=8),
    "nibble": nibble,
    "nibble, centered": compressed(rmsprop(0.01, centered=True), variance=RmsNibble(), mu=SignedByte(relative_to="nu")),
    "nibble, 8 low bits": with_master_weights(nibble, low_bits=8),
    "0 low bits": with_master_weights(schedule, low_bits=0),
    "injected": optax.inject_hyperparams(rmsprop)(0.01, momentum=0.9),
    "masked": optax.masked(schedule, MASK),
    "partition": optax.partition({True: schedule, False: rmsprop(0.01)}, MASK),
    "MultiSteps": optax.MultiSteps(schedule, 2).gradient_transformation(),
}
MATRIX = [row for row in itertools.product(OPTIMIZERS, LAYOUTS, AXES) if row[1] != "columns" or "nibble" in row[0]]
ALWAYS = [
    ("plain", "FSDP", "explicit"),
    ("byte, 8 low bits", "ZeRO-1", "auto"),
    ("partition", "tensor parallel", "auto"),
    ("nibble", "tensor parallel", "explicit"),
]

every_row = pytest.mark.parametrize(("name", "layout", "axes"), rows(MATRIX, ALWAYS))


def trees(name, steps=3):
    """Return parameters, and gradients for each step."""
    dtype = jnp.bfloat16 if "low bits" in name else jnp.float32
    rng = np.random.default_rng(0)
    return [{k: np.asarray(rng.normal(size=s), dtype) for k, s in SHAPES.items()} for _ in range(steps + 1)]


def on(mesh, specs):
    return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}


def update_of(tx, homes, parts):
    """Return the update; where layouts are types and the state's is a different one, with both named."""
    if homes["w"].mesh.axis_types[0] is AxisType.Auto or homes == parts:
        return tx.update

    def update(grads, state, params):
        updates, state = tx.update(jax.reshard(grads, parts), state, jax.reshard(params, parts))
        return jax.reshard(updates, homes), state

    return update


@every_row
def test_the_state_follows_a_step_moves_nothing_and_one_device_agrees(name, layout, axes):
    tx, (start, *grads) = OPTIMIZERS[name], trees(name)
    mesh = jax.make_mesh((4, 2), BOTH, axis_types=(AXES[axes],) * 2)
    homes, parts = (on(mesh, specs) for specs in LAYOUTS[layout])
    params = jax.device_put(start, homes)
    shardings = state_shardings(tx, params, parts)
    update = update_of(tx, homes, parts)

    def step(params, state, grads):
        updates, state = update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(tx.init, out_shardings=shardings)(params)
    assert laid_out(state, shardings)
    compiled = (
        jax.jit(step, donate_argnums=(0, 1), out_shardings=(homes, shardings)).lower(params, state, params).compile()
    )
    moved = set(re.findall(COLLECTIVES, compiled.as_text()))
    for shapes in re.findall(r"= (.*?) all-reduce\(", compiled.as_text()):  # of scales: of rows and columns
        for dims in re.findall(r"\w+\[([\d,]*)\]", shapes):
            assert math.prod(int(n) for n in dims.split(",") if n) <= 3 * 64, dims
    summed = {"all-reduce"} if "nibble" in name and layout != "replicated" else set()
    assert moved == summed | ({"all-gather"} if layout == "ZeRO-1" else set())
    assert compiled.memory_analysis().alias_size_in_bytes == on_a_device((params, state))

    alone, alone_state = jax.tree.map(jnp.asarray, start), jax.jit(tx.init)(jax.tree.map(jnp.asarray, start))
    by_one = jax.jit(tx.update)
    by_eight = jax.jit(update, out_shardings=(homes, shardings))
    for g in grads:
        ours, state = by_eight(jax.device_put(g, homes), state, params)
        theirs, alone_state = by_one(jax.tree.map(jnp.asarray, g), alone_state, alone)
        assert same(ours, theirs)
    assert same(state, alone_state)
    assert laid_out(state, shardings)


@pytest.mark.parametrize(("name", "layout", "axes"), rows([row for row in MATRIX if "ZeRO" not in row[1]], ALWAYS))
def test_init_makes_the_state_where_it_belongs_however_it_is_called(name, layout, axes):
    tx = OPTIMIZERS[name]
    mesh = jax.make_mesh((4, 2), BOTH, axis_types=(AXES[axes],) * 2)
    params = jax.device_put(trees(name)[0], on(mesh, LAYOUTS[layout][0]))
    shardings = state_shardings(tx, params)
    for within in (contextlib.nullcontext(), jax.set_mesh(mesh)):
        with within:
            assert laid_out(jax.jit(tx.init)(params), shardings)
            moments = lambda tree: [x for x in jax.tree.leaves(tree) if x.ndim]  # noqa: E731
            eager = tx.init(params)
            where = [s for x, s in zip(*map(jax.tree.leaves, (eager, shardings)), strict=True) if x.ndim]
            assert laid_out(moments(eager), where)


def laid_out(tree, shardings):
    return jax.tree.all(jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), tree, shardings))


def on_a_device(tree):
    """Return the bytes that a tree takes on each device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
