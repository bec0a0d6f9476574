"""Handwritten digits: a Flax classifier trained by four optimizers, with five seeds each.

Prints a table and draws two pictures in figures/: the training curves, and the paths of plain descent and of RMSprop
through an ill-conditioned valley. Runs in under a minute on two cores. With --record, pictures and results go into
docs.
"""

import flax
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import recording
from flax import nnx
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from rmsprop_optax import plots, rmsprop

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEEDS, LAST = 5, 20
RATES = {
    "SGD": 0.71,
    "SGD with momentum": 0.2,
    "RMSprop": 0.0047,
    "Adam": 0.031,
}  # suggested by sweep.py, on other seeds
OPTIMIZERS = {
    "SGD": optax.sgd(RATES["SGD"]),
    "SGD with momentum": optax.sgd(RATES["SGD with momentum"], momentum=0.9),
    "RMSprop": rmsprop(RATES["RMSprop"]),
    "Adam": optax.adam(RATES["Adam"]),
}
STYLES = {
    "SGD": ("black", ":"),
    "SGD with momentum": ("#0072B2", "--"),
    "RMSprop": ("#D55E00", "-"),
    "Adam": ("#009E73", "-."),
}


def load():
    """Return the images and the labels, of which a fifth is for testing."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split(images.astype(np.float32) / 16, labels, test_size=0.2, random_state=0, stratify=labels)


class Classifier(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


def loss_fn(model, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


@nnx.jit
@nnx.vmap  # over the seeds
def train_step(model, optimizer, images, labels):
    loss, grads = nnx.value_and_grad(loss_fn)(model, images, labels)
    optimizer.update(model, grads)
    return loss


@nnx.jit
@nnx.vmap(in_axes=(0, None, None))
def accuracy(model, images, labels):
    return (model(images).argmax(-1) == labels).mean()


def train(name, data, steps):
    """Return the training loss and the test accuracy after every step, of each seed."""
    x_train, x_test, y_train, y_test = data

    @nnx.vmap
    def begin(key):
        model = Classifier(nnx.Rngs(key))
        return model, nnx.Optimizer(model, OPTIMIZERS[name], wrt=nnx.Param)

    model, optimizer = begin(jax.vmap(jax.random.key)(jnp.arange(SEEDS)))
    rng, losses, accuracies = np.random.default_rng(0), [], []
    for _ in tqdm(range(steps), desc=f"{name:>17}", unit="step"):
        batch = rng.integers(len(x_train), size=(SEEDS, 64))
        losses.append(train_step(model, optimizer, x_train[batch], y_train[batch]))
        accuracies.append(accuracy(model, x_test, y_test))
    return np.stack(losses, 1), np.stack(accuracies, 1)


def table(curves):
    """Return the columns, a row for each optimizer, and the numbers of each seed: means of the last steps."""
    columns = ["optimizer", "learning rate", "test accuracy", "steps to 95 %", "final loss"]
    rows, seeds = [], {}
    for name, (losses, accuracies) in curves.items():
        accuracy, loss = accuracies[:, -LAST:].mean(1), losses[:, -LAST:].mean(1)
        steps = [int(np.argmax(a >= 0.95)) + 1 for a in accuracies if (a >= 0.95).any()]
        cells = [f"{recording.spread(accuracy, 100)} %", recording.reached(steps, SEEDS)]
        rows.append([name, f"{RATES[name]:g}", *cells, recording.spread(loss, digits=4)])
        seeds[name] = {"accuracy": accuracy.tolist(), "steps": steps, "loss": loss.tolist()}
    return columns, rows, seeds


def draw_curves(curves):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for name, (losses, accuracies) in curves.items():
        color, line = STYLES[name]
        for ax, series in ((left, losses), (right, 100 * accuracies)):
            width = min(LAST, series.shape[1])
            smooth = np.stack([np.convolve(x, np.ones(width) / width, mode="valid") for x in series])
            x = np.arange(smooth.shape[1]) + width
            ax.plot(x, smooth.mean(0), color=color, linestyle=line, label=name, zorder=3)
            ax.fill_between(x, smooth.min(0), smooth.max(0), color=color, alpha=0.15, linewidth=0, zorder=2)
    left.set(yscale="log", xlabel="step", ylabel="training loss")
    right.set(xlabel="step", ylabel="test accuracy in %", ylim=(85, 99))
    right.axhline(95, color="0.6", linewidth=0.8, label="95 %", zorder=0)
    right.legend(loc="lower right")
    figure.suptitle(f"Handwritten digits, {SEEDS} seeds: mean and range of means of {LAST} steps")
    return figure


def valley(x, y):
    return 0.5 * (x**2 + 30 * y**2)


def descend(tx, steps, start=(-2.0, 1.3)):
    """Return the points of a descent through the valley, the start first."""
    params = jnp.array(start)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(lambda p: valley(*p))(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    _, points = jax.lax.scan(step, (params, tx.init(params)), None, length=steps)
    return np.concatenate([params[None], points])


def draw_paths():
    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    routes = {"plain descent": descend(optax.sgd(0.062), 40), "RMSprop": descend(rmsprop(0.055), 40)}
    plots.paths(valley, routes, colors={"plain descent": "black", "RMSprop": "#D55E00"}, ax=ax)
    ax.set_title("40 steps through a valley 30 times as steep across as along", fontsize=11)
    return figure


def main():
    args = recording.parser(__doc__).parse_args()

    data, steps = load(), 20 if args.quick else 450
    names = ["RMSprop"] if args.quick else OPTIMIZERS
    curves = {name: train(name, data, steps) for name in names}
    columns, rows, seeds = table(curves)
    for cells in (columns, *rows):
        print("{:<19}{:<15}{:<16}{:<15}{}".format(*cells))

    recording.draw(draw_curves(curves), "digits", args.record)
    recording.draw(draw_paths(), "paths", args.record)
    if args.record:
        recording.write("digits", columns, rows, versions={"flax": flax.__version__}, seeds=seeds)


if __name__ == "__main__":
    main()
