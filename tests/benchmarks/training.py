"""Train with every code, and from the same starts on the same batches in float32: is the loss at the end the same?

Two tasks: a classifier of handwritten digits, and a transformer on Python's manual. Everything random comes from the
seed. For each task and code: the differences of the final losses, one a seed, of the training part and of the part held
out, and how far the losses of float32 itself spread from seed to seed. The final loss is that of the last parameters on
a part of the batches, the same for all, and on the part held out.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tasks
from codes import CODES
from tqdm import tqdm

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble, compressed, export_weights, with_master_weights

DECAY = 0.99


def coded(code):
    """Return float32's rmsprop whose `nu` goes through a code after each step."""

    def make(rate):
        tx = rmsprop(rate, DECAY)

        def update(updates, state, params=None):
            (count, inner) = state
            updates, inner = tx.update(updates, inner, params)
            leaves, treedef = jax.tree.flatten(optax.tree.get(inner, "nu"))
            leaves = [code.through(nu, i, count) for i, nu in enumerate(leaves)]
            return updates, (count + 1, optax.tree.set(inner, nu=treedef.unflatten(leaves)))

        return optax.GradientTransformation(lambda params: (jnp.zeros([], jnp.int32), tx.init(params)), update)

    return make


def optimizers():
    """Name float32 and all codes: a function from the learning rate, and whether parameters are bfloat16."""
    byte = lambda rate: compressed(rmsprop(rate, DECAY), nu=RmsByte())  # noqa: E731
    nibble = lambda rate: compressed(rmsprop(rate, DECAY), nu=RmsNibble())  # noqa: E731
    found = {
        "float32": (lambda rate: rmsprop(rate, DECAY), False),
        "byte": (byte, False),
        "nibble": (nibble, False),
        "bfloat16": (lambda rate: compressed(rmsprop(rate, DECAY), nu=BFloat16()), False),
    }
    found |= {name: (coded(CODES[name]), False) for name in CODES if name not in found}
    for bits in (8, 0):
        make = lambda rate, bits=bits: with_master_weights(byte(rate), low_bits=bits)  # noqa: E731
        found[f"byte, bfloat16 weights + {bits}"] = (make, True)
    low_nibble = lambda rate: with_master_weights(nibble(rate), low_bits=8)  # noqa: E731
    found["nibble, bfloat16 weights + 8"] = (low_nibble, True)
    found["byte, bfloat16 weights rounded to nearest"] = (byte, True)
    return found


def pieces(task, tx, low):
    """Return the functions of a run: its start from a seed, a step with a key, and the two losses at the end."""

    def start(seed):
        params = task.init(jax.random.key(seed))
        params = jax.tree.map(lambda p: p.astype(jnp.bfloat16) if low else p, params)
        return params, tx.init(params)

    def step(carry, key):
        params, state = carry
        grads = jax.grad(task.loss)(jax.tree.map(lambda p: p.astype(jnp.float32), params), task.batch(key))
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    def final(carry):
        params, state = carry
        weights = export_weights(*carry) if hasattr(state, "low") else params
        weights = jax.tree.map(lambda p: p.astype(jnp.float32), weights)
        batches = jax.lax.map(task.batch, jax.random.split(jax.random.key(1000), 32))
        return jax.lax.map(lambda batch: task.loss(weights, batch), batches).mean(), task.loss(weights, task.held_out)

    return start, step, final


def keys_of(seed, steps):
    """Return the keys of a run's batches: the same for every optimizer."""
    return jax.random.split(jax.random.key(10_000 + seed), steps)


def train(task, tx, low, steps, seeds, desc):
    """Return the losses at the end, one a seed: on batches of the training part, and on the part held out."""
    start, step, final = pieces(task, tx, low)
    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0], donate_argnums=0)
    start, final, losses = jax.jit(start), jax.jit(final), []
    for seed in tqdm(seeds, desc=desc, unit="seed"):
        losses.append(final(run(start(seed), keys_of(seed, steps))))
    return np.array(losses, np.float64).T


def compare(task, rate, steps, seeds, codes=None):
    """Return the losses of float32 and, for each code, the mean and standard error of the differences from them."""
    base = train(task, rmsprop(rate, DECAY), False, steps, seeds, "float32")
    codes = codes or {name: code for name, code in optimizers().items() if name != "float32"}
    found = {"learning_rate": rate, "decay": DECAY, "steps": steps, "seeds": len(seeds), "float32": {}, "codes": {}}
    for part, losses in zip(("train", "held out"), base, strict=True):
        found["float32"][part] = {"mean": losses.mean(), "seed sd": losses.std(ddof=1)}
    for name, (make, low) in codes.items():
        losses = train(task, make(rate), low, steps, seeds, name)
        found["codes"][name] = {}
        for part, ours, theirs in zip(("train", "held out"), losses, base, strict=True):
            difference = ours - theirs
            error = difference.std(ddof=1) / len(seeds) ** 0.5
            found["codes"][name][part] = {"mean": difference.mean(), "se": error}
    return found


def run(steps, seeds):
    """Return all figures; `steps` and `seeds` are those of the digits and of the manual."""
    return {
        "digits": compare(tasks.mlp(), 1e-3, steps[0], range(seeds[0])),
        "manual": compare(tasks.transformer(), 1e-3, steps[1], range(seeds[1])),
    }
