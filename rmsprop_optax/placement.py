"""Where a new array lives: beside the parameter it belongs to, however that is sharded."""

from typing import Any

import jax
import jax.numpy as jnp

try:
    from jax.experimental.shard_alike import shard_alike
except ImportError:  # removed in jax 0.12
    shard_alike = None  # type: ignore[assignment]


def beside(param: Any, x: jax.Array) -> jax.Array:
    """Return an array made for a parameter of its shape, under jit with its sharding: there it would be a constant."""
    if not isinstance(param, jax.core.Tracer):
        return x
    if shard_alike is not None:
        return shard_alike(param, x)[1]
    zero = jax.lax.optimization_barrier(jnp.zeros((), x.dtype))  # which no compiler knows to be 0
    return x + jnp.isnan(param).astype(x.dtype) * zero  # shardings propagate through a sum
