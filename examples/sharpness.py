"""How sharp the loss is for RMSprop's steps: it rises to 2 and stays near it, and a rate beyond that need not diverge.

Trains on all data at once: a classifier of handwritten digits at three rates, drawn, and five tasks on which a reading
at a sixteenth of the suggested rate is compared with the largest stable rate of a sweep. Draws figures/sharpness.png.
With --record, the picture, the results and the table of the page go into docs. A minute on two cores.
"""

import functools
import platform

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import recording
from sklearn.datasets import load_digits
from tqdm import tqdm

from rmsprop_optax import diagnostics, rmsprop, sweep

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DECAY, COLOR, DRAWN = 0.99, "#D55E00", (0.0003, 0.001, 0.003)
IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, LABELS = jnp.asarray(IMAGES[:1000] / 16, jnp.float32), jnp.asarray(LABELS[:1000])
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(200, 8)), jnp.float32)
TARGETS = jnp.tanh(INPUTS @ jnp.asarray(np.random.default_rng(1).normal(size=8), jnp.float32))


def start(sizes, key):
    keys = jax.random.split(key, len(sizes) - 1)
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [{"w": jax.random.normal(k, (a, b)) / np.sqrt(a), "b": jnp.zeros(b)} for k, a, b in shapes]


def network(layers, x, activation=jnp.tanh):
    for layer in layers[:-1]:
        x = activation(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def classify(layers, activation=jnp.tanh):
    logits = network(layers, IMAGES, activation)
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


def regress(layers):
    return jnp.mean((network(layers, INPUTS)[:, 0] - TARGETS) ** 2)


def valley(x):
    """Rosenbrock's function of 20 numbers."""
    return jnp.mean(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


TASKS = {
    "digits, one layer": (functools.partial(start, (64, 10)), classify),
    "digits, tanh": (functools.partial(start, (64, 64, 10)), classify),
    "digits, relu, three layers": (
        functools.partial(start, (64, 64, 64, 10)),
        functools.partial(classify, activation=jax.nn.relu),
    ),
    "regression, tanh": (functools.partial(start, (8, 32, 1)), regress),
    "Rosenbrock's valley": (lambda key: jax.random.normal(key, (20,)) / 2, valley),
}


def readings(task, rate, steps, every):
    """Train; return the steps, the sharpness and the loss at each reading."""
    make, loss_fn = TASKS[task]
    tx, params = rmsprop(rate, decay=DECAY), make(jax.random.key(0))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def read(carry, _):
        params, state = carry = jax.lax.scan(step, carry, None, length=every)[0]
        return carry, (diagnostics.sharpness(loss_fn, params, state, rate), loss_fn(params))

    _, found = jax.jit(lambda carry: jax.lax.scan(read, carry, None, length=steps // every))((params, tx.init(params)))
    return [every * (i + 1) for i in range(steps // every)], *np.asarray(found).tolist()


def compare(task, steps, rates):
    """Predict the edge from a sixteenth of the suggested rate, and find it by a sweep."""
    make, loss_fn = TASKS[task]
    tx = lambda rate: rmsprop(rate, decay=DECAY)  # noqa: E731
    found = sweep.learning_rates(tx, lambda p, _: loss_fn(p), make, None, rates, steps=steps, seeds=3)
    rate = found.suggest().learning_rate / 16
    sharpness = readings(task, rate, steps, steps)[1][-1]
    return {"rate": rate, "sharpness": sharpness, "predicted": 2 * rate / sharpness, "edge": found.edge}


def draw(runs, path):
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6), layout="constrained")
    for (rate, (steps, sharpness, loss)), style in zip(runs.items(), ("-", "--", ":"), strict=False):
        for ax, values in zip(axes, (sharpness, loss), strict=True):
            ax.plot(steps, values, color=COLOR, linestyle=style, label=f"learning rate {rate}")
    axes[0].axhline(2, color="black", linewidth=0.8, label="2, the edge of stability", zorder=0)
    axes[0].legend(*(found[-1:] for found in axes[0].get_legend_handles_labels()), loc="upper right", frameon=False)
    axes[0].set(xlabel="step", ylabel="sharpness", ylim=(0, 3), yticks=range(4))
    axes[1].set(xlabel="step", ylabel="training loss", yscale="log")
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=150)


def tables(results):
    """Return the table of the page."""
    head = ["", "rate of the reading", "sharpness", "predicted edge", "edge of the sweep", "edge over predicted"]
    rows = []
    for task, found in results["edges"].items():
        numbers = [f"{found[key]:.2g}" for key in ("rate", "sharpness", "predicted", "edge")]
        rows.append([task, *numbers, f"{found['edge'] / found['predicted']:.0f}"])
    return {"edges": recording.table(head, rows)}


def main():
    args = recording.parser(__doc__).parse_args()
    steps, rates = (20, [0.01, 0.1]) if args.quick else (400, 2.0 ** np.arange(-14, 2, 0.5))

    every = 10 if args.quick else 20
    runs = {rate: readings("digits, tanh", rate, 2 * steps, every) for rate in ((0.001,) if args.quick else DRAWN)}
    tasks = list(TASKS)[:1] if args.quick else list(TASKS)
    edges = {task: compare(task, steps, rates) for task in tqdm(tasks, disable=None)}
    versions = {"jax": jax.__version__, "optax": optax.__version__, "python": platform.python_version()}
    results = {"versions": versions, "runs": {str(rate): run for rate, run in runs.items()}, "edges": edges}

    draw(runs, recording.figures(args.record) / "sharpness.png")
    if args.record:
        recording.write_page("sharpness", results, tables(results))
    for task, found in edges.items():
        print(f"{task}: predicted {found['predicted']:.2g}, found {found['edge']:.2g}")
    for rate, (_, sharpness, _) in runs.items():
        print(f"rate {rate}: sharpness {np.mean(sharpness[-10:]):.2f} at the end")


if __name__ == "__main__":
    main()
