"""A codec is how one moment is kept between two steps: `encode` and `decode`, element by element.

It knows nothing of the optimizer. Rounding to the nearest code freezes a slow average, so `encode` takes dither bits
and rounds up if adding them to the fraction that would be lost carries: on average a code is right. The bits follow a
low-discrepancy sequence in time, whose start is hashed from the element's number, and again every 128 steps: less noise
than random bits, and cheaper. All of it is integer arithmetic on the bits of float32, the same on every device.
"""

from __future__ import annotations  # signatures in help() read as written here

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from rmsprop_optax import _checks

__all__ = [
    "BFloat16",
    "Codec",
    "RmsByte",
    "SignedByte",
    "Traits",
    "bits_of",
    "check_array",
    "check_encoded",
    "dither",
    "float_of",
    "settled",
    "truncate",
]


class Traits(Protocol):
    """What every codec says of itself; a plain `signed = True` in the class will do."""

    @property
    def dtype(self) -> Any:
        """What the codes are kept in, such as `jnp.uint8`. Their shape need not be that of the moment."""
        ...

    @property
    def signed(self) -> bool:
        """Whether it holds negative numbers, as `mu` and `trace` are."""
        ...

    @property
    def scale_free(self) -> bool:
        """Whether its errors are fractions of the number, small or large: `nu` and `variance` span many magnitudes."""
        ...

    @property
    def relative_to(self) -> str | None:
        """Either "nu", to get the moment divided by the root of the second moment beside it, or None."""
        ...


@runtime_checkable
class Codec(Traits, Protocol):
    """How one moment is kept between two steps, and what it can hold.

    A codec of your own needs these four attributes and two methods. It is hashable and not callable
    (`optax.inject_hyperparams` takes what can be called for a schedule); a frozen dataclass is both.
    `encode(decode(codes), bits)` must be `codes` for all `bits`: that keeps a leaf as it is where there is no gradient.
    """

    def encode(self, x: jax.Array, bits: jax.Array) -> jax.Array:
        """Return the codes of a moment, float32, given dither bits of its shape: uint32, anything in their range."""
        ...

    def decode(self, codes: jax.Array) -> jax.Array:
        """Return the moment that codes stand for, in float32."""
        ...


@_checks.init
@dataclasses.dataclass(frozen=True)
class RmsByte:
    r"""Keep a mean square in one byte: the byte is a logarithm of its root, without blocks and without scales.

    With :math:`r = \sqrt{\nu}`, code 0 is :math:`r = 0`. The other 255 are a grid that has 8 points an octave inside
    the window and 1 outside; the code is the grid point below :math:`r` or the one above it, by the dither, so that
    :math:`\log r` is right on average:

    .. math::
        r_c = 2^{e} (1 + k/8), \quad k = 0 \dots 7, \quad 2^a \le r_c < 2^b; \qquad r_c = 2^{e} \text{ elsewhere}

    With the default window the grid ends at 1.4e-14 and 4096. Values beyond the grid, infinity included, take its
    nearest end; NaN becomes 0. A positive `nu` never becomes 0, so it stays apart from an element that was never
    touched.

    Args:
      window: The exponents :math:`(a, b)` of the window's ends, in units of :math:`\log_2 r`. Integers. It may be 24 to
        31 octaves wide; the points that are left lie outside, three of five below. Structure.

    Raises:
      TypeError: Exponents that are not integers.
      ValueError: A window too narrow or too wide, or so far out that `nu` leaves float32's range.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import compression
      >>> codec = compression.RmsByte()
      >>> codes = codec.encode(jnp.array([0.0, 1e-6, 0.25]), jnp.zeros(3, jnp.uint32))
      >>> print(codes, codec.decode(codes))
      [  0 163 235] [0.000000e+00 9.536743e-07 2.500000e-01]
    """

    window: tuple[int, int] = (-28, 0)

    dtype = jnp.uint8
    signed = False
    scale_free = True
    relative_to = None

    def __post_init__(self):
        pair = self.window
        if not (isinstance(pair, tuple) and len(pair) == 2 and all(type(end) is int for end in pair)):
            raise TypeError(
                f"`window` must be two integers, the exponents of its ends, such as (-28, 0), got "
                f"{_checks.shown(pair)}."
            )
        octaves = pair[1] - pair[0]
        if not 24 <= octaves <= 31:
            raise ValueError(f"`window` must be 24 to 31 octaves wide, such as (-28, 0), got {pair} with {octaves}.")
        lowest, highest = pair[0] - self._below, pair[1] + 254 - 8 * octaves - self._below
        if lowest < -62 or highest > 62:
            raise ValueError(
                f"`window` must keep all codes within 2^-62 and 2^62, so that nu is a normal float32, got {pair} with "
                f"codes from 2^{lowest} to 2^{highest}."
            )

    @property
    def _below(self) -> int:
        """How many grid points lie below the window."""
        return (254 - 8 * (self.window[1] - self.window[0])) * 3 // 5

    @property
    def _origin(self) -> int:
        """The bits of the window's lower end as a float32."""
        return (127 + self.window[0]) << 23

    @_checks.keywords
    def encode(self, x: jax.Array, bits: jax.Array) -> jax.Array:
        """Return the codes of a mean square, float32 and at least 0, given dither bits of its shape, uint32."""
        check_encoded(x, bits)
        r = jnp.sqrt(x)
        z = settled(r) - self._origin  # fixed point, a code being 2^20
        width = (self.window[1] - self.window[0]) << 23
        inside = jnp.clip(z, 0, width)
        z = inside + ((z - inside) >> 3)
        # Between two points this far is linear in r: a parabola, zero at both, makes it linear in log r.
        fraction = (z >> 10) & 1023
        z = z + ((fraction * (1024 - fraction) * 11) >> 8)
        up = (bits >> 12).astype(jnp.int32)
        code = jnp.clip((z + up) >> 20, -self._below, 254 - self._below) + (1 + self._below)
        return jnp.where(r > 0, code, 0).astype(self.dtype)

    @_checks.keywords
    def decode(self, codes: jax.Array) -> jax.Array:
        """Return the mean square that codes stand for, in float32."""
        check_array("codes", codes, self.dtype)
        z = (codes.astype(jnp.int32) - (1 + self._below)) << 20
        width = (self.window[1] - self.window[0]) << 23
        inside = jnp.clip(z, 0, width)
        z = inside + ((z - inside) << 3)
        r = float_of(z + self._origin)
        return jnp.where(codes == 0, 0.0, r * r)


@_checks.init
@dataclasses.dataclass(frozen=True)
class SignedByte:
    r"""Keep a momentum or a mean in one signed byte: equal steps near 0, relative ones further out.

    The code counts the grid points between 0 and the moment :math:`m`. There are 16 an octave of :math:`|m|/s + 1/4`,
    :math:`s` being `unit`: a step is :math:`s/64` near 0 and about a sixteenth of :math:`|m|` far out. The grid ends at
    :math:`\pm 61 s`; values beyond it take its nearest end, and NaN becomes 0. By the dither, :math:`m` is right on
    average.

    A byte has no room for a scale, so `unit` must be about the size of what is kept. Relative to the root of the second
    moment that is 1. For the `trace` or `ema` of `rmsprop` it is the learning rate, or 1 with `lr_in_momentum=False`;
    where a schedule takes the rate far below `unit`, use `BFloat16` instead.

    Args:
      unit: :math:`s`, within 2^-100 and 2^100, in units of what is kept; the nearest power of 2 is used. A Python or
        NumPy number. None means 1, and needs `relative_to`. Structure.
      relative_to: None, or "nu" to keep the moment divided by the root of the second moment beside it, `nu` or else
        `variance`: the choice for `mu`, both of a centered RMSprop and of Adam. Structure.

    Raises:
      ValueError: No unit where it can't be told; a unit out of range; another field in `relative_to`.
      TypeError: A unit that is not a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import compression
      >>> codec = compression.SignedByte(1.0)
      >>> codes = codec.encode(jnp.array([0.0, -0.015625, 1.75]), jnp.zeros(3, jnp.uint32))
      >>> print(codes, codec.decode(codes))
      [ 0 -1 48] [ 0.       -0.015625  1.75    ]
    """

    unit: float | None = None
    relative_to: str | None = None

    dtype = jnp.int8
    signed = True
    scale_free = False

    def __post_init__(self):
        if self.relative_to is not None and not (isinstance(self.relative_to, str) and self.relative_to == "nu"):
            raise ValueError(
                '`relative_to` must be None or "nu", the second moment beside it, got '
                f"{_checks.shown(self.relative_to)}."
            )
        if self.unit is None and self.relative_to is None:
            raise ValueError(
                "Pass `unit`, about the size of what is kept: for the trace of rmsprop the learning rate, or 1.0 with "
                'lr_in_momentum=False. For mu pass relative_to="nu".'
            )
        if isinstance(self.unit, bool) or not isinstance(self.unit, int | float | np.integer | np.floating | None):
            raise TypeError(f"`unit` must be a number within 2^-100 and 2^100, got {_checks.shown(self.unit)}.")
        if self.unit is not None and not 2.0**-100 <= self.unit <= 2.0**100:
            raise ValueError(f"`unit` must be a number within 2^-100 and 2^100, got {self.unit!r}.")

    @_checks.keywords
    def encode(self, x: jax.Array, bits: jax.Array) -> jax.Array:
        """Return the codes of a moment, float32, given dither bits of its shape, uint32."""
        check_encoded(x, bits)
        z = settled(jnp.abs(x) * (1 / self._scale) + 0.25) - _QUARTER  # fixed point, a code being 2^19
        code = jnp.minimum((z + (bits >> 13).astype(jnp.int32)) >> 19, 128)
        signed = jnp.where(x > 0, jnp.minimum(code, 127), jnp.where(x < 0, -code, 0))
        return signed.astype(self.dtype)

    @_checks.keywords
    def decode(self, codes: jax.Array) -> jax.Array:
        """Return the moment that codes stand for, in float32."""
        check_array("codes", codes, self.dtype)
        codes = codes.astype(jnp.int32)
        magnitude = (float_of((jnp.abs(codes) << 19) + _QUARTER) - 0.25) * self._scale
        return jnp.where(codes < 0, -magnitude, magnitude)

    @property
    def _scale(self) -> float:
        return 1.0 if self.unit is None else 2.0 ** round(math.log2(self.unit))


@_checks.init
@dataclasses.dataclass(frozen=True)
class BFloat16:
    """Keep any moment in bfloat16, rounded up or down by the dither: two bytes, with a twentieth of the byte's noise.

    A finite value beyond bfloat16's range takes the nearest end of that range. Infinity and NaN stay what they are.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import compression
      >>> codec = compression.BFloat16()
      >>> [float(codec.encode(jnp.float32(1.001), jnp.uint32(bits))) for bits in (0, 2**32 - 1)]
      [1.0, 1.0078125]
    """

    dtype = jnp.bfloat16
    signed = True
    scale_free = True
    relative_to = None

    @_checks.keywords
    def encode(self, x: jax.Array, bits: jax.Array) -> jax.Array:
        """Return a moment, float32, in bfloat16, given dither bits of its shape, uint32."""
        check_encoded(x, bits)
        return truncate(x, 16, bits).astype(self.dtype)

    @_checks.keywords
    def decode(self, codes: jax.Array) -> jax.Array:
        """Return a moment in float32."""
        check_array("codes", codes, self.dtype)
        return codes.astype(jnp.float32)


def truncate(x: jax.Array, dropped: int, bits: jax.Array) -> jax.Array:
    """Round float32 up or down, by the dither, to numbers whose last `dropped` bits are 0; infinity and NaN stay."""
    mask = ~((1 << dropped) - 1) & 0xFFFFFFFF
    largest = float(np.array(0x7F7FFFFF & mask, np.uint32).view(np.float32))
    raw = jax.lax.bitcast_convert_type(jnp.clip(x, -largest, largest), jnp.uint32)
    rounded = (raw + (bits >> (32 - dropped))) & jnp.uint32(mask)
    return jnp.where(jnp.isfinite(x), float_of(rounded), x)


def dither(x: jax.Array, number: jax.Array, count: jax.Array) -> jax.Array:
    """Return dither bits, uint32, for the elements of a leaf; other leaves have other numbers, `count` is the step.

    Multiples of an irrational number's fraction fill the range evenly, step by step. A decay or exactly periodic
    gradients may resonate with one such number, so each element hashes which of four it takes, the golden ratio's
    fraction or that of the root of 7, up or down, and where it starts; and hashes again every 128 steps.
    """
    step, epoch = count.astype(jnp.uint32), (count >> 7).astype(jnp.uint32)
    first = jax.lax.platform_dependent(number.astype(jnp.uint32), epoch, cpu=_first_apart, default=_first)
    start = _mix(_index(x, first))
    ahead = step * jnp.where((start & 32) == 0, jnp.uint32(0x9E3779B9), jnp.uint32(0xA54FF53B))
    return start + jnp.where((start & 64) == 0, ahead, ~ahead)


def _first(number: jax.Array, epoch: jax.Array) -> jax.Array:
    """Return what all elements of a leaf add to their own number."""
    return number * jnp.uint32(0x85EBCA6B) + epoch * jnp.uint32(0xC2B2AE35)


def _first_apart(number: jax.Array, epoch: jax.Array) -> jax.Array:
    """Return `_first` as a product of two vectors, so that the leaf's number stays outside the kernel that encodes it.

    XLA compiles equal kernels once for a CPU, and writes scalar constants into a kernel: with its number in it, each
    leaf's kernel would be compiled again. A GPU would run one more small kernel for each leaf.
    """
    factors = jnp.stack([number * jnp.uint32(0x85EBCA6B), jnp.uint32(0xC2B2AE35)])
    return jnp.sum(factors * jnp.where(jnp.arange(2) == 0, jnp.uint32(1), epoch), dtype=jnp.uint32)


def _index(x: jax.Array, first: jax.Array) -> jax.Array:
    """Number the elements of an array in order from `first`, without flattening it, so that it may stay sharded.

    Inside `jax.shard_map` an array is one shard of several: those of the axes over which it varies are numbered on, one
    after the other in the order of the mesh. A shard does not know where in the whole array it was.

    `first` differs from leaf to leaf and is added before all else. If leaves of one shape had rows of equal numbers,
    XLA would compute these once, put all such leaves into a few kernels of a GPU, and read gradients and codes twice.
    """
    stride = x.size
    for name in reversed(_varying(x)):
        first = first + jax.lax.axis_index(name).astype(jnp.uint32) * jnp.uint32(stride % 2**32)
        stride *= jax.lax.axis_size(name)
    index = jnp.broadcast_to(first, x.shape)
    for axis in range(x.ndim):
        stride = math.prod(x.shape[axis + 1 :])
        index += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
    return index


def _varying(x: jax.Array) -> list[Any]:
    """Return the axes of the mesh over which an array inside `jax.shard_map` may differ, in the order of the mesh.

    An axis over which the array is the same is not among them. With `check_vma=False`, JAX knows of none.
    """
    aval = jax.typeof(x)
    varying = aval.vma if hasattr(aval, "vma") else aval.manual_axis_type.varying  # the former in older jax
    return [name for name in aval.sharding.mesh.axis_names if name in varying]


def _mix(x: jax.Array) -> jax.Array:
    """Hash 32 bits to 32, one to one; the constants are from Wellons' hash-prospector, its `lowbias32`."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def check_encoded(x: Any, bits: Any) -> None:
    """Refuse what is not a moment in float32 with dither bits of its shape."""
    check_array("x", x, jnp.float32)
    check_array("bits", bits, jnp.uint32)
    if bits.shape != () and bits.shape != x.shape:
        raise ValueError(f"`bits` must have the shape of `x`, {x.shape}, or be a scalar, got shape {bits.shape}.")


def check_array(name: str, x: Any, dtype: Any) -> None:
    if not isinstance(x, jax.Array | np.ndarray | np.generic) or x.dtype != dtype:
        raise TypeError(f"`{name}` must be an array of {jnp.dtype(dtype)}, got {_checks.shown(x)}.")


def settled(x: jax.Array) -> jax.Array:
    """Return the bits of x with 3 fewer: a root wrong by 3 units in its last place still meets its grid point."""
    return (bits_of(x) + 4) & ~7


def bits_of(x: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(x, jnp.int32)


def float_of(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


_QUARTER = 125 << 23  # the bits of 0.25 as a float32
