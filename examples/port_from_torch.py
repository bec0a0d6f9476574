"""Move a run from PyTorch to Flax in the middle: weights, statistics, momentum and schedule.

A classifier of handwritten digits is trained with torch.optim.RMSprop under a schedule, and its gradients are recorded.
Half way, weights and optimizer move to Flax, and both go on along the same gradients. The picture in figures/ shows
both paths, and what becomes of a run that moves its weights alone. Where Keras is installed, a run of its RMSprop
moves, too. Runs in seconds on two cores. With --record, the picture goes into docs.
"""

import copy
import os

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import recording
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
NAMES = ["hidden/bias", "hidden/kernel", "out/bias", "out/kernel"]  # Keras' variables: the paths of Flax's


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
    import torch  # noqa: PLC0415

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


def loss(params, images, labels):
    """Return the loss of Flax's model with these parameters."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: Classifier(nnx.Rngs(0))))
    model = nnx.merge(graph, nnx.State(jax.tree.map(nnx.Param, params)))
    return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()


def train_keras(images, labels, params, steps):
    """Return what `train_torch` does, for Keras' optimizer; the gradients are those of Flax's model."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras  # noqa: PLC0415

    structure = jax.tree.structure(params)
    weights = [
        keras.Variable(x, name=name.replace("/", "_")) for name, x in zip(NAMES, jax.tree.leaves(params), strict=True)
    ]
    optimizer = keras.optimizers.RMSprop(rate(0), **KERAS_NUMBERS)
    rng, path, grads, gradient = np.random.default_rng(0), [], [], jax.jit(jax.grad(loss))
    for step in tqdm(range(steps), desc="Keras", unit="step"):
        batch = rng.integers(len(images), size=64)
        grads.append(gradient(jax.tree.unflatten(structure, [x.value for x in weights]), images[batch], labels[batch]))
        optimizer.learning_rate = rate(step)
        optimizer.apply(jax.tree.leaves(grads[-1]), weights)
        path.append(jax.tree.unflatten(structure, [np.array(x.numpy()) for x in weights]))
        if step + 1 == steps // 2:
            half_way = {variable.path: variable.numpy() for variable in optimizer.variables}
    return path, grads, half_way


def move(make, read, path, grads, half):
    """Go on in Flax from half way, with and without the statistics: return the path of each."""
    params = jax.tree.map(jnp.asarray, path[half - 1])
    tx, late = make(rate), make(lambda count: rate(count + half))  # the second has the schedule and nothing else
    fresh = tx.init(params)
    starts = {"with statistics": (tx, checkpoint.restore(fresh, read(tx))), "without": (late, fresh)}
    return {name: go_on(tx, state, params, grads[half:]) for name, (tx, state) in starts.items()}


def go_on(tx, state, params, grads):
    """Return the parameters after each step on the gradients, the start first."""
    path, update = [params], jax.jit(tx.update)
    for g in tqdm(grads, desc="Flax", unit="step"):
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def distances(ours, theirs):
    """Return the largest distance of any parameter, after each step."""
    pairs = [(jax.tree.leaves(a), jax.tree.leaves(b)) for a, b in zip(ours, theirs, strict=True)]
    return np.array([max(np.max(np.abs(x - y)) for x, y in zip(a, b, strict=True)) for a, b in pairs])


STYLES = {
    "before": {"color": "0.75", "linewidth": 6},
    "with statistics": {"color": "#D55E00", "linewidth": 1.8},
    "without": {"color": "black", "linewidth": 1.8, "linestyle": "--"},
}


def draw(runs, images, labels, half):
    """Draw, for each framework, the losses along its path and along ours, and below the distances between them."""
    layout, size = [list(runs), ["far"] * len(runs)], (4.25 * len(runs), 6.4)
    figure, panels = plt.subplot_mosaic(layout, figsize=size, layout="constrained")
    far = panels["far"]
    measure = jax.jit(lambda params: loss(params, images, labels))
    for marker, (framework, (path, moved)) in zip("oD", runs.items(), strict=False):
        ax = panels[framework]
        ax.plot(np.arange(len(path)) + 1, [measure(params) for params in path], label="not moved", **STYLES["before"])
        for name, ours in moved.items():
            steps = np.arange(half, half + len(ours))
            ax.plot(steps, [measure(params) for params in ours], label=f"moved to Flax {name}", **STYLES[name])
            mark = {"marker": marker, "markevery": 6, "markersize": 5, "label": f"from {framework}, {name}"}
            far.plot(steps[1:], distances(ours, path[half - 1 :])[1:], **mark, **STYLES[name])
        ax.axvline(half, ymax=0.6, color="0.5", linewidth=0.8, linestyle=":", label="the move", zorder=0)
        ax.set(yscale="log", xlabel="step", ylabel="loss, all digits", ylim=(0.1, 3), title=f"from {framework}")
        ax.set_yticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
        ax.minorticks_off()
    panels[next(iter(runs))].legend(loc="upper right")
    far.set(yscale="log", xlabel="step", ylim=(1e-9, 30), ylabel="largest distance of a parameter")
    far.legend(loc="upper left", ncols=len(runs))
    return figure


def main():
    parser = recording.parser(__doc__)
    args = parser.parse_args()
    steps = 12 if args.quick else 120

    images, labels = load_digits(return_X_y=True)
    images = images.astype(np.float32) / 16
    half = steps // 2
    try:
        path, grads, state_dict = train_torch(images, labels, steps)
    except ImportError:
        parser.exit(1, "PyTorch is not installed, and its run is the one that moves here: pip install -e '.[torch]'\n")
    path, grads = [to_flax(weights) for weights in path], [to_flax(g) for g in grads]
    make = lambda learning_rate: dialects.torch_rmsprop(learning_rate, **NUMBERS)  # noqa: E731
    read = lambda tx: checkpoint.from_torch(state_dict, to_flax, tx=tx)  # noqa: E731
    runs = {"PyTorch": (path, move(make, read, path, grads, half))}
    try:
        path, grads, variables = train_keras(images, labels, path[0], steps)
    except ImportError:
        print("Keras is not installed, and its run is left out: pip install -e '.[keras]'")
    else:
        make = lambda learning_rate: dialects.keras_rmsprop(learning_rate, **KERAS_NUMBERS)  # noqa: E731
        read = lambda tx: checkpoint.from_keras(variables, NAMES, tx=tx)  # noqa: E731
        runs["Keras"] = (path, move(make, read, path, grads, half))

    for framework, (path, moved) in runs.items():
        for name, ours in moved.items():
            furthest = distances(ours, path[half - 1 :]).max()
            print(f"from {framework}, {name}: {furthest:.0e} from the path that never moved")
    recording.draw(draw(runs, images, labels, half), "port_from_torch", args.record)


if __name__ == "__main__":
    main()
