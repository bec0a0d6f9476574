"""What an optimizer does to a run, in numbers: pure functions of its state and updates that run under `jax.jit`."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks, _quantiles, moments
from rmsprop_optax.transform import Numbers, floor_of, root

__all__ = ["effective_learning_rate", "measure", "oscillation", "step_response"]


def __dir__() -> list[str]:
    return __all__


@_checks.keywords
def effective_learning_rate(
    state: optax.OptState,
    learning_rate: jax.typing.ArrayLike,
    *,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    decay: jax.typing.ArrayLike | None = None,
) -> dict[str, Any]:
    r"""Return what each element of a gradient is multiplied by.

    .. math::
        \alpha / \sqrt{\nu_t + \epsilon}
        \qquad\text{or, without eps\_in\_sqrt,}\qquad
        \alpha / (\sqrt{\nu_t} + \epsilon)

    In place of :math:`\nu_t` stands :math:`\nu_t / (1 - \beta^t)` where the state counts its steps to correct the bias,
    and the variance where the state is centered. Both are found by name anywhere in the state: in a chain, a partition,
    a mask, under `optax.inject_hyperparams`, in optax's own states and in Adam's.

    Args:
      state: What `update` returned with the updates of this step.
      learning_rate: :math:`\alpha` at this step, in [0, inf). A number, which may be traced.
      eps: :math:`\epsilon`, in [0, inf), as given to the optimizer. A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      decay: :math:`\beta`, in [0, 1). A number; may be traced. Required if the state counts its steps
        (`bias_correction`, Adam), ignored otherwise.

    Returns:
      A dict from the path of each `nu` and `variance` in the state to a tree of its structure, shapes and dtypes.

    Raises:
      ValueError: The state has neither; a number is out of range; `decay` is missing.
      TypeError: A second moment is in codes or in half precision: decode it with `compression.decompress`. The learning
        rate is a schedule: call it.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import diagnostics, rmsprop
      >>> tx = rmsprop(0.1, decay=0.75, eps=0.0)
      >>> _, state = tx.update(jnp.array([1.0, 10.0]), tx.init(jnp.zeros(2)))
      >>> diagnostics.effective_learning_rate(state, 0.1, eps=0.0)
      {'0/ScaleByRmsState.nu': Array([0.2 , 0.02], dtype=float32)}
    """
    learning_rate = _checks.number("learning_rate", learning_rate, hint=" For a schedule pass its value at this step.")
    eps, eps_in_sqrt = _checks.number("eps", eps), _checks.switch("eps_in_sqrt", eps_in_sqrt)
    decay = None if decay is None else _checks.number("decay", decay, below=1)
    return {
        moment.path: jax.tree.map(lambda x: _rate(learning_rate, x, eps, eps_in_sqrt), moment.second)
        for moment in _moments(state, decay)
    }


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
      `{"all": numbers, "leaves": {path: numbers}}`, float32 or float64 scalars, the effective rate of shape
      (quantiles,). A leaf without a second moment has only the numbers that need none; leaves without elements
      are left out.

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
    learning_rate = _checks.number("learning_rate", learning_rate, hint=" For a schedule pass its value at this step.")
    eps, eps_in_sqrt = _checks.number("eps", eps), _checks.switch("eps_in_sqrt", eps_in_sqrt)
    decay = None if decay is None else _checks.number("decay", decay, below=1)
    chosen = _chosen(quantiles)
    _checks.arrays("params", params, shapes=False)
    _checks.inexact("params", params)
    for name, tree in (("gradients", gradients), ("updates", updates)):
        _checks.arrays(name, tree, shapes=False)
        _checks.like(name, tree, "params", params)
    before, after = _by_path(gradients), _by_path(updates)
    rows = {path: _Row(before.get(path), after.get(path), p, None) for path, p in _by_path(params).items() if p.size}
    if not rows:
        raise ValueError("`params` must have at least one element, got none.")
    for moment in _moments(state, decay):
        for path, second in _by_path(moment.second).items():
            if second.size:
                rows[path] = _with_second(rows.get(path), second, f"`state/{moment.path}` at {path}")

    *of_each, everything = _numbers([*rows.values()])
    leaves = dict(zip(rows, of_each, strict=True))
    covered = {path: row.second for path, row in rows.items() if row.second is not None}
    if covered:  # a state may cover leaves without elements alone
        rates = [_rate(learning_rate, second, eps, eps_in_sqrt) for second in covered.values()]
        small = [(x if eps_in_sqrt else jnp.sqrt(x)) < eps for x in covered.values()]
        found = {
            "effective_learning_rate": _quantiles.quantiles(rates, chosen),
            "eps_dominates": _quantiles.shares(small),
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
      `{"all": numbers, "leaves": {path: numbers}}`, the numbers being `reversed` and `undone`, scalars in [0, 1].

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
    before, after = _by_path(previous), _by_path(updates)
    pairs = {path: (before[path], after[path]) for path in before if path in after and before[path].size}
    if not pairs:
        raise ValueError("`previous` must have at least one element that `updates` has, too, got none.")
    if any(jnp.iscomplexobj(x) for pair in pairs.values() for x in pair):
        raise TypeError(
            "`previous` and `updates` must be real, got complex leaves: pass their real and imaginary parts."
        )
    *leaves, everything = _turns(list(pairs.values()))
    return {"all": everything, "leaves": dict(zip(pairs, leaves, strict=True))}


@_checks.keywords
def step_response(tx: optax.GradientTransformation, gradients: jax.typing.ArrayLike) -> jax.Array:
    """Return the updates of an optimizer for gradients given in advance.

    Gradients whose size jumps show how the optimizer adapts: its updates are large at first and when gradients grow,
    and small when gradients shrink.

    Args:
      tx: Any optax transformation.
      gradients: Shape (steps, ...), floating-point: one gradient for each step.

    Returns:
      The updates, like `gradients`.

    Raises:
      ValueError: `gradients` is a scalar or has no steps.
      TypeError: `gradients` is not one floating-point array; `tx` is not a transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import diagnostics, rmsprop
      >>> updates = diagnostics.step_response(rmsprop(1.0, decay=0.75), jnp.array([1.0, 1.0, 1.0, 10.0]))
      >>> [f"{update:.3f}" for update in updates]
      ['-2.000', '-1.512', '-1.315', '-1.983']
    """
    _checks.transformation("tx", tx)
    _checks.inexact("gradients", gradients)
    gradients = _one_array(gradients)

    def step(state, gradient):
        update, state = tx.update(gradient, state, jnp.zeros_like(gradient))
        return state, update

    return jax.lax.scan(step, tx.init(jnp.zeros_like(gradients[0])), gradients)[1]


def _one_array(gradients: Any) -> jax.Array:
    """Return gradients as an array with the steps in front, or refuse a tree, a scalar and no steps."""
    expected = "`gradients` must be an array of shape (steps, ...) with at least one step"
    try:
        array = jnp.asarray(() if gradients is None else gradients)
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, got a {type(gradients).__name__}. Pass a tree's leaves one by one.") from None
    if not array.shape:
        raise ValueError(f"{expected}, got a scalar. Repeat it: numpy.full(steps, gradient).")
    if not len(array):
        raise ValueError(f"{expected}, got {'None' if gradients is None else f'shape {array.shape}'}.")
    return array


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


class _Moment(NamedTuple):
    path: str
    second: Any  # the mean square or the variance, its bias corrected: the update divides by its root


def _moments(state: Any, decay: Any) -> list[_Moment]:
    """Find each second moment by name; correct its bias and center it where the update does."""
    found = []
    _checks.state("`state`", state)
    for key, entry in moments.entries(state):
        name, of = moments.second(entry), moments.of(entry)
        if name is None:
            continue
        path = f"{_checks.leaf_name(key)}/" if key else ""
        path += f"{type(entry).__name__}.{name}"
        _checks.moments(f"state/{path}", of[name])
        weight: Any = 1.0
        if "count" in entry._fields:
            if decay is None:
                raise ValueError(
                    f"`decay` is needed, got None: `state` counts steps at {path}, so the bias is corrected."
                )
            weight = _weight(decay, entry.count)
        second = jax.tree.map(lambda x, weight=weight: x / weight, of[name])
        if "ScaleByRStdDev" in type(entry).__name__:  # optax's keeps the mean square and divides by the deviation
            second = jax.tree.map(
                lambda x, m, weight=weight: jnp.maximum(x - jnp.abs(m / weight) ** 2, 0), second, of["mu"]
            )
        found.append(_Moment(path, second))
    if not found:
        names = " or ".join(f"`{name}`" for name in moments.SECOND)
        classes = ", ".join(dict.fromkeys(type(entry).__name__ for _, entry in moments.entries(state)))
        raise ValueError(
            f"`state` must have a field named {names} somewhere, got {classes or f'a {type(state).__name__}'}. Pass "
            "what `update` returned."
        )
    return found


def _weight(decay: Any, count: Any) -> jax.Array:
    """Return 1 - decay**count, computed from `1 - decay`, which is exact; before the first step the value after it."""
    return -jnp.expm1(jnp.maximum(count, 1) * jnp.log1p(-(1 - decay)))


def _rate(learning_rate: Any, nu: Any, eps: Any, eps_in_sqrt: bool) -> jax.Array:
    eps = jnp.asarray(eps, nu.dtype)
    return learning_rate / root(nu, Numbers(None, eps, floor_of(eps)), eps_in_sqrt)


class _Row(NamedTuple):
    """One leaf from each tree; None where that tree has no such leaf."""

    gradient: Any
    update: Any
    weight: Any
    second: Any


def _with_second(row: _Row | None, second: Any, where: str) -> _Row:
    if row is None:
        raise ValueError(f"{where} has no leaf at the same path in `params`. Pass the parameters of this state.")
    if row.second is not None:
        raise ValueError(f"{where} is one of two second moments of that leaf. Pass the part of the state to measure.")
    if second.shape != row.weight.shape:
        raise ValueError(f"{where} has shape {second.shape}, but the parameter has shape {row.weight.shape}.")
    return row._replace(second=second)


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
    share, of_all = _quantiles.shares(turned)
    rows = zip([*share, of_all], [*back, sum(back)], [*way, sum(way)], strict=True)
    return [{"reversed": n, "undone": jnp.where(w > 0, b / jnp.where(w > 0, w, 1), 0)} for n, b, w in rows]


def _by_path(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.asarray(leaf) for path, leaf in leaves}
