"""Find the learning rate of a Flax classifier of handwritten digits, for plain descent and for RMSprop.

Trains 40 rates with 3 seeds each, all in one compiled program; prints what it suggests and draws it. Under a minute on
two cores.
"""

import argparse
import pathlib

import jax
import matplotlib
import numpy as np
import optax
from digits import Classifier
from flax import nnx
from sklearn.datasets import load_digits

from rmsprop_optax import plots, rmsprop, sweep

matplotlib.use("Agg")
import matplotlib.pyplot as plt

images, labels = load_digits(return_X_y=True)
images = images.astype(np.float32) / 16
graph, _ = nnx.split(Classifier(nnx.Rngs(0)))


def start(key):
    return nnx.state(Classifier(nnx.Rngs(key)), nnx.Param)


def loss_fn(params, batch):
    x, y = batch
    return optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graph, params)(x), y).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()

    chosen = np.random.default_rng(0).integers(1500, size=(args.steps, 64))
    batches, held_out = (images[chosen], labels[chosen]), (images[1500:], labels[1500:])
    sweeps = {}
    for name, make_tx, octaves in (("SGD", optax.sgd, (-5, 4)), ("RMSprop", rmsprop, (-11, 0))):
        rates = 2.0 ** np.arange(*octaves, 0.5)
        sweeps[name] = sweep.learning_rates(make_tx, loss_fn, start, batches, rates, seeds=3, progress=True)
        print(f"{name}: {sweeps[name].suggest().reason}")

    figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
    plots.sweep(sweeps, colors={"SGD": "black", "RMSprop": "#D62728"}, ax=ax)
    ax.set_title(f"Digits, {args.steps} steps, 3 seeds; star: suggested, dashes: edge of stability", fontsize=10)
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "sweep.png", dpi=150)
    print(f"wrote {args.out / 'sweep.png'}")

    params, rate = start(jax.random.key(9)), sweeps["RMSprop"].suggest().learning_rate
    alone = sweep.learning_rates(rmsprop, loss_fn, params, batches, [rate], held_out=held_out)
    print(f"RMSprop at {rate:.2g} from another start: held-out loss {alone.held_out[0]:.3f}")


if __name__ == "__main__":
    main()
