"""The optimizers that every contract is checked on, and what the checks share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
PARAMS = jax.tree.map(jnp.float32, {"w": np.full((4, 2), 0.5), "b": {"x": np.full((3,), -1.0), "y": 2.0}})


CORE = ("plain", "torch", "centered", "everything")  # between them every option but bias_correction and L2

every_optimizer = pytest.mark.parametrize("name", OPTIONS)
core_optimizers = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in CORE else pytest.mark.full) for name in OPTIONS]
)


def make(name, **more):
    return rmsprop(**({"learning_rate": 0.01} | OPTIONS[name] | more))


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


def furthest(ours, theirs):
    """The largest difference between two trees."""
    wide = lambda x: np.asarray(x, np.complex128)  # noqa: E731
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(np.max(np.abs(wide(a) - wide(b)), initial=0)) for a, b in pairs)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)
