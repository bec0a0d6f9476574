"""A codec of a user's own that keeps scales: here one byte a number, and the largest of each leaf or of each row."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from kit.rows import rows
from kit.training import gradients, train
from kit.trees import same, types

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import RmsNibble, ScaledCodec, compressed, decompress, recompress
from rmsprop_optax.sharding import state_shardings


@dataclasses.dataclass(frozen=True)
class Linear:
    """127 even steps up and down to the largest magnitude along some axes."""

    relative_to: Any = None
    axes: Any = None
    dtype = jnp.int8
    signed = True
    scale_free = False
    parts = ("most",)

    def scales(self, x):
        return {"most": jnp.abs(x).max(self.axes if x.ndim else None, keepdims=True)}

    def encode(self, x, bits, scales):
        most = scales["most"]
        steps = x / jnp.where(most > 0, most, 1) * 127
        whole = jnp.round(steps)
        near = jnp.abs(steps - whole) < 1e-3  # what was decoded comes back
        return jnp.where(near, whole, jnp.floor(steps + bits.astype(jnp.float32) * 2.0**-32)).astype(jnp.int8)

    def decode(self, codes, scales):
        return codes.astype(jnp.float32) * (scales["most"] / 127)


PARAMS = {"w": jnp.full((32, 48), 0.5, jnp.float32), "b": jnp.ones(5), "s": jnp.ones(())}
CASES = {
    "trace": (rmsprop(0.1, momentum=0.9), {"trace": Linear()}),
    "mu of Adam, relative to nu in half a byte": (
        optax.adam(0.1),
        {"nu": RmsNibble(), "mu": Linear(relative_to="nu")},
    ),
    "trace and variance": (
        rmsprop(0.1, centered=True, momentum=0.9),
        {"variance": RmsNibble(), "trace": Linear(axes=-1)},
    ),
}


def test_it_is_a_scaled_codec():
    assert isinstance(Linear(), ScaledCodec)


@pytest.mark.parametrize("case", rows(CASES, ["trace"]))
def test_a_step_goes_through_its_codes_and_scales(case):
    tx, codecs = CASES[case]
    packed = compressed(tx, **codecs)
    params, state = train(packed, gradients(4, PARAMS), PARAMS)
    assert types(state) == types(packed.init(PARAMS))
    name = next(field for field, codec in codecs.items() if isinstance(codec, Linear))
    trees = [scales[f"{name}_most"] for scales in state.scales if f"{name}_most" in scales]
    assert len(trees) == 1
    assert jax.tree.structure(trees[0]) == jax.tree.structure(PARAMS)
    opened = decompress(state, **codecs)
    (g,) = gradients(1, PARAMS, seed=1)
    updates, _ = jax.jit(packed.update)(g, state, params)
    expected, _ = jax.jit(tx.update)(g, opened.inner_state, params)
    for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    (moment,) = (tree for _, tree in optax.tree.get_all_with_path(opened, name))
    assert jnp.abs(moment["w"]).max() > 0
    assert types(recompress(opened, **codecs)) == types(state)


def test_codes_whose_scales_have_not_changed_come_back():
    tx, codecs = CASES["trace"]
    _, state = train(compressed(tx, **codecs), gradients(4, PARAMS), PARAMS)
    assert same(recompress(decompress(state, **codecs), **codecs), state)


def test_its_scales_are_laid_out_as_the_parameters_are():
    mesh = jax.make_mesh((4, 2), ("x", "y"))
    tx, codecs = CASES["trace and variance"]
    params = {"w": jax.ShapeDtypeStruct((32, 48), jnp.float32, sharding=NamedSharding(mesh, P("x", "y")))}
    layout = state_shardings(compressed(tx, **codecs), params)
    (trace,) = (scales["trace_most"]["w"] for scales in layout.scales if "trace_most" in scales)
    assert trace.is_equivalent_to(NamedSharding(mesh, P("x", None)), 2)


def test_a_codec_with_parts_and_without_scales_is_refused_with_what_it_lacks():
    class Lacking(Linear):
        scales = property()

    with pytest.raises(TypeError, match=r"`trace` must be a codec.*It lacks `scales`"):
        compressed(rmsprop(0.1, momentum=0.9), trace=Lacking())
