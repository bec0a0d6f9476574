"""Complex leaves as a framework treats them: as pairs of real numbers, or not at all."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks, moments
from rmsprop_optax._value import value

__all__ = ["in_real_pairs", "refusing_complex"]


@value
def refusing_complex(tx: optax.GradientTransformationExtraArgs, api: str) -> optax.GradientTransformationExtraArgs:
    """Refuse complex leaves, for a framework that has no rule for them."""

    def refuse(name, tree):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if _is_complex(leaf):
                raise TypeError(
                    f"`{name}` at {_checks.leaf_name(path)} is complex, and {api} has no rule for that. Choose one: "
                    "optax.contrib.split_real_and_imaginary around this gives each part a mean square, rmsprop gives "
                    "one to both."
                )

    def init_fn(params):
        _checks.parameters(params)
        refuse("params", params)
        return tx.init(params)

    def update_fn(updates, state, params=None, **extra_args):
        _checks.inexact("updates", updates)
        refuse("updates", updates)
        return tx.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def in_real_pairs(tx: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """Give each part of a complex number its own statistics, as PyTorch's `view_as_real` does.

    The moments of a complex parameter stay complex arrays of its shape, the mean square too: its real part is that of
    the real parts. `optax.contrib.split_real_and_imaginary` keeps a tuple for each such leaf, which Flax NNX rebuilds
    as a different container and which cannot hold a None gradient.
    """

    def init_fn(params):
        _checks.parameters(params)
        join = lambda moment, p: _join(moment) if _is_complex(p) else moment  # noqa: E731
        joined = lambda tree: jax.tree.map(join, tree, params)  # noqa: E731
        entries = tx.init(_split(params))
        named = ({name: joined(tree) for name, tree in moments.of(entry).items()} for entry in entries)
        return tuple(entry._replace(**trees) for entry, trees in zip(entries, named, strict=True))

    def update_fn(updates, state, params=None, **extra_args):
        _checks.inexact("updates", updates)
        second = None
        for _, entry in moments.entries(state):  # none if it is another optimizer's: rmsprop refuses it
            if name := moments.second(entry):
                second = getattr(entry, name)
                _checks.like("updates", updates, f"state.{name}", second)
                _checks.same_kind("updates", updates, second)
        parts, new = tx.update(_split(updates), _split(state), _split(params), **extra_args)
        join = lambda x, moment: _join(x) if _is_complex(moment) else x  # noqa: E731
        return jax.tree.map(join, parts, second), jax.tree.map(join, new, state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _is_complex(leaf: Any) -> bool:
    return isinstance(leaf, complex) or jnp.issubdtype(getattr(leaf, "dtype", float), jnp.complexfloating)


def _split(tree: Any) -> Any:
    """Put the parts of complex leaves along a last axis."""
    return jax.tree.map(lambda x: jnp.stack([jnp.real(x), jnp.imag(x)], -1) if _is_complex(x) else x, tree)


def _join(parts: jax.Array) -> jax.Array:
    return jax.lax.complex(parts[..., 0], parts[..., 1])
