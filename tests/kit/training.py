"""Steps on gradients that are given: one, a series, and what a series of gradients is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

PARAMS = jax.tree.map(jnp.float32, {"w": np.full((4, 2), 0.5), "b": {"x": np.full((3,), -1.0), "y": 2.0}})


def gradients(steps, params=PARAMS, seed=0, dtype=None):
    """Random gradients like the parameters, stacked along a first axis."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=(steps, *p.shape)), dtype or p.dtype), params)


def at(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def step(tx, params, state, grads):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def train(tx, grads, params=PARAMS, state=None, jit=True):
    """Return the parameters and the state after a series of steps."""
    state = tx.init(params) if state is None else state
    advance = jax.jit(lambda params, state, g: step(tx, params, state, g)) if jit else lambda *a: step(tx, *a)
    for i in range(len(jax.tree.leaves(grads)[0])):
        params, state = advance(params, state, at(grads, i))
    return params, state
