"""The moments of any optax transformation in one or two bytes: decoded before its update, encoded after.

The transformation computes in float32 as before and knows nothing of the codes. Moments are found by their names
anywhere in a chain, and keep the shapes and shardings of the parameters.
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
from jax.tree_util import GetAttrKey, tree_leaves_with_path

from rmsprop_optax import _checks, moments
from rmsprop_optax._value import value
from rmsprop_optax.compression.choosing import checksum, chosen, listed
from rmsprop_optax.compression.codecs import dither
from rmsprop_optax.compression.scales import AnyCodec, ScaledField, by_leaf, encoded_again, is_scaled, stored

__all__ = ["CompressedState", "compressed", "decompress", "is_compressed", "recompress"]


class CompressedState(NamedTuple):
    """The state of a compressed transformation: that of the transformation, with codes for moments."""

    dither_count: jax.Array  #: steps, shape (), int32; it decides the dither and nothing else
    inner_state: optax.OptState  #: its moments in the codecs' dtypes, like params; the rest as it was
    #: a checksum of the codecs, 0 for none; shape (), uint32
    made_by: jax.Array = np.uint32(0)  # type: ignore[assignment]
    #: of codecs that have some: trees like params by moment and part, `nu_row_rms`; a dict for each memory of moments
    scales: tuple[dict[str, Any], ...] = ()


with contextlib.suppress(ValueError):  # the module is being reloaded
    jax.export.register_namedtuple_serialization(CompressedState, serialized_name="rmsprop_optax.CompressedState")


@value
def compressed(
    tx: optax.GradientTransformation,
    *,
    nu: AnyCodec | None = None,
    variance: AnyCodec | None = None,
    mu: AnyCodec | None = None,
    trace: AnyCodec | None = None,
    ema: AnyCodec | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Keep the moments of a transformation in codes between its steps.

    With :math:`D` and :math:`E_t` for a codec's decoding and its encoding with the dither of step :math:`t`, and
    :math:`c` for the codes of a moment:

    .. math::
        (u_t, \nu_t) &= \text{update}(g_t, D(c_{t-1})) \\
        c_t &= E_t(\nu_t)

    So the update is made with the moment as it is before it is rounded. Every field with a codec's name is kept in
    codes, however deep in a chain, partition, mask or wrapper it sits. The state has its own step counter for the
    dither. Whatever else the transformation keeps stays in the dtype that its `init` chose.

    A codec whose `relative_to` is "nu" divides by the root of the second moment in the same state: `nu`, else
    `variance`.

    Scales that a codec keeps, as `RmsNibble` does, are in the state's `scales`. Where the moment of all elements that
    share a scale has not changed, codes and scales stay as they are. Elsewhere scales are those of the new moment:
    along a sharded axis they take collectives of their own size, and inside `jax.shard_map` each shard has its own.

    A leaf without a gradient (None) keeps its codes bit for bit. Under `jax.jit` the codes do not depend on how arrays
    are sharded. Under `jax.vmap` every member has the dither that it would have alone. Inside `jax.shard_map` shards of
    an array have dithers of their own, and share one over an axis of the mesh over which the array does not vary, so
    replicas stay equal; with `check_vma=False`, and in `jax.pmap`, all have the dither that one would have alone.
    Outside `jax.jit`, `init` makes the moments in float32 first.

    Args:
      tx: Any optax transformation, such as `rmsprop(1e-3)` or `optax.adam(1e-3)`. Structure.
      nu: How to keep the mean square: `RmsByte()`, `RmsNibble()` or `BFloat16()`. None keeps it as it is. Structure.
      variance: How to keep the variance of a centered RMSprop: with the same codecs, or None. Structure.
      mu: How to keep the mean: `SignedByte(relative_to="nu")` or `BFloat16()`, or None. Structure.
      trace: How to keep the momentum: `BFloat16()` or `SignedByte(learning_rate)`, or None. Structure.
      ema: Likewise for a momentum that is an average of the steps, in `rmsprop(average_momentum=True)`. The average of
        a link of your own, `optax.ema`, is left as it is. Structure.

    Returns:
      The transformation. Calls with equal arguments return equal optimizers, as far as `tx` does. Its state is a
      `CompressedState` of plain arrays.

    Raises:
      ValueError: No codec; a codec that can't hold its field, such as one without signs for `mu`; a field that `tx`
        does not keep, when its `init` is called.
      TypeError: An argument that is not a codec or not a transformation; moments that are complex or float64; codes
        of another dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import compression, rmsprop
      >>> tx = compression.compressed(rmsprop(0.1), nu=compression.RmsByte())
      >>> params = {"w": jnp.array([3.0, -4.0])}
      >>> state = tx.init(params)
      >>> updates, state = tx.update({"w": jnp.array([6.0, -8.0])}, state)
      >>> print(updates["w"], state.inner_state[0].nu["w"].dtype)
      [-0.31622776  0.31622776] uint8

    References:
      Low-precision averages and what nearest rounding does to them: Dettmers et al., `8-bit optimizers via block-wise
      quantization <https://arxiv.org/abs/2110.02861>`_.
    """
    _checks.transformation("tx", tx)
    inner = optax.with_extra_args_support(tx)
    codecs = chosen(nu=nu, variance=variance, mu=mu, trace=trace, ema=ema)

    def init_fn(params):
        _checks.arrays("params", params)
        if params is None:
            raise ValueError("`params` must be a tree of arrays, got None: there are no moments to keep in codes.")
        dither_count = moments.counter(params)
        inner_state, scales = _encoded(_beside(inner.init(params), params), codecs, dither_count)
        return CompressedState(dither_count, inner_state, moments.counter(params, checksum(codecs), jnp.uint32), scales)

    def update_fn(updates, state, params=None, **extra_args):
        if not isinstance(state, CompressedState):
            _checks.state("`state`", state)
            came = f"{type(state).__module__}.{type(state).__name__}"
            raise TypeError(f"`state` must be the CompressedState that init made, got {came}.")
        _checks.arrays("updates", updates, shapes=False)
        _checks.arrays("params", params)
        updates, new = inner.update(updates, _decoded(state, codecs), params, **extra_args)
        dither_count = optax.safe_increment(state.dither_count)
        inner_state, scales = _encoded(new, codecs, dither_count, before=state.inner_state, scales=state.scales)
        return updates, CompressedState(dither_count, inner_state, state.made_by, scales)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


@_checks.keywords
def decompress(
    state: optax.OptState,
    *,
    nu: AnyCodec | None = None,
    variance: AnyCodec | None = None,
    mu: AnyCodec | None = None,
    trace: AnyCodec | None = None,
    ema: AnyCodec | None = None,
) -> optax.OptState:
    """Return a state with its moments in float32, to look at them, to edit or to move them.

    Every `CompressedState` in it stays one, with its counter; `recompress` is the way back, to the same bits. Its
    `inner_state` is then what the bare transformation takes.

    Args:
      state: The state of a compressed transformation, or one that holds such states. Its arrays may be traced.
      nu: The codec that `compressed` was given for `nu`, or None. Structure.
      variance: Likewise for `variance`. Structure.
      mu: Likewise for `mu`. Structure.
      trace: Likewise for `trace`. Structure.
      ema: Likewise for `ema`. Structure.

    Returns:
      The state, float32 arrays where there were codes.

    Raises:
      ValueError: No codec; no `CompressedState`, or none with such a field.
      TypeError: Codes whose dtype is not their codec's; codes without a codec.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import compression, rmsprop
      >>> tx = compression.compressed(rmsprop(0.1), nu=compression.RmsByte())
      >>> state = tx.init(jnp.zeros(3))
      >>> print(optax.tree.get(compression.decompress(state, nu=compression.RmsByte()), "nu"))
      [0. 0. 0.]
    """
    codecs = chosen(nu=nu, variance=variance, mu=mu, trace=trace, ema=ema)

    def decoded(node):
        made_by = jnp.zeros_like(node.made_by)
        return CompressedState(node.dither_count, _decoded(node, codecs), made_by, node.scales)

    return _map_compressed(decoded, state)


@_checks.keywords
def recompress(
    state: optax.OptState,
    *,
    nu: AnyCodec | None = None,
    variance: AnyCodec | None = None,
    mu: AnyCodec | None = None,
    trace: AnyCodec | None = None,
    ema: AnyCodec | None = None,
) -> optax.OptState:
    """Return a state with its moments in codes again: the way back from `decompress`.

    It also takes the state of a bare transformation: `recompress(CompressedState(dither_count, state), ...)`, where
    `dither_count` is the number of steps so far, or 0.

    Args:
      state: A `CompressedState` with float32 moments, or one that holds such states. Its arrays may be traced.
      nu: The codec for `nu`, or None to leave it as it is. Structure.
      variance: Likewise for `variance`. Structure.
      mu: Likewise for `mu`. Structure.
      trace: Likewise for `trace`. Structure.
      ema: Likewise for `ema`. Structure.

    Returns:
      The state, codes where there were float32 arrays.

    Raises:
      ValueError: No codec; no `CompressedState`, or none with such a field; the state of an ensemble outside of
        `jax.vmap`.
      TypeError: Moments that are complex or float64, or already in codes.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import compression, rmsprop
      >>> bare = rmsprop(0.1).init(jnp.zeros(3))
      >>> state = compression.CompressedState(jnp.zeros([], jnp.int32), bare)
      >>> print(compression.recompress(state, nu=compression.RmsByte()).inner_state[0].nu)
      [0 0 0]
    """
    codecs = chosen(nu=nu, variance=variance, mu=mu, trace=trace, ema=ema)

    def encoded(node):
        if jnp.shape(node.dither_count):
            raise ValueError("`state` is that of an ensemble. Map `recompress` over its members, with jax.vmap.")
        inner_state, scales = _encoded(node.inner_state, codecs, node.dither_count, scales=node.scales)
        return CompressedState(node.dither_count, inner_state, jnp.full_like(node.made_by, checksum(codecs)), scales)

    return _map_compressed(encoded, state)


class _Leaf(NamedTuple):
    """A leaf of a state."""

    name: str
    value: Any
    field: str | None = None  # the moment it belongs to
    path: Any = None  # its path in that moment: its parameter's path
    codec: Any = None  # None to keep it as it is
    reference: int | None = None  # the number of the leaf by whose root the codec divides


def _leaves(state: Any, codecs: dict[str, AnyCodec]) -> tuple[list[_Leaf], Any, list[ScaledField]]:
    """Return the leaves of a state, each with its codec, the state's structure, and the moments that have scales."""
    flat, treedef = jax.tree_util.tree_flatten_with_path(state)
    leaves = [_Leaf(_checks.leaf_name(path), x) for path, x in flat]
    numbers = {path: number for number, (path, _) in enumerate(flat)}
    fields: dict[str, None] = {}
    scaled: list[ScaledField] = []
    for at, (path, entry) in enumerate(moments.entries(state)):
        second = moments.second(entry) or "no second moment"
        for field, tree in moments.of(entry).items():
            fields[field], codec = None, codecs.get(field)
            here = {numbers[*path, GetAttrKey(field), *rest]: rest for rest, _ in tree_leaves_with_path(tree)}
            if codec is not None and is_scaled(codec):
                scaled.append(ScaledField(at, field, codec.parts, jax.tree.structure(tree), [*here]))
            for number, rest in here.items():
                leaf = leaves[number]._replace(field=field, path=rest, codec=codec)
                if codec is not None and codec.relative_to is not None:
                    leaf = leaf._replace(reference=numbers.get((*path, GetAttrKey(second), *rest)))
                    if leaf.reference is None:
                        raise ValueError(f"`state` at {leaf.name} has no second moment beside it for {codec!r}.")
                leaves[number] = leaf
    for name in codecs.keys() - fields:
        found = listed(fields) if fields else f"none of {listed(moments.NAMES)}"
        raise ValueError(f"`{name}` is no field of the state of this transformation; it has {found}.")
    return leaves, treedef, scaled


def _in_order(leaves: list[_Leaf]) -> list[int]:
    """Return the numbers of the leaves that have a codec, those that others are relative to first."""
    return sorted((i for i, leaf in enumerate(leaves) if leaf.codec), key=lambda i: leaves[i].reference is not None)


def _decoded(state: CompressedState, codecs: dict[str, AnyCodec]) -> Any:
    """Decode the moments of a state."""
    leaves, treedef, scaled = _leaves(state.inner_state, codecs)
    scales = by_leaf(state.scales, scaled)
    values = [leaf.value for leaf in leaves]
    for leaf in leaves:
        if leaf.field and leaf.codec is None and jnp.issubdtype(jnp.result_type(leaf.value), jnp.integer):
            raise TypeError(f"`state` at {leaf.name} is in codes. Pass {leaf.field}= the codec it was made with.")
    for i in _in_order(leaves):
        codes, codec, reference = leaves[i].value, leaves[i].codec, leaves[i].reference
        if jnp.result_type(codes) != codec.dtype:
            raise TypeError(
                f"`state` at {leaves[i].name} must be the {jnp.dtype(codec.dtype)} codes of {codec!r}, got "
                f"{jnp.result_type(codes)}. Use the codec it was made with; decoded moments go through `recompress`."
            )
        if is_scaled(codec) and i not in scales:
            raise TypeError(f"`state` has no scales of {codec!r} for {leaves[i].name}. Use the codec it was made with.")
        root = None if reference is None else values[reference]
        values[i] = moments.offloaded(_decode, codes, root, scales.get(i), codec=codec)
    return jax.tree.unflatten(treedef, values)


def _encoded(
    state: Any, codecs: dict[str, AnyCodec], count: Any, *, before: Any = None, scales: Any = ()
) -> tuple[Any, tuple[dict[str, Any], ...]]:
    """Encode the moments of a state; what has become None, and every dtype, stays as it was before.

    Scales need the whole of a moment, which XLA keeps in memory until then. It would keep those of all leaves, since it
    makes one collective of those of all scales. So each leaf with scales waits for the one before.
    """
    leaves, treedef, scaled = _leaves(state if before is None else before, codecs)
    kept = by_leaf(scales, scaled)
    now = treedef.flatten_up_to(state)
    values = [_kept(leaf, x) for leaf, x in zip(leaves, now, strict=True)]
    last = None
    for i in _in_order(leaves):
        codec, reference = leaves[i].codec, leaves[i].reference
        if now[i] is None:
            continue
        dtype = jnp.result_type(now[i])
        if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits > 32:
            raise TypeError(
                f"`state` at {leaves[i].name} must be in float32 or less and real for {codec!r}, got {dtype}. Keep it "
                "as it is: leave its parameter to another transformation with optax.partition."
            )
        root = None if reference is None else values[reference]
        if reference is not None and leaves[reference].codec is not None:
            root = moments.offloaded(_decode, root, None, kept.get(reference), codec=leaves[reference].codec)
        if not is_scaled(codec):
            values[i] = moments.offloaded(_encode, now[i], root, np.uint32(i), count, None, codec=codec)
            continue
        if last is not None and isinstance(count, jax.core.Tracer):  # so that one moment at a time is in memory
            now[i], values[last], kept[last] = jax.lax.optimization_barrier((now[i], values[last], kept[last]))
        was, last = (None if before is None else leaves[i].value, kept.get(i)), i
        values[i], kept[i] = moments.offloaded(_encode, now[i], root, np.uint32(i), count, was, codec=codec)
    return jax.tree.unflatten(treedef, values), stored(kept, scaled)


def _kept(leaf: _Leaf, now: Any) -> Any:
    if now is None or leaf.codec is not None or not isinstance(now, jax.Array):
        return leaf.value if now is None else now
    dtype = jnp.result_type(leaf.value)
    return now if now.dtype == dtype else now.astype(dtype)


@functools.partial(jax.jit, static_argnames="codec")  # traced once per shape
def _decode(codes, reference, scales, *, codec):
    moment = codec.decode(codes) if scales is None else codec.decode(codes, scales)
    return moment if reference is None else moment * jnp.sqrt(reference)


@functools.partial(jax.jit, static_argnames="codec")  # traced once per shape
def _encode(moment, reference, number, count, was, *, codec):
    moment = moment.astype(jnp.float32)
    if reference is not None:
        moment = jnp.where(reference > 0, moment / jnp.sqrt(reference), 0.0)
    bits = dither(moment, number, count)
    return codec.encode(moment, bits) if was is None else encoded_again(codec, moment, bits, *was)


def _beside(state: Any, params: Any) -> Any:
    """Give moments the shardings of their parameters: what is constant under jit would land on one device."""
    leaves, treedef, _ = _leaves(state, {})
    homes = dict(tree_leaves_with_path(params))

    def beside_parameter(leaf):
        home = None if leaf.field is None else homes.get(leaf.path)
        return leaf.value if home is None or jnp.shape(home) != leaf.value.shape else moments.beside(home, leaf.value)

    return jax.tree.unflatten(treedef, map(beside_parameter, leaves))


def _map_compressed(function: Any, state: Any) -> Any:
    """Apply a function to every CompressedState in a state."""
    treedef: Any
    nodes, treedef = jax.tree.flatten(state, is_leaf=is_compressed)
    if not any(map(is_compressed, nodes)):
        raise ValueError("`state` must hold a CompressedState, as the init of `compressed` makes it; it holds none.")
    return treedef.unflatten(function(node) if is_compressed(node) else node for node in nodes)


def is_compressed(node: Any) -> bool:
    """Whether a node of a state is that of a compressed transformation."""
    return isinstance(node, CompressedState)
