"""Three and two bits an element for `nu`, and four below the largest: python tests/benchmarks/fewer_bits.py [--quick].

Like `RmsNibble`, whose figures stand beside them, a code of so few bits holds the root r of `nu` relative to an
estimate that is kept for each row and each column, the last axis being the columns and all others the rows:

    mean     the root of (mean of its row x mean of its column / mean of all), as a factored state has it
    largest  the smaller of the largest r in its row and the largest in its column, which no r in the array is above

The points are some of those of `RmsByte`, eight an octave, and lie the denser the nearer the estimate. In a zone of
spacing s they are the multiples of s, in eighths of an octave, wherever the estimate is: so a new estimate moves no
number that was already a point of its zone. One more code is 0. The dither rounds up or down so that on average the
fourth root of r is right for `mean`, and its logarithm for `largest`, which brings the gain nearest to 1. An r below
all points takes the lowest. About `mean`, one more code is `largest`, for an r above all other points: there the
dither leaves `nu` right on average. Vectors and scalars are in the byte.

Then the digits' perceptron is trained with each code and, from the same starts on the same batches, in float32.

Writes results/fewer_bits.json after each code and goes on where it was stopped; the tables are printed in Markdown.
"""

import argparse
import json
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import streams
import tables
import tasks
import training
from codes import CODES as COMPARED
from codes import Code, ours

from rmsprop_optax.compression import RmsByte, RmsNibble
from rmsprop_optax.compression.codecs import bits_of, dither, float_of

LEAST, MOST = 8 * (127 - 56), 8 * (127 + 56)  # of an estimate: all points squared are normal floats
RESULTS = pathlib.Path(__file__).parent / "results" / "fewer_bits.json"


class Grid(NamedTuple):
    """The points of a code about an estimate, in eighths of an octave, from the lowest zone to the highest."""

    bits: int
    spacings: tuple[int, ...]
    ends: tuple[int, ...]  # of the zones, one more than there are spacings, relative to the estimate
    right: Any  # the function of r that rounding leaves right on average


def mean(r):
    """Return the estimate of every element, a whole number of eighths of an octave of r."""
    nu = r * r
    rows, columns, whole = nu.mean(-1, keepdims=True), nu.mean(_rows(r), keepdims=True), nu.mean()
    return bits_of(jnp.sqrt(rows * (columns / jnp.where(whole > 0, whole, 1)))) + (1 << 19) >> 20


def largest(r):
    """Return the estimate of every element, rounded up, to a quarter of an octave."""
    quarters = bits_of(r) + (1 << 21) - 1 >> 21
    return 2 * jnp.minimum(quarters.max(-1, keepdims=True), quarters.max(_rows(r), keepdims=True))


def _rows(x):
    return tuple(range(x.ndim - 1))


def in_zones(estimate, grid):
    """Return the code: through the nearest point below or above, by the dither."""

    def through(nu, number, count):
        if nu.ndim < 2:
            return ours(RmsByte())(nu, number, count)
        r = jnp.sqrt(nu)
        near = jnp.clip(estimate(r), LEAST, MOST)
        bits = dither(nu, jnp.uint32(number), count)
        back = jnp.square(rounded(r, near, grid, bits))
        if estimate is mean:
            highest = jnp.square(float_of(zone_ends(near, grid)[-1] << 20))
            most = jnp.square(float_of(jnp.clip(largest(r), LEAST, MOST) << 20))
            up = (nu - highest) / (most - highest) * (1 << 24) + (bits >> 8).astype(jnp.float32) >= 1 << 24
            back = jnp.where(nu > highest, jnp.where(up, most, highest), back)
        return jnp.where(r > 0, back, 0.0)

    return through


def rounded(r, near, grid, bits):
    """Return the nearest point of a grid below r or the one above, about the estimate `near`."""
    ends = zone_ends(near, grid)
    lowest, highest = ends[0] << 20, ends[-1] << 20
    inside = jnp.clip(bits_of(r), lowest, highest)
    at = jnp.minimum(inside, highest - 1) >> 20
    spacing = jnp.full(r.shape, grid.spacings[0])
    for end, wider in zip(ends[1:-1], grid.spacings[1:], strict=True):
        spacing = jnp.where(at >= end, wider, spacing)
    below = at // spacing * spacing
    low, high, here = (grid.right(float_of(x)) for x in (below << 20, below + spacing << 20, inside))
    up = (here - low) / (high - low) * (1 << 20) + (bits >> 12).astype(jnp.float32) >= 1 << 20
    return float_of(jnp.where(up, below + spacing, below) << 20)


def zone_ends(estimate, grid):
    """Return where the zones end: a multiple of the wider spacing beside each end, away from the estimate."""
    ends = []
    for i, end in enumerate(grid.ends):
        wider = max(grid.spacings[max(i - 1, 0) : i + 1])
        moved = estimate + end
        ends.append((moved // wider if end <= 0 else -(-moved // wider)) * wider)
    return ends


def _fourth_root(r):
    return jnp.sqrt(jnp.sqrt(r))


GRIDS = {
    "4 bits, largest": (largest, Grid(4, (4, 2), (-32, -22, 0), jnp.log)),
    "3 bits, mean": (mean, Grid(3, (4,), (-9, 8), _fourth_root)),
    "2 bits, mean": (mean, Grid(2, (8,), (0, 1), _fourth_root)),
}
CODES = {name: COMPARED[name] for name in ("byte", "nibble")}
CODES |= {name: Code(grid.bits / 8, in_zones(estimate, grid)) for name, (estimate, grid) in GRIDS.items()}
CODES["0 bits"] = COMPARED["factored"]


def stored(task, name):
    """Return the bytes a parameter: of a code's bits, and of what it keeps of each row and each column.

    That is a mean in float32 and the largest in a byte, or one of them; for `RmsNibble` it is counted from its arrays.
    """
    shapes = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(task.init, jax.random.key(0)))]
    return sum(_bytes(shape, name) for shape in shapes) / sum(map(math.prod, shapes))


def _bytes(shape, name):
    if name == "byte" or len(shape) < 2:
        return math.prod(shape)
    if name == "nibble":
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        scales = jax.eval_shape(RmsNibble().scales, x)
        codes = jax.eval_shape(RmsNibble().encode, x, jax.ShapeDtypeStruct(shape, jnp.uint32), scales)
        return sum(array.size * array.dtype.itemsize for array in (codes, *scales.values()))
    scale = 1 if "largest" in name else 5 if "mean" in name else 4
    return math.prod(shape) * CODES[name].bytes_per_parameter + scale * (math.prod(shape[:-1]) + shape[-1])


def run(steps, found):
    """Measure the codes that are not yet found, and yield after each."""
    for name, task, count in zip(("digits", "manual"), (tasks.cnn(), tasks.transformer()), steps, strict=True):
        rows = found.get(name, {})
        for code in CODES:
            if code not in rows:
                measured = streams.measure(task, count, {code: CODES[code]})
                rows[code] = {decay: figures[code] for decay, figures in measured.items()}
                rows[code]["bytes"] = stored(task, code)
                found[name] = {each: rows[each] for each in CODES if each in rows}
                yield


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs; writes nothing")
    quick = parser.parse_args().quick
    found = {"streams": {}} if quick or not RESULTS.exists() else json.loads(RESULTS.read_text())

    def save():
        if not quick:
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")

    for _ in run((100, 50) if quick else (2500, 1600), found["streams"]):
        save()
    if "training" not in found:
        codes = {name: (training.coded(code), False) for name, code in CODES.items()}
        steps, seeds = (20, 2) if quick else (1000, 128)
        found["training"] = {"digits": training.compare(tasks.mlp(), 1e-3, steps, range(seeds), codes)}
        save()
    print("\n\n".join(tables.fewer_bits(found)))


if __name__ == "__main__":
    main()
