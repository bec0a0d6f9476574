"""Quantiles and shares of arrays together, whatever their shapes and shardings: nothing is sorted, joined or gathered.

As integers, the bits of floats are in the order of the floats. So the element of a rank is found bit by bit: a bit is
set if no more elements than the rank are below the number that this makes. A bit costs one pass over each array, and
all that leaves a device is counts.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["quantiles", "shares"]


@jax.jit
def quantiles(arrays: Sequence[jax.Array], q: jax.Array) -> tuple[list[jax.Array], jax.Array]:
    """Return the quantiles of each array and those of all arrays together, as `jnp.quantile` does.

    Args:
      arrays: Arrays with elements, float32 or float64.
      q: Which quantiles, shape (quantiles,).
    """
    together = jnp.result_type(*arrays)
    keys = [_ordered(x.astype(together)) for x in arrays]
    sizes = [x.size for x in arrays]
    rank, last, weight = _ranks([*sizes, sum(sizes)], [*(x.dtype for x in arrays), together], q)
    following = _carried(rank.high, rank.low + 1)
    ranks = _Count(*(jnp.concatenate(part) for part in zip(rank, following, last, strict=True)))
    found = _value(jax.lax.map(functools.partial(_search, keys), ranks), together)  # one by one: see `_below`
    lower, upper, largest = jnp.split(found, [len(q), 2 * len(q)])
    between = lower * (1 - weight) + jnp.where(weight == 0, lower, upper) * weight
    *each, every = jnp.where(jnp.isnan(largest), jnp.nan, between).T
    return [row.astype(x.dtype) for row, x in zip(each, arrays, strict=True)], every


def shares(masks: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Return the share of elements that are true, of each array and of all together."""
    count = _own_and_total([_count(mask, mask) for mask in masks])
    sizes = [mask.size for mask in masks]
    dtype = jnp.result_type(float)
    found = (count.high.astype(dtype) * 2**16 + count.low.astype(dtype)) / jnp.asarray([*sizes, sum(sizes)], dtype)
    return found[:-1], found[-1]


class _Count(NamedTuple):
    """A number in two parts, high * 2**16 + low: 32 bits hold 4 billion elements, and models have more."""

    high: Any  # uint32
    low: Any  # uint32, below 2**16


def _ranks(sizes: list[int], dtypes: list[Any], q: jax.Array) -> tuple[_Count, _Count, jax.Array]:
    """Return where the quantiles lie in arrays of such sizes and dtypes, as in `jnp.quantile`.

    Returns:
      How many elements are before each quantile, shape (quantiles, arrays); the same for the last element, shape
      (1, arrays); and the weight of the element that follows, shape (quantiles, arrays).
    """
    end = np.array(sizes) - 1
    last = _Count(jnp.asarray(end >> 16, jnp.uint32)[None], jnp.asarray(end & 0xFFFF, jnp.uint32)[None])
    index, lower = jnp.zeros((2, len(q), len(sizes)), dtypes[-1])
    for dtype in dict.fromkeys(dtypes):  # each in its own precision
        own = q.astype(dtype)[:, None] * jnp.asarray(end, dtype)
        of_dtype = np.array([dtype == each for each in dtypes])
        index = jnp.where(of_dtype, own.astype(index.dtype), index)
        lower = jnp.where(of_dtype, jnp.floor(own).astype(index.dtype), lower)
    high = jnp.floor(lower / 2**16)
    rank = _Count(high.astype(jnp.uint32), (lower - high * 2**16).astype(jnp.uint32))
    inside = _at_most(rank, last)  # from 2**24 elements on, float32 may round their number up
    return _Count(*(jnp.where(inside, a, b) for a, b in zip(rank, last, strict=True))), last, index - lower


def _search(keys: list[jax.Array], rank: _Count) -> jax.Array:
    """Return the element of a rank: of each array, and of all together."""
    bits = 8 * keys[0].dtype.itemsize

    def set_bit(i, found):
        tried = found | (jnp.asarray(1, found.dtype) << (bits - 1 - i).astype(found.dtype))
        return jnp.where(_at_most(_below(keys, tried), rank), tried, found)

    nothing = jnp.sum(keys[0] & 0, dtype=keys[0].dtype)  # a 0 that has the mesh of the counts
    return jax.lax.fori_loop(0, bits, set_bit, jnp.broadcast_to(nothing, rank.low.shape))


def _below(keys: list[jax.Array], limits: jax.Array) -> _Count:
    """Count what is below the limit of each array; and what is below the last limit, in all together.

    Two counts are one pass over an array. More would be faster to run, but each adds to the time to compile.
    """
    return _own_and_total([_count_below(x, limits[n], limits[-1]) for n, x in enumerate(keys)])


@jax.jit  # traced once per shape
def _count_below(keys, own, common):
    return _count(keys < own, keys < common)


def _count(one: jax.Array, other: jax.Array) -> list[_Count]:
    """Count what is true in each of two masks of one shape, in one pass. XLA on the CPU would store a single mask."""
    rows = 1 if one.size >= _TOO_MANY else 0  # then each row is counted apart
    masks, zeros = (one.astype(jnp.uint32), other.astype(jnp.uint32)), (jnp.uint32(0), jnp.uint32(0))
    add = lambda a, b: (a[0] + b[0], a[1] + b[1])  # noqa: E731
    counts = jax.lax.reduce(masks, zeros, add, tuple(range(rows, one.ndim)))
    if not rows:
        return [_Count(jnp.zeros_like(n), n) for n in counts]
    return [_Count((n >> 16).sum(dtype=jnp.uint32), (n & 0xFFFF).sum(dtype=jnp.uint32)) for n in counts]


_TOO_MANY = 2**32  # for 32 bits


def _own_and_total(counts: list[list[_Count]]) -> _Count:
    """From two counts of each array return the first of each, and then the total of the second."""
    own, common = (
        _carried(*(jnp.stack(part) for part in zip(*which, strict=True))) for which in zip(*counts, strict=True)
    )
    total = _carried(*(part.sum(dtype=jnp.uint32) for part in common))
    return _Count(*(jnp.append(a, b) for a, b in zip(own, total, strict=True)))


def _carried(high: Any, low: Any) -> _Count:
    return _Count(high + (low >> 16), low & 0xFFFF)


def _at_most(count: _Count, limit: _Count) -> jax.Array:
    return (count.high < limit.high) | ((count.high == limit.high) & (count.low <= limit.low))


def _ordered(x: jax.Array) -> jax.Array:
    """Return unsigned integers in the order of the floats, NaN as the largest: below 0, larger bits are smaller."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint64 if x.dtype.itemsize == 8 else jnp.uint32)
    keys = jnp.where(bits < _sign(bits), bits | _sign(bits), ~bits)
    return jnp.where(jnp.isnan(x), jnp.asarray(np.iinfo(keys.dtype).max, keys.dtype), keys)


def _value(keys: jax.Array, dtype: Any) -> jax.Array:
    return jax.lax.bitcast_convert_type(jnp.where(keys < _sign(keys), ~keys, keys ^ _sign(keys)), dtype)


def _sign(bits: jax.Array) -> jax.Array:
    return jnp.asarray(1, bits.dtype) << (8 * bits.dtype.itemsize - 1)
