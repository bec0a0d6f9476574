"""The optimizers that every contract is checked on."""

import jax.numpy as jnp
import optax
import pytest

from kit.rows import rows
from rmsprop_optax import rmsprop


def stepped(count):
    return jnp.where(count < 2, 0.01, 0.005)


OPTIONS = {
    "plain": {},
    "outside": {"eps_in_sqrt": False},
    "initial": {"initial_scale": 1.0},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "torch": {"momentum": 0.9, "lr_in_momentum": False, "eps_in_sqrt": False, "decay": 0.99},
    "average": {"momentum": 0.9, "average_momentum": True},
    "dreamer": {
        "decay": 0.99,
        "eps": 1e-20,
        "eps_in_sqrt": False,
        "momentum": 0.9,
        "nesterov": True,
        "bias_correction": True,
        "average_momentum": True,
        "lr_in_momentum": False,
        "weight_decay": 0.1,
    },
    "centered": {"centered": True, "eps": 1e-3},
    "corrected": {"bias_correction": True},
    "schedule": {"learning_rate": stepped, "momentum": 0.9},
    "l2": {"weight_decay": 0.1, "decoupled_weight_decay": False, "momentum": 0.9},
    "decoupled": {"weight_decay": 0.1, "momentum": 0.9, "lr_in_momentum": False},
    "everything": {
        "learning_rate": stepped,
        "centered": True,
        "eps": 1e-3,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": optax.constant_schedule(0.1),
        "weight_decay_mask": {"w": True, "b": {"x": False, "y": True}},
    },
}
CORE = ("plain", "torch", "everything")  # between them every option but bias_correction and L2

every_optimizer = pytest.mark.parametrize("name", rows(OPTIONS, OPTIONS.keys() - {"dreamer"}))
core_optimizers = pytest.mark.parametrize("name", rows(OPTIONS, CORE))


def make(name, **more):
    return rmsprop(**({"learning_rate": 0.01} | OPTIONS[name] | more))
