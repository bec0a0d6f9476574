"""A codec of four bits, two of them in a byte: they count from an estimate that is kept for rows and for columns."""

from __future__ import annotations  # signatures in help() read as written here

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from rmsprop_optax import _checks
from rmsprop_optax.compression.codecs import RmsByte, bits_of, check_array, check_encoded, float_of, settled

__all__ = ["RmsNibble"]


@_checks.init
@dataclasses.dataclass(frozen=True)
class RmsNibble:
    r"""Keep a mean square in four bits, two elements to a byte, and beside them what its rows and columns share.

    The last two axes of a leaf are a matrix :math:`\nu_{ij}`; other axes count matrices. With :math:`r = \sqrt{\nu}`,
    the scales are the root mean square of each row, of each column and of the matrix, and the largest :math:`r` of each
    row and each column. The first three estimate each element, as the state of a factored optimizer does, and four bits
    say how far the element is from that:

    .. math::
        \hat r_{ij} = \frac{R_i \, C_j}{W}, \qquad R_i^2 = \overline{\nu_{i \cdot}}, \quad
        C_j^2 = \overline{\nu_{\cdot j}}, \quad W^2 = \overline{C^2}

    Code 0 is :math:`r = 0`. Codes 1 to 14 are points about the estimate, which is first rounded to a quarter of an
    octave: they are an eighth of an octave apart next to it, then a quarter, and half an octave at the ends, 2.5 or
    2.75 octaves below it and 1 or 1.25 above. A point is a multiple of its spacing wherever the estimate is, so the
    points stay where they are while the estimate moves. Code 15 is the smaller of the largest of its row and of its
    column. By the dither, :math:`r^{1/4}` is right on average between points, and :math:`\nu` between the highest
    point and code 15. What is below the lowest point takes it. A positive `nu` never becomes 0; NaN becomes 0, and
    an :math:`r` beyond 2^-46 and 2^46 takes that end.

    Rows :math:`2k` and :math:`2k + 1` are the lower and the upper four bits of row :math:`k` of the codes, whose shape
    is (..., m / 2, n). Scales take 2 bytes each, so a matrix takes :math:`mn/2 + 4(m + n) + 2` bytes. Where that
    is more than :math:`mn`, where :math:`m` is odd, and where there are fewer than two axes, each element is in a byte
    as by `RmsByte()`, and the five scales are zeros of one element each.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from rmsprop_optax import compression
      >>> codec = compression.RmsNibble()
      >>> x = jnp.outer(4.0 ** jnp.arange(32), 4.0 ** jnp.arange(16))
      >>> scales = jax.jit(codec.scales)(x)
      >>> codes = jax.jit(codec.encode)(x, jnp.zeros(x.shape, jnp.uint32), scales)
      >>> print(codes.shape, (jax.jit(codec.decode)(codes, scales) == x).all())
      (16, 16) True

    References:
      The estimate is that of Shazeer and Stern, `Adafactor <https://arxiv.org/abs/1804.04235>`_.
    """

    dtype = jnp.uint8
    signed = False
    scale_free = True
    relative_to = None
    parts = ("row_rms", "column_rms", "rms", "row_max", "column_max")

    @_checks.keywords
    def scales(self, x: jax.Array) -> dict[str, jax.Array]:
        """Return what rows and columns of a mean square share, float32 and at least 0: a bfloat16 array for each part.

        They have the axes of `x`, with length 1 along those that they sum up.
        """
        check_array("x", x, jnp.float32)
        if not _fits(x.shape):
            return {part: jnp.zeros((1,) * x.ndim, jnp.bfloat16) for part in self.parts}
        x = _in_range(x)
        row_max, column_max = (_bfloat16(settled(jnp.sqrt(x.max(axis, keepdims=True))), 0xFFFF) for axis in (-1, -2))
        row_rms, column_rms = _root_mean(x, row_max, -1), _root_mean(x, column_max, -2)
        squares = jnp.square(column_rms.astype(jnp.float32))
        rms = _root_mean(squares, column_rms.max(-1, keepdims=True), -1)
        return dict(zip(self.parts, (row_rms, column_rms, rms, row_max, column_max), strict=True))

    @_checks.keywords
    def encode(self, x: jax.Array, bits: jax.Array, scales: Mapping[str, jax.Array]) -> jax.Array:
        """Return the codes of a mean square, float32 and at least 0, about its scales, given dither bits, uint32."""
        check_encoded(x, bits)
        self._check_scales(scales)
        if not _in_halves(x.shape, scales):
            return RmsByte().encode(x, bits)
        x = _in_range(x)
        r = settled(jnp.sqrt(x))
        near = _estimate(scales)
        highest = near + 8 + (near & 2) << 20
        nu, top, most = (jnp.square(float_of(root)) for root in (r, highest, _most(scales)))
        to_most = (nu - top) / (most - top) * 2.0**24 + (bits >> 8).astype(jnp.float32) >= 2.0**24
        code = jnp.where(r > highest, jnp.where(to_most, 15, 14), _code_about(r, near, highest, bits))
        code = jnp.where(x > 0, code, 0).astype(self.dtype)
        pairs = code.reshape(*x.shape[:-2], x.shape[-2] // 2, 2, x.shape[-1])
        return pairs[..., 0, :] | pairs[..., 1, :] << 4

    @_checks.keywords
    def decode(self, codes: jax.Array, scales: Mapping[str, jax.Array]) -> jax.Array:
        """Return the mean square that codes stand for about their scales, in float32."""
        check_array("codes", codes, self.dtype)
        self._check_scales(scales)
        shape = (*codes.shape[:-2], *(2 * m for m in codes.shape[-2:-1]), *codes.shape[-1:])
        if not _in_halves(shape, scales):
            return RmsByte().decode(codes)
        halves = jnp.stack([codes & 15, codes >> 4], -2).reshape(shape)
        # On a TPU two rows from one take a copy: of bytes, unless XLA moves it behind what follows, which is larger.
        code = jax.lax.optimization_barrier(halves).astype(jnp.int32)
        near = _estimate(scales)
        at, edge = code - 9, 5 - (near >> 1 & 1)  # code 9 is the estimate itself
        beyond = lambda end: jnp.minimum(at + end, 0) + jnp.maximum(at - end, 0)  # noqa: E731
        point = near + at + beyond(2) + 2 * beyond(edge)
        r = float_of(jnp.where(code == 15, _most(scales), point << 20))
        return jnp.where(code == 0, 0.0, r * r)

    def _check_scales(self, scales: Mapping[str, jax.Array]) -> None:
        if not isinstance(scales, Mapping) or set(scales) != set(self.parts):
            raise TypeError(f"`scales` must be what `scales(x)` returned, got {_checks.shown(scales)}.")
        for part, scale in scales.items():
            check_array(f"scales[{part!r}]", scale, jnp.bfloat16)


def _fits(shape: tuple[int, ...]) -> bool:
    """Whether a leaf of this shape is in half bytes: it has an even number of rows, and its scales pay."""
    if len(shape) < 2 or shape[-2] % 2:
        return False
    m, n = shape[-2:]
    return m * n // 2 + 4 * (m + n) + 2 <= m * n


def _in_halves(shape: tuple[int, ...], scales: Mapping[str, jax.Array]) -> bool:
    """Whether these scales are those of a leaf of this shape in half bytes, alone or one of many under `jax.vmap`."""
    rows, columns = scales["row_rms"].shape, scales["column_rms"].shape
    return _fits(shape) and rows[-2:] == (shape[-2], 1) and columns[-2:] == (1, shape[-1])


def _in_range(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, jnp.clip(x, 2.0**-92, 2.0**92), 0.0)


def _estimate(scales: Mapping[str, jax.Array]) -> jax.Array:
    """Return the estimate of every element in eighths of an octave, as float32 counts them, an even number.

    From five eighths of a step on it is rounded up: at half a step, updates came out too small on the whole.
    """
    rows, columns, whole = (_bits16(scales[part]) for part in ("row_rms", "column_rms", "rms"))
    return jnp.clip(rows + columns - whole + 12 >> 5 << 1, 8 * (127 - 46), 8 * (127 + 46))


def _most(scales: Mapping[str, jax.Array]) -> jax.Array:
    """Return the bits, as a float32, of the root that code 15 stands for."""
    return jnp.minimum(_bits16(scales["row_max"]), _bits16(scales["column_max"])) << 16


def _code_about(r: jax.Array, near: jax.Array, highest: jax.Array, bits: jax.Array) -> jax.Array:
    """Return the code of the point below r or of the one above it, 1 to 14, `r` and `highest` being bits of float32.

    So they are in fixed point, an eighth of an octave being 2^20. `near` is in eighths.
    """
    odd = near & 2  # 2 where the estimate is an odd number of quarters of an octave, 0 where it is an even one
    z = jnp.clip(r, near - 20 - odd << 20, highest)
    at = jnp.minimum(z, highest - 1) >> 20
    off = at - near
    narrow, wide = (off >= -2) & (off < 2), (off < odd - 8) | (off >= 8 - odd)
    shift = jnp.where(narrow, 0, jnp.where(wide, 2, 1))  # the spacing is 1, 2 or 4 eighths
    below = at >> shift << shift
    fraction = z - (below << 20) >> shift + 10
    # Between two points z is linear in r: a parabola, zero at both, makes it linear in the fourth root of r. The lower
    # the point is in its octave and the wider the spacing, the more it bends.
    bend = 46 - 3 * (below & 7) - (2 << shift) << shift
    fraction = (z - (below << 20) >> shift) + (fraction * (1024 - fraction) * bend >> 10)
    up = fraction + (bits >> 12).astype(jnp.int32) >= 1 << 20
    off = below + (up.astype(jnp.int32) << shift) - near
    middle = jnp.clip(off, odd - 8, 8 - odd)
    inner = jnp.clip(off, -2, 2)
    return 9 + inner + (middle - inner >> 1) + (off - middle >> 2)


def _root_mean(x: jax.Array, most: jax.Array, axis: int) -> jax.Array:
    """Return the root of the mean of x along an axis in bfloat16, `most` being no less than any root of x there.

    It is summed in whole parts of a power of two that is no less than any x: in whatever order, the sum is the same.
    """
    n = x.shape[axis]
    parts = 30 - (n - 1).bit_length()
    exponent = (bits_of(jnp.square(most.astype(jnp.float32))) >> 23) - 127
    power = jnp.maximum(exponent, -92) + 1  # x < 2^power
    whole = (x * float_of(127 + parts - power << 23) + 0.5).astype(jnp.int32)
    total = jnp.sum(whole, axis, keepdims=True, dtype=jnp.int32).astype(jnp.float32)
    root = jnp.sqrt(total * (float_of(127 - parts + power << 23) / n))
    return _bfloat16(bits_of(root), 0x8000)


def _bfloat16(bits: jax.Array, up: int) -> jax.Array:
    """Return in bfloat16 what has these bits in float32: the nearest with half a unit up, the one above with all of it.

    It is no cast: a compiler may leave out one there and back.
    """
    return jax.lax.bitcast_convert_type((bits + up >> 16).astype(jnp.uint16), jnp.bfloat16)


def _bits16(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.uint16).astype(jnp.int32)
