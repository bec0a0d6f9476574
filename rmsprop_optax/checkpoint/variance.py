"""From the mean square to the variance that a centered state keeps, and back."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def to_variance(nu: dict[str, Any], mu: dict[str, Any]) -> dict[str, Any]:
    """Return the mean square less the squared mean, at least 0 and in float32 or better, leaf by leaf."""
    return {path: _plus(leaf, -_square(leaf, mu[path])) for path, leaf in nu.items()}


def to_mean_square(nu: dict[str, Any], mu: dict[str, Any]) -> dict[str, Any]:
    """Return the variance plus the squared mean, leaf by leaf."""
    return {path: _plus(leaf, _square(leaf, mu[path])) for path, leaf in nu.items()}


def _square(nu: Any, mu: Any) -> Any:
    """Square the mean in float64, for each part of a complex number if the mean square is complex, too."""
    mu = np.asarray(mu)
    real, imag = np.square(mu.real, dtype=np.float64), np.square(mu.imag, dtype=np.float64)
    return real + 1j * imag if np.iscomplexobj(nu) else real + imag


def _plus(nu: Any, square: Any) -> Any:
    nu = np.asarray(nu)
    total = nu + square
    total = _positive(total.real) + 1j * _positive(total.imag) if np.iscomplexobj(nu) else _positive(total)
    return total.astype(jnp.promote_types(nu.dtype, jnp.float32))


def _positive(x: Any) -> Any:
    return np.where(x < 0, 0, x)  # keeps a NaN
