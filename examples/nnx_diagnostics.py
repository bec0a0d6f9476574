"""Look inside RMSprop while a Flax NNX model trains: effective rates, eps, and how often updates turn back.

Logs every step from inside the jitted step, prints some of it, and draws in figures/ how the effective learning rates
spread.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from digits import Classifier, load, loss_fn
from flax import nnx

from rmsprop_optax import diagnostics, plots, rmsprop

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LEARNING_RATE, EPS, QUANTILES = 0.008, 1e-8, (0.25, 0.5, 0.75)


@nnx.jit
def train_step(model, optimizer, previous, images, labels):
    """Return the loss, the updates, and what there is to log."""
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))  # the state itself changes with the model
    loss, grads = nnx.value_and_grad(loss_fn)(model, images, labels)
    optimizer.update(model, grads)
    updates = jax.tree.map(lambda new, old: new - old, nnx.state(model, nnx.Param), before)
    log = diagnostics.measure(grads, updates, optimizer.opt_state, before, LEARNING_RATE, eps=EPS, quantiles=QUANTILES)
    return loss, updates, log | {"turns": diagnostics.oscillation(previous, updates)["all"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    steps = 20 if args.quick else 300

    images, _, labels, _ = load()
    model = Classifier(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, rmsprop(LEARNING_RATE, eps=EPS), wrt=nnx.Param)
    updates, logs = nnx.state(model, nnx.Param), []
    rng = np.random.default_rng(0)
    print(" step    loss  update/weight  effective rate: 25, 50, 75 %    eps dominates  turned back")
    for step in range(1, steps + 1):
        batch = rng.integers(len(images), size=64)
        loss, updates, log = train_step(model, optimizer, updates, images[batch], labels[batch])
        logs.append(jax.device_get(log["leaves"]))
        if step % 50 == 0 or step == steps:
            now = log["all"]
            rates = "  ".join(f"{rate:8.4f}" for rate in now["effective_learning_rate"])
            print(
                f"{step:>5}  {loss:6.3f}  {now['update_to_weight']:13.4f}  {rates:>31}  {now['eps_dominates']:13.1%}"
                f"  {log['turns']['reversed']:11.1%}"
            )

    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    shown = {
        "hidden/kernel/value": "hidden weights",
        "out/kernel/value": "output weights",
        "out/bias/value": "output biases",
    }
    plots.effective_learning_rates(
        {name: np.stack([leaves[path]["effective_learning_rate"] for leaves in logs]) for path, name in shown.items()},
        ax=ax,
    )
    ax.set_title(f"What becomes of a learning rate of {LEARNING_RATE}: median and middle half", fontsize=10)
    folder = pathlib.Path("figures")
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "effective_learning_rates.png", dpi=150)
    print(f"wrote {folder / 'effective_learning_rates.png'}")


if __name__ == "__main__":
    main()
