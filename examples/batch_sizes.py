"""From batch 1 to batch 512: a decay that keeps its half-life in examples, against one that stays the same number.

A character RNN on Python's own documentation sees 8,192 excerpts at each batch size. Each cell has a learning rate of
its own, from a sweep over three seeds, and is reported on four others. The square-root rule carries the numbers of
batch 64 to the other sizes without a sweep. Draws figures/batch_sizes.png. With --record, the picture, the results and
the table of the page go into docs.
"""

import functools
import json
import platform

import char_rnn
import jax
import matplotlib
import numpy as np
import optax
import recording
from tqdm import tqdm

from rmsprop_optax import rmsprop, scaling, sweep

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZES, BASE, DECAY, EPS = (1, 8, 64, 512), 64, 0.95, 1e-8
HALF_LIFE = BASE * np.log(2) / -np.log(DECAY)  # in excerpts: with it, decay is 0.95 at batch 64
WAYS = {"half-life": "half-life fixed", "decay": "decay fixed", "rule": "square-root rule from batch 64"}
TUNED, REPORTED = [0, 1, 2], [3, 4, 5, 6]
STYLES = {"half-life": ("-", "#D55E00"), "decay": ("--", "black"), "rule": (":", "#0072B2")}


def train(numbers, rates, size, excerpts, seeds):
    """Train with each rate and seed; return the sweep."""
    pieces = char_rnn.excerpts(char_rnn.TRAINING, excerpts // size, batch=size, length=25)
    held_out = char_rnn.excerpts(char_rnn.HELD_OUT, 1, batch=500, length=25)[0]
    start = functools.partial(char_rnn.start, hidden=64)
    make_tx = lambda rate: optax.chain(optax.clip(5.0), rmsprop(rate, **numbers))  # noqa: E731
    options = {"held_out": held_out, "seeds": seeds, "at_once": len(rates) * len(seeds) if size < 64 else None}
    return sweep.learning_rates(make_tx, char_rnn.loss_fn, start, pieces, rates, **options)


def cell(numbers, rate, size, excerpts):
    """Train with one rate on the seeds that are reported."""
    found = train(numbers, [rate], size, excerpts, REPORTED)
    return {"rate": rate, "decay": numbers["decay"], "final": found.final[0].tolist()}


def study(excerpts, octaves, sizes):
    decays = {size: {"half-life": scaling.decay(HALF_LIFE, size), "decay": DECAY} for size in sizes}
    results = {way: {} for way in WAYS}
    for size in tqdm((BASE, *(size for size in sizes if size != BASE)), disable=None):
        middle = np.log2(0.032) + np.log2(size / BASE) / 2
        rates = 2.0 ** (middle + np.asarray(octaves))
        for way, decay in decays[size].items():
            numbers = {"decay": decay, "eps": EPS}
            if size == BASE and way == "decay":  # the same numbers
                results[way][size] = results["half-life"][size]
                continue
            rate = train(numbers, rates, size, excerpts, TUNED).suggest().learning_rate
            results[way][size] = cell(numbers, rate, size, excerpts) | {"swept": [rates[0], rates[-1]]}
        tuned = results["half-life"][BASE]
        numbers = scaling.rescaled(BASE, size, learning_rate=tuned["rate"], decay=DECAY, eps=EPS)
        rate = numbers.pop("learning_rate")
        results["rule"][size] = tuned if size == BASE else cell(numbers, rate, size, excerpts)
    return {way: {size: cells[size] for size in sizes} for way, cells in results.items()}


def mean(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"


def difference(cells, way):
    """Return the paired difference to the fixed half-life, with its standard error."""
    return mean(np.subtract(cells[way]["final"], cells["half-life"]["final"]))


def tables(results):
    """Return the table of the page."""
    head = ["batch", "steps", "decay", *WAYS.values(), "decay less half-life", "rule less half-life"]
    rows = []
    for size in results["results"]["half-life"]:
        cells = {way: results["results"][way][size] for way in WAYS}
        losses = [f"{mean(found['final'])} at {found['rate']:.2g}" for found in cells.values()]
        decay = f"{cells['half-life']['decay']:.4g} or {DECAY}"
        steps = results["excerpts"] // int(size)
        rows.append([size, steps, decay, *losses, difference(cells, "decay"), difference(cells, "rule")])
    return {"sizes": recording.table(head, rows)}


def draw(results, path):
    figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
    for way, label in WAYS.items():
        cells = results["results"][way]
        line, color = STYLES[way]
        losses = np.array([found["final"] for found in cells.values()])
        error = losses.std(1, ddof=1) / np.sqrt(losses.shape[1])
        sizes = [int(size) for size in cells]
        ax.errorbar(sizes, losses.mean(1), error, color=color, linestyle=line, marker="o", capsize=3, label=label)
    ax.set(xscale="log", xlabel="excerpts in a batch", ylabel="held-out loss, nats a character")
    ax.set_xticks(sizes, sizes)
    ax.minorticks_off()
    ax.legend(frameon=False, title="mean and standard error", alignment="left")
    figure.savefig(path, dpi=150)


def main():
    args = recording.parser(__doc__).parse_args()
    excerpts, octaves, sizes = (512, [0, 1], (BASE,)) if args.quick else (8192, [-2, -1, 0, 1, 2], SIZES)
    versions = {"jax": jax.__version__, "optax": optax.__version__, "python": platform.python_version()}
    results = {"versions": versions, "excerpts": excerpts, "results": study(excerpts, octaves, sizes)}
    results = json.loads(json.dumps(results))

    draw(results, recording.figures(args.record) / "batch_sizes.png")
    if args.record:
        recording.write_page("batch_sizes", results, tables(results))
    for size in results["results"]["half-life"]:
        print(f"batch {size}: " + ", ".join(f"{way} {mean(results['results'][way][size]['final'])}" for way in WAYS))


if __name__ == "__main__":
    main()
