"""Parameters in bfloat16 that train as float32 does: the optimizer's state has the bits that bfloat16 drops.

A float32 weight is its bfloat16 and a low half, added as integers. The transformation sees the sum; its user has the
bfloat16, and `optax.apply_updates` lands exactly on the next one.
"""

from __future__ import annotations  # signatures in help() read as written here

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks, moments
from rmsprop_optax._value import value
from rmsprop_optax.compression.codecs import bits_of, dither, float_of, truncate

__all__ = [
    "DitheredMasterWeightsState",
    "DitheredWeightsState",
    "MasterWeightsState",
    "export_weights",
    "import_weights",
    "with_master_weights",
]


class MasterWeightsState(NamedTuple):
    """The state of a transformation with master weights, for 16 low bits."""

    low: optax.Params  #: int16, like params; bool, and without a meaning, where a parameter is not bfloat16
    inner_state: optax.OptState  #: the transformation's, made for float32 parameters


class DitheredMasterWeightsState(NamedTuple):
    """The state of a transformation with master weights, for 8 low bits."""

    dither_count: jax.Array  #: steps, shape (), int32; it decides the dither and nothing else
    low: optax.Params  #: int8, like params; bool, and without a meaning, where a parameter is not bfloat16
    inner_state: optax.OptState  #: the transformation's, made for float32 parameters


class DitheredWeightsState(NamedTuple):
    """The state of a transformation with master weights, for 0 low bits: the parameters are all there is."""

    dither_count: jax.Array  #: steps, shape (), int32; it decides the dither and nothing else
    inner_state: optax.OptState  #: the transformation's, made for float32 parameters


_STATES: dict[int, Any] = {16: MasterWeightsState, 8: DitheredMasterWeightsState, 0: DitheredWeightsState}
_LOW = {16: jnp.dtype(jnp.int16), 8: jnp.dtype(jnp.int8)}
_NO_LOW = jnp.dtype(bool)

for _state in _STATES.values():
    with contextlib.suppress(ValueError):  # the module is being reloaded
        jax.export.register_namedtuple_serialization(_state, serialized_name=f"rmsprop_optax.{_state.__name__}")


@value
def with_master_weights(
    tx: optax.GradientTransformation, *, low_bits: int = 16
) -> optax.GradientTransformationExtraArgs:
    r"""Train bfloat16 parameters with float32 arithmetic, and with float32 weights or part of them in the state.

    With a weight's bits :math:`w`, a 32-bit integer, and `low_bits` 16, the parameter :math:`p` and the low half
    :math:`l` that the state keeps are

    .. math::
        p = (w + 2^{15}) \gg 16, \qquad l = w - (p \ll 16), \qquad w = (p \ll 16) + l

    so nothing is lost: the weights are those of a float32 run with the same gradients, bit for bit, as long as the
    compiler rounds both alike (in the float32 run it may fuse a product with the sum of `optax.apply_updates`; here it
    can't). With 8 bits, :math:`w` is first rounded to 24 bits, and with 0 to the 16 of bfloat16, up or down by a
    dither, so that a weight is right on average and small steps add up. That costs 2, 1 or 0 bytes a parameter.

    The transformation gets gradients and parameters in float32. Parameters in float32 or better are left as they are. A
    gradient of None leaves its parameter and its low half alone.

    With 16 and 8 bits the update is the difference of two bfloat16 numbers, which bfloat16 need not hold, so it is
    float32; `optax.apply_updates` adds it and lands exactly on the new parameter. `params + updates` would promote the
    parameter, which the next step refuses. With 0 bits the update is bfloat16 and any sum will do; a step about as
    large as its weight, before or after, may miss the rounded weight by 2^-7 of the step.

    Nothing may change the update in between, and nothing can notice if something does: this is the outermost
    transformation. What scales, clips, averages or rejects updates goes inside, as in
    `with_master_weights(optax.apply_if_finite(tx, 5))`; around it, `optax.apply_if_finite` and `jax.lax.cond` need the
    other branch in the update's dtype, as it is for float32 gradients.

    A weight that falls below 2^-16 of itself in one step, but not to 0, lands on the nearest number that a float32
    sum reaches, and its low half is 0. Weights that would round to infinity stay at the end of bfloat16's range, and
    those too small to be normal numbers become 0.

    Args:
      tx: Any optax transformation, `compressed` ones included. Structure.
      low_bits: How much of a weight the state keeps beyond bfloat16: 16, 8 or 0 bits. Structure.

    Returns:
      The transformation. Calls with equal arguments return equal optimizers, as far as `tx` does. Its `update` needs
      the parameters. Its state is a `MasterWeightsState`, with 8 bits a `DitheredMasterWeightsState` and with 0 a
      `DitheredWeightsState`; all consist of plain arrays. `low` has the shapes and shardings of the parameters; where a
      parameter is not bfloat16 there is no low half, and `low` has a byte an element that says so.

    Raises:
      ValueError: Other `low_bits`; no parameters; trees that differ in structure or shape.
      TypeError: `tx` is not a transformation; float16 parameters; parameters whose dtype has changed since `init`; a
        state of something else, or one with other `low_bits`.

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
    if not isinstance(low_bits, int | np.integer) or isinstance(low_bits, bool) or low_bits not in _STATES:
        raise ValueError(f"`low_bits` must be 16, 8 or 0, got {_checks.shown(low_bits)}.")
    inner = optax.with_extra_args_support(tx)

    def init_fn(params):
        _check_params(params)
        fields = {"inner_state": inner.init(jax.tree.map(_widened, params))}
        if low_bits:
            fields["low"] = jax.tree.map(lambda p: moments.full_like(p, 0, _low_dtype(p, low_bits)), params)
        if low_bits < 16:
            fields["dither_count"] = moments.counter(params)
        return _STATES[low_bits](**fields)

    def update_fn(updates, state, params=None, **extra_args):
        low = _check_state(state, params, low_bits)
        _checks.like("updates", updates, "params", params)
        _checks.arrays("updates", updates, shapes=False)
        treedef: Any  # jaxlib's stub of it has no methods
        leaves, treedef = jax.tree.flatten(params)
        grads = treedef.flatten_up_to(updates)
        weights = [_join(p, half) for p, half in zip(leaves, low, strict=True)]
        steps, inner_state = inner.update(
            treedef.unflatten(map(_widened, grads)), state.inner_state, treedef.unflatten(weights), **extra_args
        )
        steps, count = treedef.flatten_up_to(steps), optax.safe_increment(state.dither_count) if low_bits < 16 else None
        for i, (p, g, step) in enumerate(zip(leaves, grads, steps, strict=True)):
            if _is_bfloat16(p) and (g is None or step is None):
                steps[i] = jnp.zeros_like(p, jnp.float32 if low_bits else jnp.bfloat16)
            elif _is_bfloat16(p):  # moments number their dither upwards, weights downwards
                steps[i], low[i] = _land(p, weights[i], step, np.uint32(2**32 - 1 - i), count, low_bits=low_bits)
        after = {"inner_state": inner_state, "dither_count": count, "low": treedef.unflatten(low)}
        return treedef.unflatten(steps), state._replace(**{field: after[field] for field in state._fields})

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@_checks.keywords
def export_weights(params: optax.Params, state: optax.OptState) -> optax.Params:
    """Return the float32 weights behind bfloat16 parameters, to evaluate or to save them.

    Args:
      params: The parameters, as they are trained. They may be traced.
      state: The state of `with_master_weights`, or one that holds it.

    Returns:
      The parameters, float32 where they were bfloat16, exact with 16 `low_bits`, within 2^-17 of themselves with 8.

    Raises:
      ValueError: No state of `with_master_weights`, or more than one; trees that differ in structure or shape.
      TypeError: Parameters whose dtype has changed since `init`.

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


@_checks.keywords
def import_weights(
    weights: optax.Params, params: optax.Params, state: optax.OptState
) -> tuple[optax.Params, optax.OptState]:
    """Return the parameters and the state that stand for float32 weights: the way back from `export_weights`.

    Args:
      weights: Float32 weights, such as those of a float32 run. They may be traced.
      params: Parameters of the same structure and shapes, whose dtypes the new ones get, such as those that `init` saw.
      state: The state of `with_master_weights`, or one that holds it.

    Returns:
      The new parameters, and the state with their low halves; all else in it is as it was.

    Raises:
      ValueError: No state of `with_master_weights`, or more than one; trees that differ in structure or shape.

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
    _check_weights(weights, params)
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    new = treedef.flatten_up_to(weights)
    for i, (p, half) in enumerate(zip(leaves, low, strict=True)):
        new[i] = jnp.asarray(new[i])
        if _is_bfloat16(p):
            new[i], low[i] = moments.offloaded(_split, new[i].astype(jnp.float32), jnp.uint32(2**31), _width_of(half))
        new[i] = new[i].astype(jnp.result_type(p))
    imported = found._replace(low=treedef.unflatten(low)) if "low" in found._fields else found
    state = jax.tree.map(lambda node: imported if _is_ours(node) else node, state, is_leaf=_is_ours)
    return treedef.unflatten(new), state


@functools.partial(jax.jit, static_argnames="low_bits")  # traced once per shape
def _land(p, weight, step, number, count, *, low_bits):
    """Return the update that takes a parameter to its next value, and the next low half."""
    p, weight = p.astype(jnp.float32), _sum(weight, step.astype(jnp.float32))
    high, low = _split(weight, None if count is None else dither(weight, number, count), low_bits)
    if low_bits == 0:
        return _rounded(high - p).astype(jnp.bfloat16), None
    update = high - p
    return update, jnp.where(bits_of(_rounded(p + update)) == bits_of(high), low, 0)


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
    raw = bits_of(jnp.clip(weight, -largest, largest))
    raw = jnp.where(jnp.abs(weight) < tiny, raw & -(2**31), raw)  # below, sums may flush to 0
    high = (raw + 0x8000) & -0x10000
    low = None if low_bits == 0 else jnp.where(finite, (raw - high) >> (16 - low_bits), 0).astype(_LOW[low_bits])
    return jnp.where(finite, float_of(high), weight), low


def _join(p, low):
    """Return the weight that a parameter and its low half stand for."""
    return _widened(p) if low is None or low.dtype == _NO_LOW else moments.offloaded(_joined, p, low)


@jax.jit
def _joined(p, low):
    raw = bits_of(p.astype(jnp.float32)) + (low.astype(jnp.int32) << (16 - _width_of(low)))
    return float_of(raw)


def _widened(x):
    """Return a parameter or a gradient in float32 or better; it may be None, a Python number or a shape."""
    if x is None or jnp.result_type(x) not in (jnp.bfloat16, jnp.float16):
        return x
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding)
    return x.astype(jnp.float32)


def _is_bfloat16(p):
    return jnp.result_type(p) == jnp.bfloat16


def _low_dtype(p, low_bits):
    return _LOW[low_bits] if _is_bfloat16(p) else _NO_LOW


def _width_of(low):
    """Return how many bits a low half has."""
    return 0 if low is None else 8 * low.dtype.itemsize


def _rounded(x):
    """Return the nearest bfloat16, in float32: a compiler may leave out a cast there and back, but not this."""
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def _check_weights(weights, params):
    """Refuse weights that can't become parameters."""
    _checks.arrays("weights", weights, shapes=False)
    _checks.inexact("weights", weights)
    _checks.same_kind("weights", weights, params)
    _check_none("weights", weights, params)


def _check_none(name, tree, reference):
    """Refuse None in the place of an array."""
    there = {path for path, _ in jax.tree_util.tree_leaves_with_path(reference)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None):
        if leaf is None and path in there:
            raise ValueError(f"`{name}` at {_checks.leaf_name(path)} must be an array, got None.")


def _find(state):
    _checks.state("`state`", state)
    found = [node for node in jax.tree.leaves(state, is_leaf=_is_ours) if _is_ours(node)]
    if len(found) != 1:
        raise ValueError(f"`state` must hold one state of with_master_weights, got {len(found)}.")
    return found[0]


def _is_ours(node):
    return isinstance(node, tuple(_STATES.values()))


def _check_params(params):
    _checks.arrays("params", params)
    _checks.inexact("params", params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if jnp.result_type(leaf) == jnp.float16:
            raise TypeError(
                f"`params` at {_checks.leaf_name(path)} must be bfloat16, or float32 or better, got float16. Cast it."
            )


def _check_state(state, params, low_bits=None):
    """Return the low halves in the order of the parameters, or refuse a state that does not fit."""
    if not _is_ours(state):
        _checks.state("`state`", state)
        came = f"{type(state).__module__}.{type(state).__name__}"
        raise TypeError(f"`state` must be the {_STATES[low_bits].__name__} that init made, got {came}.")
    made_with = next(bits for bits, state_class in _STATES.items() if isinstance(state, state_class))
    if low_bits not in (None, made_with):
        raise TypeError(
            f"`state` was made with low_bits={made_with}, this transformation has low_bits={low_bits}. Build it with "
            "the former, or take the weights along: export_weights, init, import_weights."
        )
    if params is None:
        raise ValueError("`params` must be passed to update, got None: they are the upper half of the weights.")
    _check_params(params)
    treedef: Any = jax.tree.structure(params)
    if made_with == 0:
        return [None] * treedef.num_leaves
    _checks.like("params", params, "state.low", state.low)
    _check_none("params", params, state.low)
    halves = treedef.flatten_up_to(state.low)
    for (path, p), half in zip(jax.tree_util.tree_leaves_with_path(params), halves, strict=True):
        _check_half(_checks.leaf_name(path), p, half, _LOW[made_with])
    return halves


def _check_half(path, p, half, expected):
    """Refuse a low half that is not one of this parameter."""
    if half.dtype not in (expected, _NO_LOW):
        raise TypeError(f"`state.low` at {path} must be {expected}, or bool for no low half, got {half.dtype}.")
    if half.shape != np.shape(p):
        raise ValueError(f"`params` at {path} has shape {np.shape(p)}, but `state.low` there has shape {half.shape}.")
    if half.dtype == expected and not _is_bfloat16(p):
        raise TypeError(
            f"`params` at {path} were bfloat16 at init and are {jnp.result_type(p)} now: the update, which is "
            "float32, was added by something that promotes. Add it with optax.apply_updates, which keeps the "
            "parameter's dtype; or pass low_bits=0, whose updates are bfloat16."
        )
    if half.dtype == _NO_LOW and _is_bfloat16(p):
        raise TypeError(
            f"`params` at {path} were float32 or better at init and are bfloat16 now. Cast them back, or begin with "
            "the init of bfloat16 parameters."
        )
