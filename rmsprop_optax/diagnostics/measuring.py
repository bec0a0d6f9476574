"""Measuring one step of a run, and how far an update undoes the one before it."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax.diagnostics.quantiles import quantiles as quantiles_of
from rmsprop_optax.diagnostics.quantiles import shares
from rmsprop_optax.diagnostics.rates import by_path, checked, rate_of, second_of_each

__all__ = ["measure", "oscillation"]


@_checks.keywords
def measure(
    gradients: optax.Updates,
    updates: optax.Updates,
    state: optax.OptState,
    params: optax.Params,
    learning_rate: jax.typing.ArrayLike,
    *,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    decay: jax.typing.ArrayLike | None = None,
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
) -> dict[str, Any]:
    r"""Measure one step, leaf by leaf and as a whole.

    Of the :math:`n` elements of a leaf, or of all leaves, with :math:`\mathrm{rms}(x) = \sqrt{\sum x_i^2 / n}`:

    - `gradient_rms`: :math:`\mathrm{rms}(g_t)`
    - `root_nu`: :math:`\sqrt{\sum \nu_t / n}`: like `gradient_rms`, over many steps; if centered, the deviation
    - `update_rms`: :math:`\mathrm{rms}(u_t)`
    - `update_to_weight`: :math:`\mathrm{rms}(u_t) / \mathrm{rms}(\theta_t)`, infinite where all weights are 0
    - `effective_learning_rate`: quantiles of :func:`effective_learning_rate`
    - `eps_dominates`: the share of elements where eps exceeds what it is added to

    Args:
      gradients: The gradients of this step, like `params`. A leaf may be None.
      updates: The updates that the optimizer returned for them, like `params`. A leaf may be None.
      state: The state that it returned with the updates.
      params: The parameters before the step: floating-point or complex arrays.
      learning_rate: As for :func:`effective_learning_rate`.
      eps: As for :func:`effective_learning_rate`.
      eps_in_sqrt: As for :func:`effective_learning_rate`.
      decay: As for :func:`effective_learning_rate`.
      quantiles: Which quantiles of the effective rate to take: shape (quantiles,), in [0, 1]. They are exact, as
        `jnp.quantile` interpolates them, and NaN if a rate is. Nothing is sorted, or gathered from other devices, but
        each takes 64 passes over the second moment, in float64 128: measure a large model every hundredth step or so.

    Returns:
      A dictionary with the numbers of all leaves together under `all`, and those of each leaf under `leaves`, by its
      path. They are float32 or float64 scalars, the effective rate of shape (quantiles,). A leaf without a second
      moment has only the numbers that need none; leaves without elements are left out.

    Raises:
      ValueError: Trees that differ; two second moments for one leaf, or none at all; a number out of range.
      TypeError: As for :func:`effective_learning_rate`; quantiles that are not numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import diagnostics, rmsprop
      >>> tx = rmsprop(0.1, decay=0.75, eps=0.0)
      >>> params, gradients = {"w": jnp.array([3.0, 4.0])}, {"w": jnp.array([1.0, 10.0])}
      >>> updates, state = tx.update(gradients, tx.init(params))
      >>> step = diagnostics.measure(gradients, updates, state, params, 0.1, eps=0.0)
      >>> print(step["leaves"]["w"]["update_to_weight"], step["all"]["effective_learning_rate"])
      0.056568544 [0.029 0.11  0.191]
    """
    learning_rate, eps, eps_in_sqrt, decay = checked(learning_rate, eps, eps_in_sqrt, decay)
    chosen = _chosen(quantiles)
    _checks.arrays("params", params, shapes=False)
    _checks.inexact("params", params)
    for name, tree in (("gradients", gradients), ("updates", updates)):
        _checks.arrays(name, tree, shapes=False)
        _checks.like(name, tree, "params", params)
    before, after = by_path(gradients), by_path(updates)
    weights = {path: p for path, p in by_path(params).items() if p.size}
    if not weights:
        raise ValueError("`params` must have at least one element, got none.")
    second = second_of_each(state, decay, weights)
    rows = {path: _Row(before.get(path), after.get(path), p, second.get(path)) for path, p in weights.items()}

    *of_each, everything = _numbers([*rows.values()])
    leaves = dict(zip(rows, of_each, strict=True))
    covered = {path: row.second for path, row in rows.items() if row.second is not None}
    if covered:  # a state may cover leaves without elements alone
        rates = [rate_of(learning_rate, second, eps, eps_in_sqrt) for second in covered.values()]
        small = [(x if eps_in_sqrt else jnp.sqrt(x)) < eps for x in covered.values()]
        found = {
            "effective_learning_rate": quantiles_of(rates, chosen),
            "eps_dominates": shares(small),
        }
        for name, (of_each, everything[name]) in found.items():
            for path, of_leaf in zip(covered, of_each, strict=True):
                leaves[path][name] = of_leaf
    return {"all": everything, "leaves": leaves}


@_checks.keywords
def oscillation(previous: optax.Updates, updates: optax.Updates) -> dict[str, Any]:
    r"""Measure how often, and how far, an update undoes the one before it.

    .. math::
        \text{reversed} = \frac{1}{n} \#\{i : u_i u'_i < 0\}, \qquad
        \text{undone} = \sum_{u_i u'_i < 0} \min(|u_i|, |u'_i|) \Big/ \sum_i |u_i|

    where :math:`u` is the earlier update and :math:`u'` the later. Both are 1 if every element jumps back and forth,
    and 0 if none changes its sign. Under `jax.vmap` it takes the stacked updates of a run:
    `jax.vmap(oscillation)(u[:-1], u[1:])`.

    Args:
      previous: The update of the step before: a tree of real arrays.
      updates: The update of this step, like `previous`.

    Returns:
      A dictionary with the numbers of all leaves together under `all`, and those of each leaf under `leaves`, by its
      path. The numbers are `reversed` and `undone`, scalars in [0, 1].

    Raises:
      ValueError: Trees that differ in structure or shape.
      TypeError: Leaves that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import diagnostics
      >>> turned = diagnostics.oscillation(jnp.array([1.0, -1.0, 2.0, 0.0]), jnp.array([-0.5, -1.0, 1.0, 3.0]))["all"]
      >>> print(turned["reversed"], turned["undone"])
      0.25 0.125
    """
    for name, tree in (("previous", previous), ("updates", updates)):
        _checks.arrays(name, tree, shapes=False)
        _checks.inexact(name, tree)
    _checks.like("updates", updates, "previous", previous)
    before, after = by_path(previous), by_path(updates)
    pairs = {path: (before[path], after[path]) for path in before if path in after and before[path].size}
    if not pairs:
        raise ValueError("`previous` must have at least one element that `updates` has, too, got none.")
    if any(jnp.iscomplexobj(x) for pair in pairs.values() for x in pair):
        raise TypeError(
            "`previous` and `updates` must be real, got complex leaves: pass their real and imaginary parts."
        )
    *leaves, everything = _turns(list(pairs.values()))
    return {"all": everything, "leaves": dict(zip(pairs, leaves, strict=True))}


def _chosen(quantiles: Any) -> jax.Array:
    """Return the quantiles to take as an array, or refuse them; their values may be traced."""
    expected = "`quantiles` must be a sequence of numbers in [0, 1], such as (0.05, 0.5, 0.95)"
    try:
        words = any(isinstance(q, str) for q in jax.tree.leaves(quantiles))
        array = jnp.asarray(None if words else quantiles)
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, got {_checks.shown(quantiles)}.") from None
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{expected}, got {_checks.shown(quantiles)}.")
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{expected}, got shape {array.shape}.")
    if not isinstance(quantiles, jax.core.Tracer) and not all(0 <= q <= 1 for q in np.asarray(quantiles)):
        raise ValueError(f"{expected}, got {quantiles!r}.")
    return array


class _Row(NamedTuple):
    """One leaf from each tree; None where that tree has no such leaf."""

    gradient: Any
    update: Any
    weight: Any
    second: Any


def _numbers(rows: list[_Row]) -> list[dict[str, jax.Array]]:
    """Return the numbers of each row, and those of all."""
    gradient, update, weight = (_rms([getattr(row, name) for row in rows]) for name in ("gradient", "update", "weight"))
    root_nu = _rms([None if row.second is None else jnp.sqrt(row.second) for row in rows])
    found = zip(gradient, update, weight, root_nu, strict=True)
    numbers = [{"gradient_rms": g, "root_nu": v, "update_rms": u, "update_to_weight": u / w} for g, u, w, v in found]
    covered = [row.second is not None for row in rows]
    for has_second, named in zip([*covered, any(covered)], numbers, strict=True):
        if not has_second:
            del named["root_nu"]
    return numbers


def _rms(arrays: list[Any]) -> list[jax.Array]:
    """Return the root mean square of each array, 0 for None, and that of all; squares neither overflow nor vanish."""
    parts = [jnp.abs(x).astype(jnp.promote_types(jnp.abs(x).dtype, jnp.float32)) for x in arrays if x is not None]
    if not parts:
        return [jnp.zeros(())] * (len(arrays) + 1)
    largest = [x.max() for x in parts]
    scales = [jnp.where((x > 0) & jnp.isfinite(x), x, 1) for x in largest]
    sums = [jnp.sum((x / scale) ** 2) for x, scale in zip(parts, scales, strict=True)]
    means = iter([scale * jnp.sqrt(n / float(x.size)) for x, scale, n in zip(parts, scales, sums, strict=True)])
    each = [jnp.zeros(()) if x is None else next(means) for x in arrays]
    most = jnp.stack(largest).max()
    most = jnp.where((most > 0) & jnp.isfinite(most), most, 1)
    ratios = jnp.where(jnp.stack(sums) == 0, 0, jnp.stack(scales) / most)  # of zeros, whose scale is 1
    return [*each, most * jnp.sqrt(jnp.sum(ratios**2 * jnp.stack(sums)) / float(sum(x.size for x in parts)))]


def _turns(pairs: list[tuple[Any, Any]]) -> list[dict[str, jax.Array]]:
    """Return the numbers of each pair, and those of all."""
    turned = [jnp.sign(before) * jnp.sign(after) < 0 for before, after in pairs]
    least = [jnp.minimum(jnp.abs(before), jnp.abs(after)) for before, after in pairs]
    back = [jnp.sum(jnp.where(turn, x, 0)) for turn, x in zip(turned, least, strict=True)]
    way = [jnp.sum(jnp.abs(before)) for before, _ in pairs]
    share, of_all = shares(turned)
    rows = zip([*share, of_all], [*back, sum(back)], [*way, sum(way)], strict=True)
    return [{"reversed": n, "undone": jnp.where(w > 0, b / jnp.where(w > 0, w, 1), 0)} for n, b, w in rows]
