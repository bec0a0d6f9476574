"""Runs of two leaves, `w` of shape (2, 3) and `b` of (3,), and the states they leave to restore or to adapt."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import checkpoint, rmsprop

PARAMS = {"w": jnp.full((2, 3), 2.0), "b": jnp.full((3,), -1.0)}


def stepped(count):
    return jnp.where(count < 5, 0.1, 0.01)


def make(**options):
    return rmsprop(**({"learning_rate": 0.01} | options))


def gradients(steps, seed=0, params=PARAMS):
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params) for _ in range(steps)]


def train(tx, grads, params=PARAMS, state=None):
    """Return the parameters after each step on recorded gradients, and the last state."""
    state = tx.init(params) if state is None else state
    update, steps = jax.jit(tx.update), []
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(params)
    return steps, state


def adapted(old, new, grads, **more):
    _, state = train(make(**old), grads)
    before = jax.tree.map(np.array, state)
    moved, report = checkpoint.adapt(state, make(**new), PARAMS, **more)
    chex.assert_trees_all_equal(before, jax.tree.map(np.asarray, state))
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, make(**new).init(PARAMS))
    return moved, report
