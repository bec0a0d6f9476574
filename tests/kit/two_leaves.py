"""Runs of two leaves, `w` of shape (2, 3) and `b` of (3,), and the states they leave to restore or to adapt."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kit import training
from rmsprop_optax import checkpoint, rmsprop

PARAMS = {"w": jnp.full((2, 3), 2.0), "b": jnp.full((3,), -1.0)}


def stepped(count):
    return jnp.where(count < 5, 0.1, 0.01)


def make(**options):
    return rmsprop(**({"learning_rate": 0.01} | options))


def gradients(steps, seed=0, params=PARAMS):
    return training.gradients(steps, params, seed)


def train(tx, grads, params=PARAMS, state=None):
    """Return the parameters after each step on recorded gradients, and the last state."""
    return training.path(tx, grads, params, state)


def adapted(old, new, grads, **more):
    _, state = train(make(**old), grads)
    before = jax.tree.map(np.array, state)
    moved, report = checkpoint.adapt(state, make(**new), PARAMS, **more)
    chex.assert_trees_all_equal(before, jax.tree.map(np.asarray, state))
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, make(**new).init(PARAMS))
    return moved, report
