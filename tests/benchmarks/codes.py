"""The codes that are compared: ours, and others reimplemented from their descriptions.

Each takes a mean square through its code and back. What it would store, in bytes a parameter, is beside it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble
from rmsprop_optax.compression.codecs import dither
from rmsprop_optax.compression.scales import encoded_again, is_scaled


class Code(NamedTuple):
    bytes_per_parameter: float
    through: Any  # (nu in float32, the leaf's number, count) -> nu in float32


def ours(codec):
    def through(nu, number, count):
        bits = dither(nu, jnp.uint32(number), count)
        if is_scaled(codec):
            return codec.decode(*encoded_again(codec, nu, bits, None, None))
        return codec.decode(codec.encode(nu, bits))

    return through


def factored(nu, number, count):
    """Return what the means of rows and columns tell, as Adafactor keeps them; vectors and scalars are in the byte.

    The rows are all axes but the last.
    """
    if nu.ndim < 2:
        return ours(RmsByte())(nu, number, count)
    whole = nu.mean()
    columns = nu.mean(tuple(range(nu.ndim - 1)), keepdims=True)
    return nu.mean(-1, keepdims=True) * (columns / jnp.where(whole > 0, whole, 1))


def in_blocks(function, size, **padding):
    """Apply a function of (blocks, size) arrays to an array cut into blocks in the order of its elements."""

    def through(nu, number, count):
        del number, count
        flat = nu.ravel()
        blocks = jnp.pad(flat, (0, -flat.size % size), **padding).reshape(-1, size)
        return function(blocks).ravel()[: flat.size].reshape(nu.shape)

    return through


def linear_absmax(blocks):
    scale = jnp.max(blocks, 1, keepdims=True)
    codes = jnp.round(blocks / jnp.where(scale > 0, scale, 1) * 255)
    return codes / 255 * scale


def square_root(blocks):
    """FlashOptim's code of a second moment: the root, over the block's largest, in 8 linear bits; that in float16."""
    root = jnp.sqrt(blocks)
    scale = jnp.max(root, 1, keepdims=True)
    codes = jnp.floor(root / jnp.where(scale > 0, scale, 1) * 255 + 0.5)
    return (codes / 255 * scale.astype(jnp.float16).astype(jnp.float32)) ** 2


def dynamic_map():
    """Return the values of bitsandbytes' signed map that are not negative: RMSprop8bit keeps its mean square in it.

    They are 0, 1, and in each decade below 1 the midpoints of equal parts of [0.1, 1]: 64 in the first, half as many
    in each that follows.
    """
    values = [0.0, 1.0]
    for decade in range(7):
        edges = np.linspace(0.1, 1, 2 ** (6 - decade) + 1)
        values.extend(10.0**-decade * (edges[:-1] + edges[1:]) / 2)
    return np.sort(np.array(values, np.float32))


def dynamic(blocks):
    """Bitsandbytes' code: the mean square over the block's largest, as the nearest value of the map."""
    values = dynamic_map()
    scale = jnp.max(blocks, 1, keepdims=True)
    edges = jnp.asarray((values[:-1] + values[1:]) / 2)
    codes = jnp.searchsorted(edges, blocks / jnp.where(scale > 0, scale, 1))
    return jnp.asarray(values)[codes] * scale


def endpoints(nu, number, count):
    """TurboAdam's code: 16 levels, even in the logarithm, between the smallest and the largest of 128 elements.

    Zero counts as 1.2e-38. Random bits round up or down so that `nu` is right on average; the ends are kept in float16.
    """

    def through(blocks):
        logs = jnp.log(jnp.maximum(blocks, 1.2e-38))
        low = _outward(logs.min(1, keepdims=True), -1)
        step = (_outward(logs.max(1, keepdims=True), 1) - low) / 15
        below = jnp.clip(jnp.floor((logs - low) / jnp.maximum(step, 1e-10)), 0, 14)
        under, over = jnp.exp(low + below * step), jnp.exp(low + (below + 1) * step)
        random = jax.random.uniform(jax.random.fold_in(jax.random.key(number), count), blocks.shape)
        return jnp.where(random < (blocks - under) / jnp.maximum(over - under, 1.2e-38), over, under)

    return in_blocks(through, 128, mode="edge")(nu, number, count)


def _outward(x, sign):
    half = x.astype(jnp.float16)
    inside = sign * half.astype(jnp.float32) < sign * x
    return jnp.where(inside, jnp.nextafter(half, jnp.full_like(half, sign * jnp.inf)), half).astype(jnp.float32)


def nearest_bfloat16(nu, number, count):
    del number, count
    bits = nu.view(jnp.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & jnp.uint32(0xFFFF0000)).view(jnp.float32)


CODES = {
    "byte": Code(1.0, ours(RmsByte())),
    "nibble": Code(0.5, ours(RmsNibble())),
    "bfloat16": Code(2.0, ours(BFloat16())),
    "FlashOptim": Code(1 + 2 / 32, in_blocks(square_root, 32)),
    "bitsandbytes": Code(1 + 4 / 256, in_blocks(dynamic, 256)),
    "TurboAdam": Code(0.5 + 4 / 128, endpoints),
    "factored": Code(0.0, factored),
    "linear": Code(1 + 4 / 256, in_blocks(linear_absmax, 256)),
    "bfloat16, nearest": Code(2.0, nearest_bfloat16),
}
