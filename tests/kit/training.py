"""Steps on gradients that are given: one, a series in a loop or in a scan, and random gradients to take them with."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

PARAMS = jax.tree.map(jnp.float32, {"w": np.full((4, 2), 0.5), "b": {"x": np.full((3,), -1.0), "y": 2.0}})


def gradients(steps, params=PARAMS, seed=0, dtype=None):
    """Return random gradients like the parameters, a tree for each step."""
    rng = np.random.default_rng(seed)
    like = lambda p: jnp.asarray(rng.normal(size=p.shape), dtype or p.dtype)  # noqa: E731
    return [jax.tree.map(like, params) for _ in range(steps)]


def stacked(trees):
    """Return one tree whose leaves have the steps along their first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def at(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def step(tx, params, state, grads):
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def path(tx, grads, params=PARAMS, state=None, jit=True):
    """Return the parameters after each step, and the last state.

    Only `update` is compiled: with the addition in the same program, XLA may round once where two programs round twice.
    """
    state = tx.init(params) if state is None else state
    update, steps = jax.jit(tx.update) if jit else tx.update, []
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(params)
    return steps, state


def train(tx, grads, params=PARAMS, state=None, jit=True):
    """Return the parameters and the state after the last step."""
    steps, state = path(tx, grads, params, state, jit)
    return [params, *steps][-1], state


def scan(tx, grads, params=PARAMS):
    """Return the parameters after each step, stacked, and the last state: `grads` are stacked, too."""

    def one(carry, g):
        carry = step(tx, *carry, g)
        return carry, carry[0]

    (_, state), steps = jax.lax.scan(one, (params, tx.init(params)), grads)
    return steps, state


def updates(tx, grads):
    """Return the updates of stacked gradients, and the last state."""
    one = lambda state, g: tx.update(g, state)[::-1]  # noqa: E731
    run = jax.jit(lambda state, grads: jax.lax.scan(one, state, grads)[::-1])
    return run(tx.init(at(grads, 0)), grads)
