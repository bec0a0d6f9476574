"""From a framework's numbers to a chain: its switches from its row, its names in the errors, its clipping in front."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax.alias import rmsprop
from rmsprop_optax.dialects.rows import ROWS
from rmsprop_optax.transform import saturate

_BELOW = {"decay": 1, "momentum": 1}  # the others have no upper bound


def assemble(
    framework: str,
    *,
    before: Sequence[optax.GradientTransformation] = (),
    moved: dict[str, Any] | None = None,
    learning_rate: Any,
    decay: Any,
    eps: Any,
    momentum: Any = None,
    weight_decay: Any = None,
    **structure: Any,
) -> optax.GradientTransformationExtraArgs:
    """Build `rmsprop` with the switches of a framework's row, after links that work on the raw gradient.

    Args:
      framework: A key of `ROWS`.
      before: Links on the raw gradient, in order.
      moved: Switches that the call sets otherwise than the row.
      learning_rate: A number or a schedule, like the next four under the framework's own name in errors.
      decay: A number.
      eps: A number.
      momentum: A number, or None for no buffer.
      weight_decay: A number or a schedule, or None for no decay.
      structure: `centered`, `nesterov` and `weight_decay_mask` of `rmsprop`.

    Returns:
      A chain; the caller's `@value` makes it one.
    """
    row = ROWS[framework]
    numbers = {
        "learning_rate": learning_rate, "decay": decay, "eps": eps, "momentum": momentum, "weight_decay": weight_decay,
    }  # fmt: skip
    needed = {"learning_rate", "decay", "eps"}
    if row.keeps_trace and row.defaults.get("momentum") is not None:
        needed |= {"momentum"}
    for ours, number in numbers.items():
        if number is not None or ours in needed:
            numbers[ours] = _checked(row.arguments.get(ours, ours), number, ours)
    switches = dict(vars(row.variant)) | (moved or {})
    pairs = switches.pop("complex_pairs")
    tx = rmsprop(**numbers, **switches, **structure)
    tx = _in_real_pairs(tx) if pairs else tx
    tx = _refusing_complex(tx, row.api) if pairs is None else tx
    return _behind(before, tx) if before else tx


def unless_zero(number: Any) -> Any:
    """Return None for a Python or NumPy 0, with which the framework keeps no buffer; a traced number stays."""
    scalar = isinstance(number, int | float | np.number) and not isinstance(number, bool)
    return None if scalar and number == 0 else number


def above_zero(name: str, number: Any, hint: str) -> Any:
    """Return a number, or refuse a Python 0."""
    number = _checks.number(name, number, hint=hint)
    if isinstance(number, float) and number == 0:
        raise ValueError(f"`{name}` must be above 0, got 0.{hint}")
    return number


def clip_value(name: str, limit: Any) -> list[optax.GradientTransformation]:
    """Return a link that clips each element of the gradient, or none if the limit is None."""
    return [] if limit is None else [optax.clip(above_zero(name, limit, _NO_CLIPPING))]


def clip_norm(name: str, limit: Any, *, each: bool = False) -> list[optax.GradientTransformation]:
    """Return a link that clips the norm of all gradients or of each leaf, or none if the limit is None.

    `optax.clip_by_global_norm` does the first, but has no derivative where the gradient is 0.
    """
    if limit is None:
        return []
    limit = above_zero(name, limit, _NO_CLIPPING)

    def clip(tree):
        leaves = jax.tree.leaves(tree)
        if not leaves:
            return tree
        norm = optax.safe_norm(jnp.stack([optax.safe_norm(g, 0.0) for g in leaves]), 0.0)
        return jax.tree.map(lambda g: g * (limit / jnp.maximum(norm, limit)), tree)

    return [optax.stateless(lambda updates, params: jax.tree.map(clip, updates) if each else clip(updates))]


def at_most_one(**limits: Any) -> None:
    """Refuse more than one limit."""
    given = [name for name, limit in limits.items() if limit is not None]
    if len(given) > 1:
        names = ", ".join(f"`{name}`" for name in limits)
        raise ValueError(f"At most one of {names} may be given, got {' and '.join(given)}.")


_NO_CLIPPING = " Leave it None to not clip."


def _checked(name: str, number: Any, ours: str) -> Any:
    if callable(number) and ours in ("learning_rate", "weight_decay"):
        return lambda count: _checks.number(name, number(count))
    return _checks.number(name, number, below=_BELOW.get(ours))


def _behind(
    links: Sequence[optax.GradientTransformation], tx: optax.GradientTransformationExtraArgs
) -> optax.GradientTransformationExtraArgs:
    """Chain in float32 or better, so that a float16 norm does not overflow; the update has the gradient's dtype."""
    chain = optax.chain(*links, tx)

    def update_fn(updates, state, params=None, **extra_args):
        _checks.inexact("updates", updates)
        wide = jax.tree.map(lambda g: jnp.asarray(g, jnp.promote_types(jnp.result_type(g), jnp.float32)), updates)
        u, state = chain.update(wide, state, params, **extra_args)
        narrow = lambda g, x: x if g is None else saturate(x, jnp.result_type(g))  # noqa: E731
        return jax.tree.map(narrow, updates, u, is_leaf=lambda leaf: leaf is None), state

    return optax.GradientTransformationExtraArgs(chain.init, update_fn)


def _refusing_complex(tx: optax.GradientTransformationExtraArgs, api: str) -> optax.GradientTransformationExtraArgs:
    """Refuse complex leaves, for a framework that has no rule for them."""

    def refuse(name, tree):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if _is_complex(leaf):
                raise TypeError(
                    f"`{name}` at {_checks.place(path)} is complex, and {api} has no rule for that. Choose one: "
                    "optax.contrib.split_real_and_imaginary around this gives each part a mean square, rmsprop gives "
                    "one to both."
                )

    def init_fn(params):
        refuse("params", params)
        return tx.init(params)

    def update_fn(updates, state, params=None, **extra_args):
        refuse("updates", updates)
        return tx.update(updates, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _in_real_pairs(tx: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """Give each part of a complex number statistics of its own, as PyTorch's `view_as_real` does.

    The moments of a complex parameter stay complex arrays of its shape, the mean square too: its real part is that of
    the real parts. `optax.contrib.split_real_and_imaginary` keeps a tuple for each such leaf, which Flax NNX rebuilds
    as another container and in which a None gradient has no place.
    """

    def init_fn(params):
        join = lambda moment, p: _join(moment) if _is_complex(p) else moment  # noqa: E731
        state = tx.init(_split(params))
        named = [{name: getattr(entry, name, None) for name in ("nu", "mu", "trace")} for entry in state]
        trees = [
            {name: jax.tree.map(join, tree, params) for name, tree in moments.items() if tree is not None}
            for moments in named
        ]
        return tuple(entry._replace(**moments) for entry, moments in zip(state, trees, strict=True))

    def update_fn(updates, state, params=None, **extra_args):
        nu = optax.tree.get(state, "nu")
        if nu is not None:  # else it is another optimizer's state, and rmsprop says so
            _checks.like("updates", updates, "state.nu", nu)
            _checks.same_kind("updates", updates, nu)
        parts, new = tx.update(_split(updates), _split(state), _split(params), **extra_args)
        join = lambda x, moment: _join(x) if _is_complex(moment) else x  # noqa: E731
        return jax.tree.map(join, parts, nu), jax.tree.map(join, new, state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _is_complex(leaf: Any) -> bool:
    return isinstance(leaf, complex) or jnp.issubdtype(getattr(leaf, "dtype", float), jnp.complexfloating)


def _split(tree: Any) -> Any:
    """Put the parts of complex leaves along a last axis."""
    return jax.tree.map(lambda x: jnp.stack([jnp.real(x), jnp.imag(x)], -1) if _is_complex(x) else x, tree)


def _join(parts: jax.Array) -> jax.Array:
    return jax.lax.complex(parts[..., 0], parts[..., 1])
