"""States in the layouts of PyTorch, Keras and Stable-Baselines3, small and by hand, for what imports refuse."""

import io
import json
import zipfile

import numpy as np
import pytest


def torch_state(momentum=0.0, centered=False, changed=None, group=None):
    """Make a state_dict of two parameters as PyTorch would, then change it."""
    fields = ["square_avg", *(["momentum_buffer"] if momentum else []), *(["grad_avg"] if centered else [])]
    shapes = [(2, 3), (3,)]
    entries = {i: {"step": 5.0} | {key: np.full(shapes[i], 0.5, np.float32) for key in fields} for i in (0, 1)}
    for i, entry in (changed or {}).items():
        entries[i] = entries.get(i, {}) | entry
    numbers = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": momentum, "centered": centered}
    return {"state": entries, "param_groups": [numbers | {"params": [0, 1]} | (group or {})]}


def keras_arrays(*more):
    return [np.array(5), np.float32(0.01), np.ones((2, 3), np.float32), np.ones(3, np.float32), *more]


def keras_paths(*slots, header=("o/iteration", "o/learning_rate")):
    """Return variables of Keras by path: the header, then each slot for the weights a/w and b."""
    shapes = {"a_w": (2, 3), "b": (3,)}
    values = {"iteration": np.array(5), "learning_rate": np.float32(0.01)}
    return {path: values[path.rpartition("/")[2]] for path in header} | {
        f"o/{name}_{slot}": np.full(shape, i + 1.0, np.float32)
        for i, slot in enumerate(slots)
        for name, shape in shapes.items()
    }


def object_based(*slots, optimizer="optimizer", of="model", **more):
    """Return the keys of an object-based checkpoint of TensorFlow with these slots."""
    keys = {f"{of}/{w}/.OPTIMIZER_SLOT/{optimizer}/{slot}": np.full(3, 2.0, np.float32) for w in "wb" for slot in slots}
    keys |= {f"{of}/{w}": np.ones(3, np.float32) for w in "wb"} | {key.replace("__", "/"): x for key, x in more.items()}
    return {f"{key}/.ATTRIBUTES/VARIABLE_VALUE": x for key, x in keys.items()}


def archive(parts):
    """Return an open zip file with these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in parts.items():
            written.writestr(name, content)
    return file


def agent_with(policy):
    """Return the zip file of an agent after one step of PyTorch's RMSprop on the first of its weights.

    The policy maps names to numbers; names with the same number share a weight.
    """
    torch = pytest.importorskip("torch")
    numbers = dict.fromkeys(policy.values())
    weights = {number: torch.nn.Parameter(torch.full((2,), float(number))) for number in numbers}
    first = next(iter(weights.values()))
    first.grad = torch.ones(2)
    optimizer = torch.optim.RMSprop([first])
    optimizer.step()
    parts = {"data": json.dumps({"policy_kwargs": {"optimizer_class": "<class 'torch.optim.rmsprop.RMSprop'>"}})}
    shared = {name: weights[number].data for name, number in policy.items()}
    for name, content in (("policy.pth", shared), ("policy.optimizer.pth", optimizer.state_dict())):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        parts[name] = buffer.getvalue()
    return archive(parts)
