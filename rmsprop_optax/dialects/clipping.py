"""Clip the raw gradient before an optimizer, in float32 or better."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.transform import saturate

__all__ = ["at_most_one", "chain_in_float32", "clip_adaptive", "clip_norm", "clip_value"]

_NO_CLIPPING = " Leave it None to not clip."


@value
def chain_in_float32(*links: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Chain links in float32 or better, so that a float16 norm does not overflow; the update has the gradient's dtype.

    Args:
      links: The links in order, an optimizer last.

    Returns:
      The transformation, with the state of `optax.chain(*links)`.
    """
    chain = optax.chain(*links)

    def update_fn(updates, state, params=None, **extra_args):
        _checks.inexact("updates", updates)
        if not isinstance(state, tuple) or len(state) != len(links):
            raise ValueError(
                f"`state` must be the tuple of {len(links)} entries that init made, got {_checks.shown(state)}. Pass "
                "what `init` or the last `update` returned."
            )
        wide = jax.tree.map(lambda g: jnp.asarray(g, jnp.promote_types(jnp.result_type(g), jnp.float32)), updates)
        u, state = chain.update(wide, state, params, **extra_args)
        narrow = lambda g, x: x if g is None else saturate(x, jnp.result_type(g))  # noqa: E731
        return jax.tree.map(narrow, updates, u, is_leaf=lambda leaf: leaf is None), state

    return optax.GradientTransformationExtraArgs(chain.init, update_fn)


def clip_value(name: str, limit: Any) -> list[optax.GradientTransformation]:
    """Return a link that clips each element of the gradient, or no link if the limit is None."""
    return [] if limit is None else [optax.clip(_checks.positive(name, limit, hint=_NO_CLIPPING))]


def clip_norm(name: str, limit: Any, *, each: bool = False) -> list[optax.GradientTransformation]:
    """Return a link that clips the norm of all gradients or of each leaf, or no link if the limit is None.

    `optax.clip_by_global_norm` does the first, but has no derivative where the gradient is 0.
    """
    if limit is None:
        return []
    limit = _checks.positive(name, limit, hint=_NO_CLIPPING)

    def clip(tree):
        leaves = jax.tree.leaves(tree)
        if not leaves:
            return tree
        norm = optax.safe_norm(jnp.stack([optax.safe_norm(g, 0.0) for g in leaves]), 0.0)
        return jax.tree.map(lambda g: g * (limit / jnp.maximum(norm, limit)), tree)

    return [optax.stateless(lambda updates, params: jax.tree.map(clip, updates) if each else clip(updates))]


def clip_adaptive(limit: Any, floor: float) -> optax.GradientTransformation:
    """Return a link that clips the norm of each leaf to a share of its parameter's, which counts as `floor` or more.

    `optax.adaptive_grad_clip` does so for each unit of a leaf; this is for the leaf as a whole.
    """

    def clip(g, p):
        wide = jnp.promote_types(g.dtype, jnp.result_type(p))
        upper = limit * jnp.maximum(floor, optax.safe_norm(jnp.asarray(p, wide), 0.0)).astype(g.dtype)
        return g * (1 / jnp.maximum(1.0, optax.safe_norm(g, 0.0) / upper))

    def update_fn(updates, params):
        if params is None:
            raise ValueError("`params` must be passed to update, got None: the clipping compares gradients with them.")
        _checks.like("updates", updates, "params", params)
        return jax.tree.map(
            lambda g, p: None if g is None else clip(g, p), updates, params, is_leaf=lambda g: g is None
        )

    return optax.stateless(update_fn)


def at_most_one(**limits: Any) -> None:
    """Refuse more than one limit."""
    given = [name for name, limit in limits.items() if limit is not None]
    if len(given) > 1:
        names = ", ".join(f"`{name}`" for name in limits)
        raise ValueError(f"At most one of {names} may be given, got {' and '.join(given)}.")
