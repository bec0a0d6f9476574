"""Find the learning rate of a Flax classifier of handwritten digits, for each of four optimizers.

Trains 60 rates with 5 seeds each, those of an optimizer in one compiled program, and compares their losses on images
that are neither for training nor for testing; prints what it suggests and draws it in figures/. Under a minute on two
cores. With --record, picture and results go into docs.
"""

import functools

import flax
import matplotlib
import numpy as np
import optax
import recording
from digits import Classifier, load
from flax import nnx

from rmsprop_optax import plots, rmsprop, sweep

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OPTIMIZERS = {  # and the powers of two between which the learning rate is searched
    "SGD": (optax.sgd, (-5, 3)),
    "SGD with momentum": (functools.partial(optax.sgd, momentum=0.9), (-7, 1)),
    "RMSprop": (rmsprop, (-11, -1)),
    "Adam": (optax.adam, (-11, -1)),
}
SHOWN = {"SGD": "black", "RMSprop": "#D55E00"}
SEEDS = range(5, 10)  # digits.py reports others
graph, _ = nnx.split(Classifier(nnx.Rngs(0)))


def start(key):
    return nnx.state(Classifier(nnx.Rngs(key)), nnx.Param)


def loss_fn(params, batch):
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graph, params)(x), y).mean()


def main():
    args = recording.parser(__doc__).parse_args()
    steps, spacing = (20, 2) if args.quick else (450, 0.5)

    images, _, labels, _ = load()
    chosen = np.random.default_rng(0).integers(1150, size=(steps, 64))  # of the 1437 images for training
    batches, held_out = (images[chosen], labels[chosen]), (images[1150:], labels[1150:])
    sweeps, rows = {}, []
    for name in SHOWN if args.quick else OPTIMIZERS:
        make_tx, (low, high) = OPTIMIZERS[name]
        rates = 2.0 ** np.arange(low, high + 0.1, spacing)
        sweeps[name] = sweep.learning_rates(
            make_tx, loss_fn, start, batches, rates, held_out=held_out, seeds=SEEDS, progress=True
        )
        rate, reason = sweeps[name].suggest()
        rows.append([name, *(f"{x:.2g}" for x in (rate, sweeps[name].final.mean(1).min(), sweeps[name].edge))])
        print(f"{name}: {reason}")

    figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    plots.sweep({name: sweeps[name] for name in SHOWN}, colors=SHOWN, ax=ax)
    ax.set_title(f"Digits: held-out loss after {steps} steps, {len(SEEDS)} seeds", fontsize=11)
    recording.draw(figure, "sweep", args.record)
    if args.record:
        columns = ["optimizer", "suggested rate", "lowest held-out loss", "largest stable rate"]
        recording.write("sweep", columns, rows, versions={"flax": flax.__version__})


if __name__ == "__main__":
    main()
