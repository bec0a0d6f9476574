"""Move a run from PyTorch to Flax in the middle: weights, statistics, momentum and schedule.

A classifier of handwritten digits is trained with torch.optim.RMSprop under a schedule, and its gradients are kept.
Half way, weights and optimizer move to Flax, and both go on along the same gradients. The picture in --out shows both
paths, and what becomes of a run that moves its weights alone. Where Keras is installed, its RMSprop takes the same
gradients and moves, too. Runs in seconds on two cores.
"""

import argparse
import copy
import os
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import torch
from flax import nnx
from sklearn.datasets import load_digits
from tqdm import tqdm

from rmsprop_optax import checkpoint, dialects

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NUMBERS = {"alpha": 0.9, "eps": 1e-3, "momentum": 0.9, "weight_decay": 1e-3, "centered": True}
KERAS_NUMBERS = {
    "rho": 0.9,
    "epsilon": 1e-6,
    "momentum": 0.9,
    "weight_decay": 1e-3,
    "centered": True,
}  # eps is in the root there


def rate(step):
    """Fall from 0.003 to a tenth and a hundredth of it."""
    return 0.003 * 0.1 ** (step // 50)


class Classifier(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 32, rngs=rngs)
        self.out = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


def to_flax(weights):
    """Turn PyTorch's weights, by name, into Flax's parameters. The statistics go through it, too."""
    return {
        "hidden": {"kernel": weights["0.weight"].T, "bias": weights["0.bias"]},
        "out": {"kernel": weights["2.weight"].T, "bias": weights["2.bias"]},
    }


def to_numpy(named):
    return {name: tensor.detach().numpy().copy() for name, tensor in named}


def train_torch(images, labels, steps):
    """Return weights after each step, gradients of each step, and the optimizer's state half way."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.RMSprop(model.named_parameters(), lr=rate(0), **NUMBERS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step) / rate(0))
    rng, path, grads = np.random.default_rng(0), [], []
    for step in tqdm(range(steps), desc="PyTorch", unit="step"):
        batch = rng.integers(len(images), size=64)
        optimizer.zero_grad()
        logits = model(torch.tensor(images[batch]))
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels[batch])).backward()
        grads.append(to_numpy((name, weight.grad) for name, weight in model.named_parameters()))
        optimizer.step()
        schedule.step()
        path.append(to_numpy(model.named_parameters()))
        if step + 1 == steps // 2:
            half_way = copy.deepcopy(optimizer.state_dict())
    return path, grads, half_way


def train_keras(start, grads):
    """Return weights after each step on the gradients, and the optimizer's variables half way. Keras may be missing."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras  # noqa: PLC0415

    weights = {name: keras.Variable(x.T, name=name.replace(".", "_")) for name, x in start.items()}
    optimizer = keras.optimizers.RMSprop(rate(0), **KERAS_NUMBERS)
    path = []
    for step, g in enumerate(tqdm(grads, desc="Keras", unit="step")):
        optimizer.learning_rate = rate(step)
        optimizer.apply([keras.ops.convert_to_tensor(g[name].T) for name in weights], list(weights.values()))
        path.append({name: np.array(weight.numpy()).T for name, weight in weights.items()})
        if step + 1 == len(grads) // 2:
            half_way = {v.path: v.numpy() for v in optimizer.variables}
    return path, half_way


def go_on(tx, state, weights, grads):
    """Return Flax's parameters after each step on the gradients, the start first."""
    params, path = jax.tree.map(jnp.asarray, to_flax(weights)), []
    update = jax.jit(tx.update)
    for g in tqdm(grads, desc="Flax", unit="step"):
        path.append(params)
        updates, state = update(to_flax(g), state, params)
        params = optax.apply_updates(params, updates)
    return [*path, params]


def distances(ours, theirs):
    """Return the largest distance of any parameter, after each step."""
    pairs = [(jax.tree.leaves(a), jax.tree.leaves(to_flax(b))) for a, b in zip(ours, theirs, strict=True)]
    return np.array([max(np.max(np.abs(x - y)) for x, y in zip(a, b, strict=True)) for a, b in pairs])


def losses(path, images, labels):
    """Return the loss of Flax's model on the images, for each of the parameters."""
    graph, _ = nnx.split(Classifier(nnx.Rngs(0)))

    @jax.jit
    def loss(params):
        model = nnx.merge(graph, nnx.State(jax.tree.map(nnx.Param, params)))
        return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

    return np.array([loss(params) for params in path])


STYLES = {
    "before": {"color": "0.75", "linewidth": 6},
    "with statistics": {"color": "#0072B2", "linewidth": 1.8},
    "without": {"color": "#D55E00", "linewidth": 1.8, "linestyle": "--"},
}


def draw(runs, half):
    """Draw a panel for each framework, with the losses along its path and along ours, and one with the distances."""
    figure, panels = plt.subplots(1, len(runs) + 1, figsize=(4 * len(runs) + 4, 3.6), layout="constrained")
    *losses_of, far = panels
    for ax, (framework, run) in zip(losses_of, runs.items(), strict=True):
        ax.plot(np.arange(len(run["before"])) + 1, run["before"], label="not moved", **STYLES["before"])
        for name in ("with statistics", "without"):
            ax.plot(np.arange(len(run[name])) + half, run[name], label=f"moved to Flax {name}", **STYLES[name])
            steps, apart = np.arange(half + 1, half + len(run[name])), run[f"{name}, apart"][1:]
            far.plot(steps, apart, label=f"from {framework}, {name}", marker="oD"[ax is not losses_of[0]], markevery=6,
                     markersize=4, **STYLES[name])  # fmt: skip
        ax.set(yscale="log", xlabel="step", ylabel="loss, all digits", ylim=(0.1, 3), title=f"from {framework}")
        ax.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
        ax.minorticks_off()
        ax.axvline(half, color="0.5", linewidth=0.8)
    losses_of[0].legend(loc="upper right")
    far.set(yscale="log", xlabel="step", ylim=(1e-9, 30), title="largest distance of a parameter")
    far.legend(loc="upper left", ncols=len(runs), fontsize="x-small")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder for the picture")
    parser.add_argument("--steps", type=int, default=120)
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    half = args.steps // 2
    path, grads, state_dict = train_torch(images, labels, args.steps)

    def moved(path, make, read):
        """Go on in Flax with and without the statistics, and compare with the path of the other framework."""
        start = to_flax(path[half - 1])
        tx, late = make(rate), make(lambda count: rate(count + half))  # the second has the schedule and nothing else
        fresh = tx.init(jax.tree.map(jnp.asarray, start))
        states = {"with statistics": (tx, checkpoint.restore(fresh, read(tx))), "without": (late, fresh)}
        run = {"before": losses(map(to_flax, path), images, labels)}
        for name, (tx, state) in states.items():
            ours = go_on(tx, state, path[half - 1], grads[half:])
            run |= {name: losses(ours, images, labels), f"{name}, apart": distances(ours, path[half - 1 :])}
        return run

    make = lambda learning_rate: dialects.torch_rmsprop(learning_rate, **NUMBERS)  # noqa: E731
    runs = {"PyTorch": moved(path, make, lambda tx: checkpoint.from_torch(state_dict, to_flax, tx=tx))}
    try:
        path, variables = train_keras(path[0], grads)
    except ImportError:
        print("Keras is not installed: its run is left out.")
    else:
        # Keras' kernels are PyTorch's, transposed; so is what goes through `to_flax`.
        convert = lambda weights: to_flax({name: x.T for name, x in weights.items()})  # noqa: E731
        make = lambda learning_rate: dialects.keras_rmsprop(learning_rate, **KERAS_NUMBERS)  # noqa: E731
        runs["Keras"] = moved(path, make, lambda tx: checkpoint.from_keras(variables, list(path[0]), convert, tx=tx))

    for framework, run in runs.items():
        for name in ("with statistics", "without"):
            print(f"from {framework}, {name}: {run[f'{name}, apart'].max():.0e} from the path that never moved")
    args.out.mkdir(parents=True, exist_ok=True)
    draw(runs, half).savefig(args.out / "port_from_torch.png", dpi=150)
    print(f"wrote {args.out / 'port_from_torch.png'}")


if __name__ == "__main__":
    main()
