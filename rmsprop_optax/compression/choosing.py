"""Which codec keeps which moment: what is refused, and a number that tells one choice from another."""

import dataclasses
import zlib
from typing import Any

from rmsprop_optax import _checks, moments
from rmsprop_optax.compression.scales import AnyCodec, is_scaled

__all__ = ["checksum", "chosen", "listed"]


def chosen(**codecs: AnyCodec | None) -> dict[str, AnyCodec]:
    """Return the codecs by the name of their moment, or refuse one that can't hold it."""
    named = {name: codec for name, codec in codecs.items() if codec is not None}
    if not named:
        raise ValueError(f"Name at least one of {listed(codecs)}, say nu=compression.RmsByte().")
    for name, codec in named.items():
        _check_codec(name, codec)
        if name in moments.SECOND:
            _check_second(name, codec)
        elif not codec.signed:
            raise ValueError(
                f"`{name}` can be negative, and {codec!r} holds no signs. Use compression.SignedByte, with "
                'relative_to="nu" for mu, or compression.BFloat16().'
            )
    return named


def checksum(codecs: dict[str, AnyCodec]) -> int:
    """Return 32 bits that differ where codecs do, so that no codes are read with other codecs than made them.

    A dataclass prints its fields; of other codecs the class has to do, for their `repr` may be an address.
    """
    described = {
        name: repr(codec) if dataclasses.is_dataclass(codec) else type(codec).__qualname__
        for name, codec in sorted(codecs.items())
    }
    return zlib.crc32(repr(described).encode())


def _check_codec(name: str, codec: Any) -> None:
    members = (*_MEMBERS, "scales") if is_scaled(codec) else _MEMBERS
    lacking = [member for member in members if not hasattr(codec, member)]
    if isinstance(codec, type) or lacking:
        hint = "" if isinstance(codec, type) or len(lacking) == len(_MEMBERS) else f" It lacks {listed(lacking)}."
        raise TypeError(
            f"`{name}` must be a codec, such as compression.BFloat16(), or None, got {_checks.shown(codec)}.{hint}"
        )
    if codec.relative_to not in (None, "nu"):
        raise ValueError(
            f'`{name}` is kept relative to {codec.relative_to!r}; `relative_to` must be None or "nu", the second '
            "moment beside it."
        )


def _check_second(name: str, codec: AnyCodec) -> None:
    way = "Use compression.RmsByte(), compression.RmsNibble() or compression.BFloat16()."
    if codec.relative_to is not None:
        raise ValueError(f"`{name}` is a second moment and can't be kept relative to itself, got {codec!r}. {way}")
    if not codec.scale_free:
        raise ValueError(f"`{name}` spans many orders of magnitude, and {codec!r} has one scale. {way}")


_MEMBERS = ("dtype", "signed", "scale_free", "relative_to", "encode", "decode")


def listed(names: Any) -> str:
    """Name several things for a message."""
    return ", ".join(f"`{name}`" for name in names)
