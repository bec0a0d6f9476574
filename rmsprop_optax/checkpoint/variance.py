"""From the mean square to the variance that a centered state keeps, and back."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["mean_square", "variance"]


def variance(nu: Any, mu: Any) -> Any:
    """Return the mean square less the squared mean, at least 0 and in float32 or better."""
    return _elementwise(lambda nu, mu: _plus(nu, -_square(nu, mu)), nu, mu)


def mean_square(variance: Any, mu: Any) -> Any:
    """Return the variance plus the squared mean."""
    return _elementwise(lambda variance, mu: _plus(variance, _square(variance, mu)), variance, mu)


def _elementwise(function: Callable[..., np.ndarray], first: Any, second: Any) -> Any:
    """Apply a function of NumPy arrays; to sharded ones, which no process need hold whole, shard by shard."""
    if not isinstance(first, jax.Array) or first.is_fully_replicated:
        return function(np.asarray(first), np.asarray(second))
    second = jax.device_put(second, first.sharding)
    pairs = zip(first.addressable_shards, second.addressable_shards, strict=True)
    shards = [jax.device_put(function(np.asarray(a.data), np.asarray(b.data)), a.device) for a, b in pairs]
    on_device: Any = first.sharding  # jaxlib's stub wants a kind of memory
    return jax.make_array_from_single_device_arrays(first.shape, on_device.with_memory_kind(None), shards)


def _square(nu: np.ndarray, mu: np.ndarray) -> Any:
    """Square the mean in float64, for each part of a complex number if the mean square is complex, too."""
    real, imag = np.square(mu.real, dtype=np.float64), np.square(mu.imag, dtype=np.float64)
    return real + 1j * imag if np.iscomplexobj(nu) else real + imag


def _plus(nu: np.ndarray, square: Any) -> Any:
    total = nu + square
    total = _positive(total.real) + 1j * _positive(total.imag) if np.iscomplexobj(nu) else _positive(total)
    return total.astype(jnp.promote_types(nu.dtype, jnp.float32))


def _positive(x: Any) -> Any:
    return np.where(x < 0, 0, x)  # keeps a NaN
