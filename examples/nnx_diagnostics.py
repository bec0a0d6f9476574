"""Look inside RMSprop while a Flax NNX model trains: effective rates, eps, and how often updates turn back.

Logs every tenth step from inside the jitted step and draws how the effective learning rates spread.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from digits import Classifier, loss_fn
from flax import nnx
from sklearn.datasets import load_digits

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
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    model = Classifier(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, rmsprop(LEARNING_RATE, eps=EPS), wrt=nnx.Param)
    updates, logs = nnx.state(model, nnx.Param), []
    rng = np.random.default_rng(0)
    print(" step    loss  update/weight  effective rate: 25, 50, 75 %    eps dominates  turned back")
    for step in range(1, args.steps + 1):
        batch = rng.integers(1500, size=64)
        loss, updates, log = train_step(model, optimizer, updates, images[batch], labels[batch])
        logs.append(jax.device_get(log["leaves"]))
        if step % 50 == 0 or step == args.steps:
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
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "effective_learning_rates.png", dpi=150)
    print(f"wrote {args.out / 'effective_learning_rates.png'}")


if __name__ == "__main__":
    main()
