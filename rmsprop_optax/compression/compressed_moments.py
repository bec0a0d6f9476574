"""The moments of any optax transformation in one or two bytes: decoded before its update, encoded after.

The transformation computes in float32 as ever and never learns of the codes. Fields are found by their names, `nu`,
`mu` and `trace`, wherever they sit in a chain, and keep the shapes and shardings of the parameters.
"""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import GetAttrKey

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.codecs import BFloat16, Codec, RmsByte, SignedByte, dither
from rmsprop_optax.master_weights import MasterWeightsState, export_weights, import_weights, with_master_weights
from rmsprop_optax.moments import beside

__all__ = [
    "BFloat16",
    "Codec",
    "CompressedState",
    "MasterWeightsState",
    "RmsByte",
    "SignedByte",
    "compressed",
    "decompress",
    "export_weights",
    "import_weights",
    "recompress",
    "with_master_weights",
]


class CompressedState(NamedTuple):
    """The state of a compressed transformation: that of the transformation, with codes for moments."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count. Shape (), int32: steps, for the dither
    inner_state: optax.OptState  # its `nu`, `mu`, `trace` in the codecs' dtypes, like params; the rest as it was


with contextlib.suppress(ValueError):  # the module is being reloaded
    jax.export.register_namedtuple_serialization(CompressedState, serialized_name="rmsprop_optax.CompressedState")


@value
def compressed(
    tx: optax.GradientTransformation,
    *,
    nu: Codec | None = None,
    mu: Codec | None = None,
    trace: Codec | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Keep the moments of a transformation in codes between its steps.

    With :math:`D` and :math:`E_t` for a codec's decoding and its encoding with the dither of step :math:`t`, and
    :math:`c` for the codes of a moment:

    .. math::
        (u_t, \nu_t) &= \text{update}(g_t, D(c_{t-1})) \\
        c_t &= E_t(\nu_t)

    So the update is made with the moment as it is before it is rounded. Every field of a codec's name is kept in codes,
    however deep in a chain, partition, mask or wrapper it sits. The state has a step counter of its own, for the
    dither. What the transformation keeps besides, it keeps in the dtype that its `init` chose.

    A leaf without a gradient (None) keeps its codes bit for bit. Under `jax.shard_map` and `jax.vmap` every shard and
    every member has the dither that it would have alone. `init` outside `jax.jit` makes the moments in float32 first.

    Args:
      tx: Any optax transformation, such as `rmsprop(1e-3)` or `optax.adam(1e-3)`. Structure.
      nu: How to keep the mean square, or the variance when centered: `RmsByte()` or `BFloat16()`. None keeps it as it
        is. Structure.
      mu: How to keep the mean: `SignedByte(relative_to="nu")` or `BFloat16()`, or None. Structure.
      trace: How to keep the momentum: `BFloat16()` or `SignedByte(unit)`, or None. Structure.

    Returns:
      A transformation that is a value, as `tx` is one. Its state is a `CompressedState` of plain arrays.

    Raises:
      ValueError: No codec; a field that `tx` does not keep, when its `init` is called.
      TypeError: What is no codec or no transformation; moments that are complex or float64, or codes of another dtype.

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
    codecs = _codecs(nu=nu, mu=mu, trace=trace)

    def init_fn(params):
        count = jnp.zeros([], jnp.int32)
        return CompressedState(count, _placed(_encoded(inner.init(params), codecs, count), params))

    def update_fn(updates, state, params=None, **extra_args):
        if not isinstance(state, CompressedState):
            came = f"{type(state).__module__}.{type(state).__name__}"
            raise TypeError(f"`state` must be the CompressedState that init made, got {came}.")
        updates, new = inner.update(updates, _decoded(state.inner_state, codecs), params, **extra_args)
        count = optax.safe_increment(state.count)
        return updates, CompressedState(count, _encoded(new, codecs, count, before=state.inner_state))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def decompress(
    state: optax.OptState, *, nu: Codec | None = None, mu: Codec | None = None, trace: Codec | None = None
) -> optax.OptState:
    """Return a state with its moments in float32, to look at them, to edit or to move them.

    Every `CompressedState` in it stays one, with its counter; `recompress` is the way back, to the same bits. Its
    `inner_state` is then what the bare transformation takes.

    Args:
      state: The state of a compressed transformation, or one that holds such states. Its arrays may be traced.
      nu: The codec that `compressed` was given for `nu`, None if it was given none. Structure.
      mu: Likewise for `mu`. Structure.
      trace: Likewise for `trace`. Structure.

    Returns:
      The state, float32 arrays where there were codes.

    Raises:
      ValueError: No codec; no `CompressedState`, or none with such a field.
      TypeError: Codes that a codec does not make; codes for which there is no codec.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import compression, rmsprop
      >>> tx = compression.compressed(rmsprop(0.1), nu=compression.RmsByte())
      >>> state = tx.init(jnp.zeros(3))
      >>> print(optax.tree.get(compression.decompress(state, nu=compression.RmsByte()), "nu"))
      [0. 0. 0.]
    """
    codecs = _codecs(nu=nu, mu=mu, trace=trace)

    def decoded(node):
        return CompressedState(node.count, _decoded(node.inner_state, codecs))

    return _map_compressed(decoded, state)


def recompress(
    state: optax.OptState, *, nu: Codec | None = None, mu: Codec | None = None, trace: Codec | None = None
) -> optax.OptState:
    """Return a state with its moments in codes again: the way back from `decompress`.

    It is also the way in, from the state of a bare transformation: `recompress(CompressedState(count, state), ...)`,
    where `count` is the number of the steps so far, or 0; it decides the dither and nothing else.

    Args:
      state: A `CompressedState` with float32 moments, or one that holds such states. Its arrays may be traced.
      nu: The codec for `nu`, None to leave it as it is. Structure.
      mu: Likewise for `mu`. Structure.
      trace: Likewise for `trace`. Structure.

    Returns:
      The state, codes where there were float32 arrays.

    Raises:
      ValueError: No codec; no `CompressedState`, or none with such a field.
      TypeError: Moments that are complex or float64, or already in codes.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import compression, rmsprop
      >>> bare = rmsprop(0.1).init(jnp.zeros(3))
      >>> state = compression.CompressedState(jnp.zeros([], jnp.int32), bare)
      >>> print(compression.recompress(state, nu=compression.RmsByte()).inner_state[0].nu)
      [0 0 0]
    """
    codecs = _codecs(nu=nu, mu=mu, trace=trace)

    def encoded(node):
        return CompressedState(node.count, _encoded(node.inner_state, codecs, node.count))

    return _map_compressed(encoded, state)


def _codecs(**codecs: Codec | None) -> dict[str, Codec]:
    named = {name: codec for name, codec in codecs.items() if codec is not None}
    if not named:
        raise ValueError("Name at least one of `nu`, `mu` and `trace`, say nu=compression.RmsByte().")
    for name, codec in named.items():
        if isinstance(codec, type) or not isinstance(codec, Codec):
            raise TypeError(f"`{name}` must be a codec, such as compression.BFloat16(), or None, got {codec!r}.")
        if codec.relative_to not in (None, *_NAMES):
            raise ValueError(f"`{name}` is relative to `{codec.relative_to}`, it must be one of {', '.join(_NAMES)}.")
        other = named.get(codec.relative_to or "")
        if other is not None and other.relative_to is not None:
            raise ValueError(
                f"`{name}` is relative to `{codec.relative_to}`, which must be relative to nothing itself."
            )
    return named


_NAMES = ("nu", "mu", "trace")


class _Leaf(NamedTuple):
    """A leaf of a state."""

    place: str
    value: Any
    field: str | None  # the moment it belongs to
    codec: Any  # None to keep it as it is
    reference: int | None  # the number of the leaf by whose root the codec divides


def _leaves(state: Any, codecs: dict[str, Codec]) -> tuple[list[_Leaf], Any]:
    """Return the leaves of a state, each with its codec, and the state's structure."""
    moments = _moments(state)
    kept = {path[-1].name for path in moments}
    for name in codecs.keys() - kept:
        found = ", ".join(sorted(kept)) or "none of nu, mu and trace"
        raise ValueError(f"`{name}` is no field of the state of this transformation; it has {found}.")
    flat, treedef = jax.tree_util.tree_flatten_with_path(state)
    numbers = {path: number for number, (path, _) in enumerate(flat)}

    def leaf(path, x):
        place = _checks.place(path)
        at = _end(path, moments)
        field = None if at is None else path[at - 1].name
        codec = codecs.get(field or "")
        if at is None or codec is None or codec.relative_to is None:
            return _Leaf(place, x, field, codec, None)
        beside = (*path[: at - 1], GetAttrKey(codec.relative_to), *path[at:])
        if beside not in numbers:
            raise ValueError(f"`state` at {place} is kept relative to `{codec.relative_to}`, but has none beside it.")
        return _Leaf(place, x, field, codec, numbers[beside])

    return [leaf(path, x) for path, x in flat], treedef


def _moments(state: Any) -> set[Any]:
    """Return the paths of all moments: the fields of those names of named tuples, as optax's states are."""
    nodes, _ = jax.tree_util.tree_flatten_with_path(state, is_leaf=_has_moments)
    return {
        (*path, GetAttrKey(name))
        for path, node in nodes
        if _has_moments(node)
        for name in _NAMES
        if getattr(node, name, None) is not None
    }


def _has_moments(node: Any) -> bool:
    return isinstance(node, tuple) and not {*_NAMES}.isdisjoint(getattr(node, "_fields", ()))


def _end(path: Any, moments: set[Any]) -> int | None:
    """Return where in a leaf's path the path of its moment ends."""
    return next((i for i in range(1, len(path) + 1) if path[:i] in moments), None)


def _in_order(leaves: list[_Leaf]) -> list[int]:
    """Return the numbers of the leaves that have a codec, those that others are relative to first."""
    return sorted((i for i, leaf in enumerate(leaves) if leaf.codec), key=lambda i: leaves[i].reference is not None)


def _decoded(state: Any, codecs: dict[str, Codec]) -> Any:
    """Decode the moments of a state."""
    leaves, treedef = _leaves(state, codecs)
    values = [leaf.value for leaf in leaves]
    for leaf in leaves:
        if leaf.field and leaf.codec is None and jnp.issubdtype(jnp.result_type(leaf.value), jnp.integer):
            raise TypeError(f"`state` at {leaf.place} is in codes. Pass {leaf.field}= the codec it was made with.")
    for i in _in_order(leaves):
        place, codes, _, codec, reference = leaves[i]
        if jnp.result_type(codes) != codec.dtype:
            raise TypeError(
                f"`state` at {place} must be the {jnp.dtype(codec.dtype)} codes of {codec!r}, got "
                f"{jnp.result_type(codes)}. Use the codec it was made with; decoded moments go through `recompress`."
            )
        values[i] = _decode(codes, None if reference is None else values[reference], codec=codec)
    return jax.tree.unflatten(treedef, values)


def _encoded(state: Any, codecs: dict[str, Codec], count: Any, *, before: Any = None) -> Any:
    """Encode the moments of a state; what has become None, and every dtype, stays as it was before."""
    leaves, treedef = _leaves(state if before is None else before, codecs)
    moments = treedef.flatten_up_to(state)
    values = [_kept(leaf, moment) for leaf, moment in zip(leaves, moments, strict=True)]
    for i in _in_order(leaves):
        place, _, _, codec, reference = leaves[i]
        if moments[i] is None:
            continue
        dtype = jnp.result_type(moments[i])
        if not jnp.issubdtype(dtype, jnp.floating) or jnp.finfo(dtype).bits > 32:
            raise TypeError(
                f"`state` at {place} must be in float32 or less and real for {codec!r}, got {dtype}. Keep it as it is: "
                "leave its parameter to another transformation with optax.partition."
            )
        root = None if reference is None else values[reference]
        if reference is not None and leaves[reference].codec is not None:
            root = _decode(root, None, codec=leaves[reference].codec)
        values[i] = _encode(moments[i], root, np.uint32(i), count, codec=codec)
    return jax.tree.unflatten(treedef, values)


def _kept(leaf: _Leaf, now: Any) -> Any:
    if now is None or leaf.codec is not None or not isinstance(now, jax.Array):
        return leaf.value if now is None else now
    dtype = jnp.result_type(leaf.value)
    return now if now.dtype == dtype else now.astype(dtype)


@functools.partial(jax.jit, static_argnames="codec")  # traced once per shape
def _decode(codes, reference, *, codec):
    moment = codec.decode(codes)
    return moment if reference is None else moment * jnp.sqrt(reference)


@functools.partial(jax.jit, static_argnames="codec")  # traced once per shape
def _encode(moment, reference, number, count, *, codec):
    moment = moment.astype(jnp.float32)
    if reference is not None:
        moment = jnp.where(reference > 0, moment / jnp.sqrt(reference), 0.0)
    return codec.encode(moment, dither(moment, number, count))


def _placed(state: Any, params: Any) -> Any:
    """Give moments the shardings of their parameters: what is constant under jit would land on one device."""
    homes, moments = dict(jax.tree_util.tree_leaves_with_path(params)), _moments(state)

    def place(path, x):
        at = _end(path, moments)
        home = None if at is None else homes.get(path[at:])
        return x if home is None or home.shape != x.shape else beside(home, x)

    return jax.tree_util.tree_map_with_path(place, state)


def _map_compressed(function: Any, state: Any) -> Any:
    """Apply a function to every CompressedState in a state."""
    treedef: Any
    nodes, treedef = jax.tree.flatten(state, is_leaf=_is_compressed)
    if not any(map(_is_compressed, nodes)):
        raise ValueError(
            "`state` must hold a CompressedState, the state of a compressed transformation; it holds none."
        )
    return treedef.unflatten(function(node) if _is_compressed(node) else node for node in nodes)


def _is_compressed(node: Any) -> bool:
    return isinstance(node, CompressedState)
