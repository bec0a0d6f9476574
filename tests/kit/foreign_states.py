"""States in the layouts of PyTorch and Keras, small and by hand, for what imports refuse."""

import numpy as np


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
