"""Parameters in bfloat16 that train as float32 does: what bfloat16 drops of a weight waits in the optimizer's state.

A float32 weight is its bfloat16 and a low half, added as integers. The transformation sees the sum; its user holds the
bfloat16, and `optax.apply_updates` lands exactly on the next one.
"""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.compression.codecs import dither, truncate
from rmsprop_optax.moments import beside


class MasterWeightsState(NamedTuple):
    """The state of a transformation with master weights."""

    count: jax.Array | None  # type: ignore[assignment]  # hides tuple.count. Shape (), int32: steps; None for 16 bits
    low: optax.Params  # like params, int16 or int8; None for 0 bits, and where a parameter is not bfloat16
    inner_state: optax.OptState  # the transformation's, made for float32 parameters


with contextlib.suppress(ValueError):  # the module is being reloaded
    jax.export.register_namedtuple_serialization(MasterWeightsState, serialized_name="rmsprop_optax.MasterWeightsState")


@value
def with_master_weights(
    tx: optax.GradientTransformation, *, low_bits: int = 16
) -> optax.GradientTransformationExtraArgs:
    r"""Train bfloat16 parameters with float32 arithmetic and what is kept of float32 weights.

    With a weight's bits :math:`w`, a 32-bit integer, and `low_bits` 16, the parameter :math:`p` and the low half
    :math:`l` that the state keeps are

    .. math::
        p = (w + 2^{15}) \gg 16, \qquad l = w - (p \ll 16), \qquad w = (p \ll 16) + l

    so nothing is lost: the weights are those of a float32 run that meets the same gradients, bit for bit, as long as
    the compiler rounds both alike (it may fuse a product with the sum of `optax.apply_updates` when it sees both at
    once; here it can't). With 8 bits,
    :math:`w` is first rounded to 24 bits, and with 0 to the 16 of bfloat16; both are rounded up or down by a dither, so
    that a weight is right on average and small steps add up. That costs 2, 1 or 0 bytes a parameter.

    The transformation gets gradients and parameters in float32. The update that comes back is the difference of two
    bfloat16 numbers, in float32; `optax.apply_updates` adds it and lands on the new parameter. So nothing may change
    the update in between: this is the outermost transformation of a chain. Parameters in float32 or better are left as
    they are. A gradient of None leaves its parameter and its low half alone.

    A weight that falls below 2^-16 of itself in one step, but not to 0, lands on the nearest number that a float32
    sum reaches, and its low half is 0. Weights that would round to infinity stay at the end of bfloat16's range, and
    those too small to be normal numbers become 0.

    Args:
      tx: Any optax transformation, `compressed` ones included. Structure.
      low_bits: How much of a weight the state keeps beyond bfloat16: 16, 8 or 0 bits. Structure.

    Returns:
      A transformation that is a value, as `tx` is one. Its `update` needs the parameters. Its state is a
      `MasterWeightsState` of plain arrays.

    Raises:
      ValueError: Other `low_bits`; no parameters; trees that differ in structure or shape.
      TypeError: No transformation; float16 parameters; a state of something else, or one with other `low_bits`.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import compression, rmsprop
      >>> tx = compression.with_master_weights(rmsprop(1e-4, bias_correction=True))
      >>> params = jnp.ones(1, jnp.bfloat16)
      >>> state = tx.init(params)
      >>> for _ in range(30):  # each step is far below what bfloat16 resolves
      ...     updates, state = tx.update(jnp.ones(1, jnp.bfloat16), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> print(params, compression.export_weights(params, state))
      [0.996094] [0.9969995]

    References:
      Zamirai et al., `Revisiting bfloat16 training <https://arxiv.org/abs/2010.06192>`_.
    """
    _checks.transformation("tx", tx)
    if low_bits not in _LOW or isinstance(low_bits, bool):
        raise ValueError(f"`low_bits` must be 16, 8 or 0, got {low_bits!r}.")
    inner = optax.with_extra_args_support(tx)

    def init_fn(params):
        _check_params(params)
        low = jax.tree.map(lambda p: _low_like(p, _LOW[low_bits]), params)
        count = None if low_bits == 16 else jnp.zeros([], jnp.int32)
        return MasterWeightsState(count, low, inner.init(jax.tree.map(_widened, params)))

    def update_fn(updates, state, params=None, **extra_args):
        low = _check_state(state, params, low_bits)
        _checks.like("updates", updates, "params", params)
        treedef: Any  # jaxlib's stub of it has no methods
        leaves, treedef = jax.tree.flatten(params)
        grads = treedef.flatten_up_to(updates)
        weights = [_join(p, half) for p, half in zip(leaves, low, strict=True)]
        wide = [None if g is None else g.astype(jnp.promote_types(g.dtype, jnp.float32)) for g in grads]
        steps, inner_state = inner.update(
            treedef.unflatten(wide), state.inner_state, treedef.unflatten(weights), **extra_args
        )
        steps, count = treedef.flatten_up_to(steps), None if state.count is None else optax.safe_increment(state.count)
        for i, (p, g, step) in enumerate(zip(leaves, grads, steps, strict=True)):
            if p.dtype == jnp.bfloat16 and (g is None or step is None):
                steps[i] = jnp.zeros_like(p, jnp.float32)
            elif p.dtype == jnp.bfloat16:  # moments number their dither upwards, weights downwards
                steps[i], low[i] = _land(p, weights[i], step, np.uint32(2**32 - 1 - i), count, low_bits=low_bits)
        return treedef.unflatten(steps), MasterWeightsState(count, treedef.unflatten(low), inner_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


_LOW = {16: jnp.int16, 8: jnp.int8, 0: None}


def export_weights(params: optax.Params, state: optax.OptState) -> optax.Params:
    """Return the float32 weights behind bfloat16 parameters, to evaluate or to save them.

    Args:
      params: The parameters, as they are trained. They may be traced.
      state: The state of `with_master_weights`, or one that holds it.

    Returns:
      The parameters, float32 where they were bfloat16: exact with 16 `low_bits`, within 2^-17 of themselves with 8.

    Raises:
      ValueError: No `MasterWeightsState`, or more than one; trees that differ in structure or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import compression, rmsprop
      >>> params = {"w": jnp.ones(2, jnp.bfloat16)}
      >>> state = compression.with_master_weights(rmsprop(0.1)).init(params)
      >>> print(compression.export_weights(params, state)["w"].dtype)
      float32
    """
    low = _check_state(_find(state), params)
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    return treedef.unflatten([_join(p, half) for p, half in zip(leaves, low, strict=True)])


def import_weights(
    weights: optax.Params, params: optax.Params, state: optax.OptState
) -> tuple[optax.Params, optax.OptState]:
    """Return the parameters and the state that stand for float32 weights: the way back from `export_weights`.

    Args:
      weights: Float32 weights, such as those of a float32 run. They may be traced.
      params: Parameters of their structure and shapes, whose dtypes the new ones get; such as those that `init` saw.
      state: The state of `with_master_weights`, or one that holds it.

    Returns:
      The new parameters, and the state with their low halves; all else in it is as it was.

    Raises:
      ValueError: No `MasterWeightsState`, or more than one; trees that differ in structure or shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from rmsprop_optax import compression, rmsprop
      >>> weights = {"w": jnp.array([0.1, 1e-9])}
      >>> params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), weights)
      >>> state = compression.with_master_weights(rmsprop(0.1)).init(params)
      >>> params, state = compression.import_weights(weights, params, state)
      >>> print(compression.export_weights(params, state)["w"] == weights["w"])
      [ True  True]
    """
    found = _find(state)
    low = _check_state(found, params)
    _checks.like("weights", weights, "params", params)
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    new = treedef.flatten_up_to(weights)
    for i, (p, half) in enumerate(zip(leaves, low, strict=True)):
        if p.dtype == jnp.bfloat16:
            low_bits = 0 if half is None else 8 * half.dtype.itemsize
            new[i], low[i] = _split(new[i].astype(jnp.float32), jnp.uint32(2**31), low_bits)
        new[i] = new[i].astype(p.dtype)
    imported = found._replace(low=treedef.unflatten(low))
    state = jax.tree.map(lambda node: imported if _is_ours(node) else node, state, is_leaf=_is_ours)
    return treedef.unflatten(new), state


@functools.partial(jax.jit, static_argnames="low_bits")  # traced once per shape
def _land(p, weight, step, number, count, *, low_bits):
    """Return the update that takes a parameter to its next value, and the next low half."""
    p, weight = p.astype(jnp.float32), _sum(weight, step.astype(jnp.float32))
    high, low = _split(weight, None if count is None else dither(weight, number, count), low_bits)
    update = high - p
    landed = jax.lax.reduce_precision(p + update, exponent_bits=8, mantissa_bits=7)
    return update, None if low is None else jnp.where(_bits(landed) == _bits(high), low, 0)


def _sum(weight, step):
    """Add a step that is rounded: a compiler may fuse a product with a sum that follows it, but not through a clip."""
    largest = float(jnp.finfo(jnp.float32).max)
    return jnp.where(jnp.isfinite(step), weight + jnp.clip(step, -largest, largest), weight + step)


def _split(weight, bits, low_bits):
    """Return a weight's nearest bfloat16, in float32, and its low half."""
    if low_bits < 16:
        weight = truncate(weight, 16 - low_bits, bits)
    finite, info = jnp.isfinite(weight), jnp.finfo(jnp.bfloat16)
    largest, tiny = float(info.max), float(info.tiny)
    raw = _bits(jnp.clip(weight, -largest, largest))
    raw = jnp.where(jnp.abs(weight) < tiny, raw & -(2**31), raw)  # below, sums may flush to 0
    high = (raw + 0x8000) & -0x10000
    low = None if low_bits == 0 else jnp.where(finite, (raw - high) >> (16 - low_bits), 0).astype(_LOW[low_bits])
    return jnp.where(finite, jax.lax.bitcast_convert_type(high, jnp.float32), weight), low


@jax.jit
def _join(p, low):
    if low is None:
        return _widened(p)
    raw = _bits(p.astype(jnp.float32)) + (low.astype(jnp.int32) << (16 - 8 * low.dtype.itemsize))
    return jax.lax.bitcast_convert_type(raw, jnp.float32)


def _widened(p):
    return p.astype(jnp.float32) if p.dtype == jnp.bfloat16 else p


def _low_like(p, dtype):
    """Return the low half of a parameter that is a bfloat16: zeros of its shape and sharding."""
    if p.dtype != jnp.bfloat16 or dtype is None:
        return None
    return beside(p, jnp.zeros_like(p, dtype))


def _bits(x):
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def _find(state):
    found = [node for node in jax.tree.leaves(state, is_leaf=_is_ours) if _is_ours(node)]
    if len(found) != 1:
        raise ValueError(
            f"`state` must hold one MasterWeightsState, the state of with_master_weights, got {len(found)}."
        )
    return found[0]


def _is_ours(node):
    return isinstance(node, MasterWeightsState)


def _check_params(params):
    _checks.inexact("params", params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.dtype == jnp.float16:
            raise TypeError(
                f"`params` at {_checks.place(path)} must be bfloat16, or float32 or better, got float16. Cast it."
            )


def _check_state(state, params, low_bits=None):
    """Return the low halves in the order of the parameters, or refuse a state that does not fit."""
    if not _is_ours(state):
        came = f"{type(state).__module__}.{type(state).__name__}"
        raise TypeError(f"`state` must be the MasterWeightsState that init made, got {came}.")
    if params is None:
        raise ValueError("`params` must be passed to update, got None: they are the upper half of the weights.")
    _check_params(params)
    treedef: Any = jax.tree.structure(params)
    try:
        halves = treedef.flatten_up_to(state.low)
    except ValueError as error:
        raise ValueError(f"`params` must have the structure of those that init saw. {error}") from None
    for (path, p), half in zip(jax.tree_util.tree_leaves_with_path(params), halves, strict=True):
        got = None if half is None else half.dtype
        expected = _LOW[low_bits] if p.dtype == jnp.bfloat16 and low_bits is not None else None
        if low_bits is not None and got != expected:
            raise TypeError(
                f"`state.low` at {_checks.place(path)} must be {expected and jnp.dtype(expected)} for a {p.dtype} "
                f"parameter and low_bits={low_bits}, got {got}. Update with the option and the dtypes it was made with."
            )
        if half is not None and half.shape != p.shape:
            raise ValueError(
                f"`params` at {_checks.place(path)} has shape {p.shape}, but `state.low` there has shape {half.shape}."
            )
    return halves
