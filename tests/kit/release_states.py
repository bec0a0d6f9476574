"""The runs whose states are recorded at every release, one for each layout: their options, gradients and path."""

import pathlib

import jax.numpy as jnp
import numpy as np

from rmsprop_optax import rmsprop

FOLDER = pathlib.Path(__file__).parent.parent / "recorded" / "states_of_releases"
STEPS = 4
PARAMS = {"w": np.full((2, 2), 2.0, np.float32), "b": np.full(2, -1.0, np.float32)}


def stepped(count):
    return jnp.where(count < 5, 0.1, 0.01)


LAYOUTS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "centered-momentum": {"centered": True, "momentum": 0.9},
    "bias-corrected": {"bias_correction": True},
    "scheduled": {"learning_rate": stepped},
    "scheduled-momentum": {"learning_rate": stepped, "momentum": 0.9},
    "scheduled-momentum-outside": {"learning_rate": stepped, "momentum": 0.9, "lr_in_momentum": False},
    "weight-decay": {"weight_decay": 0.1, "momentum": 0.9},
    "weight-decay-l2": {"weight_decay": 0.1, "decoupled_weight_decay": False},
    "weight-decay-scheduled": {"weight_decay": 0.1, "learning_rate": stepped, "momentum": 0.9},
}


def make(layout):
    return rmsprop(**({"learning_rate": 0.1, "eps": 1e-3} | LAYOUTS[layout]))


def gradients(steps):
    """Return the gradients of the recorded runs, which are drawn in the order of PARAMS."""
    rng = np.random.default_rng(0)
    return [{name: rng.normal(size=x.shape).astype(np.float32) for name, x in PARAMS.items()} for _ in range(steps)]
