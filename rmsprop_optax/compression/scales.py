"""Codecs that keep scales beside their codes: what they have to do, and where their scales are in a state."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import jax
import jax.numpy as jnp

from rmsprop_optax.compression.codecs import Codec, Traits

__all__ = ["AnyCodec", "ScaledCodec", "ScaledField", "by_leaf", "encoded_again", "is_scaled", "stored"]


@runtime_checkable
class ScaledCodec(Traits, Protocol):
    """A codec whose codes count from scales: what several elements of a leaf share, kept in arrays of its own.

    It differs from a `Codec` in what follows. Scales have the axes of the moment, and length 1 along those on which all
    elements share one. `encode(decode(codes, scales), bits, scales)` must be `codes` for all `bits`; new scales of what
    was decoded may be others. `compressed` sees to it that a leaf without a gradient stays as it is: where the moment
    of all elements that share scales is what their codes stand for, it keeps both.
    """

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of its scales, such as ("row_rms", "column_rms")."""
        ...

    def scales(self, x: jax.Array) -> Mapping[str, jax.Array]:
        """Return the scales of a moment, float32, by their names."""
        ...

    def encode(self, x: jax.Array, bits: jax.Array, scales: Mapping[str, jax.Array]) -> jax.Array:
        """Return the codes of a moment, float32, about its scales, given dither bits of its shape, uint32."""
        ...

    def decode(self, codes: jax.Array, scales: Mapping[str, jax.Array]) -> jax.Array:
        """Return the moment that codes stand for about their scales, in float32."""
        ...


AnyCodec = Codec | ScaledCodec


class ScaledField(NamedTuple):
    """A moment that is kept by a codec with scales."""

    entry: int  # the number of the named tuple that it is a field of
    name: str
    parts: tuple[str, ...]
    structure: Any  # of its tree, which is that of the parameters
    leaves: list[int]  # the numbers of its leaves in the state


def is_scaled(codec: Any) -> TypeGuard[ScaledCodec]:
    """Whether a codec keeps scales."""
    return bool(getattr(codec, "parts", ()))


def stored(scales: Mapping[int, Mapping[str, jax.Array]], fields: list[ScaledField]) -> tuple[dict[str, Any], ...]:
    """Return the scales of all leaves as a state has them: trees like the parameters, `nu_row_rms` for a part of `nu`.

    There is a dictionary for each named tuple that has such moments, in their order.
    """
    found: dict[int, dict[str, Any]] = {}
    for entry, name, parts, structure, leaves in fields:
        trees = {f"{name}_{part}": structure.unflatten([scales[i][part] for i in leaves]) for part in parts}
        found.setdefault(entry, {}).update(trees)
    return tuple(found.values())


def by_leaf(stored: tuple[Mapping[str, Any], ...], fields: list[ScaledField]) -> dict[int, dict[str, jax.Array]]:
    """Return the scales of each leaf from those of a state; none where the state has none for its codec."""
    found: dict[int, dict[str, jax.Array]] = {}
    entries = list(dict.fromkeys(field.entry for field in fields))
    for entry, name, parts, structure, leaves in fields:
        at = entries.index(entry)
        trees = stored[at] if at < len(stored) else {}
        if all(f"{name}_{part}" in trees for part in parts):
            columns = {part: structure.flatten_up_to(trees[f"{name}_{part}"]) for part in parts}
            found |= {i: {part: columns[part][j] for part in parts} for j, i in enumerate(leaves)}
    return found


def encoded_again(codec: ScaledCodec, x: jax.Array, bits: jax.Array, codes: Any, scales: Any) -> tuple[Any, Any]:
    """Return codes and scales of a moment: those that were, wherever they stand for it.

    `codes` may be None: they follow from the scales where these are right. Both are None at the start.
    """
    new = dict(codec.scales(x))
    new_codes = codec.encode(x, bits, new)
    if scales is None:
        return new_codes, new
    if codes is None:
        codes = codec.encode(x, bits, scales)
    same = _all_that_share(codec.decode(codes, scales) == x, scales)
    return jnp.where(same, codes, new_codes), {part: jnp.where(same, scales[part], new[part]) for part in new}


def _all_that_share(equal: jax.Array, scales: Mapping[str, jax.Array]) -> jax.Array:
    """Return whether an element and all others that share a scale with it are equal to what they were."""
    for axis in reversed(range(equal.ndim)):
        if any(scale.shape[axis] == 1 for scale in scales.values()):
            equal = equal.all(axis, keepdims=True)
    return equal
