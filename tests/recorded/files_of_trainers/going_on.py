"""Write how a trainer's run goes on after its file: the weights in the file, gradients, and the weights after each."""

import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
STEPS = 10


def gradients(weights):
    """Return gradients of various sizes, a dictionary for each step."""
    rng = np.random.default_rng(7)
    draw = lambda x: (rng.normal(size=x.shape) * 10.0 ** rng.integers(-3, 2)).astype(np.float32)  # noqa: E731
    return [{name: draw(x) for name, x in weights.items()} for _ in range(STEPS)]


def write(name, weights, step):
    """Take the steps with `step`, which returns the weights after a gradient, and write them next to this file."""
    weights = {key: np.array(x) for key, x in weights.items()}
    grads = gradients(weights)
    path = [{key: np.array(x) for key, x in step(g).items()} for g in grads]
    trees = {"start": [weights], "grads": grads, "path": path}
    arrays = {f"{kind}:{key}": np.stack([tree[key] for tree in trees[kind]]) for kind in trees for key in weights}
    np.savez_compressed(HERE / f"{name}.npz", **arrays)
    print(name, f"moved by {max(np.abs(path[-1][key] - x).max() for key, x in weights.items()):.2g}")


def torch_step(optimizer, named):
    """Return a function that takes a step of a PyTorch optimizer with the given gradients."""
    import torch

    def step(grads):
        for name, parameter in named.items():
            parameter.grad = torch.tensor(grads[name])
        optimizer.step()
        return of_torch(named)

    return step


def of_torch(named):
    return {name: parameter.detach().numpy().copy() for name, parameter in named.items()}
