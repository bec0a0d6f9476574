"""What each code does to the updates on real gradients, step by step against float64.

Two tasks are trained in float32 and their gradients shown to every code at three decays at once. The update always uses
the fresh mean square, as an optimizer does. For each stream, decay and code:

    nrmse  root mean square of the update's error, over the root mean square of the update
    gain   of the update, by least squares
    amp    the smallest and largest ratio of the true root mean square to the one used, over all elements and steps
           where the true one is inside the byte's window

Then the other fields (a centered RMSprop's, a momentum's) in codes against float32, and, for gradients that repeat
exactly, the mean of r used over r true.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tasks
from codes import CODES
from tqdm import tqdm

from rmsprop_optax import rmsprop, scale_by_rms
from rmsprop_optax.compression import BFloat16, RmsByte, SignedByte, compressed

DECAYS = (0.9, 0.99, 0.999)
WINDOW = (2.0**-28, 1.0)


def measure(task, steps, codes, seed=0, chunk=50):
    """Return the figures of every decay and code over one stream; arrays have an axis of decays first."""
    decays = jnp.asarray(DECAYS, jnp.float32)
    with jax.enable_x64(True):
        params = task.init(jax.random.key(seed))
        tx = rmsprop(1e-3, 0.99)
        zeros = [jnp.zeros((len(DECAYS), *p.shape), jnp.float32) for p in jax.tree.leaves(params)]
        true = [z.astype(jnp.float64) for z in zeros]
        sums = {name: jnp.array([[0.0, 0.0, 0.0, jnp.inf, -jnp.inf]] * len(DECAYS), jnp.float64) for name in codes}
        carry = (params, tx.init(params), dict.fromkeys(codes, zeros), true, sums, jnp.zeros([], jnp.int32))
        average = jax.vmap(_average, (0, 0, None))

        def step(carry, key):
            params, state, stored, true, sums, count = carry
            grads = jax.grad(task.loss)(params, task.batch(key))
            updates, state = tx.update(grads, state, params)
            count, stored, sums, leaves = count + 1, dict(stored), dict(sums), jax.tree.leaves(grads)
            true = [average(jnp.asarray(DECAYS), s, g.astype(jnp.float64)) for s, g in zip(true, leaves, strict=True)]
            for name, code in codes.items():
                used = [average(decays, s, g) for s, g in zip(stored[name], leaves, strict=True)]
                sums[name] = jax.vmap(_tally, (0, None, 0, 0))(sums[name], leaves, true, used)
                stored[name] = [
                    jax.vmap(lambda s, i=i, code=code: code.through(s, i, count))(nu) for i, nu in enumerate(used)
                ]
            return (optax.apply_updates(params, updates), state, stored, true, sums, count), None

        run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0])
        keys = jax.random.split(jax.random.key(seed + 1), steps)
        for start in tqdm(range(0, steps, chunk), unit=f"{chunk} steps"):
            carry = run(carry, keys[start : start + chunk])
        figures = {name: [_figures(row) for row in np.asarray(total)] for name, total in carry[4].items()}
        return {str(d): {name: figures[name][i] for name in codes} for i, d in enumerate(DECAYS)}


def _average(decay, s, g):
    rest = jnp.asarray(1 - decay, s.dtype)
    return s - rest * s + rest * g * g


def _tally(sums, grads, true, used):
    for g, s, q in zip(grads, true, used, strict=True):
        g, q = g.astype(jnp.float64), q.astype(jnp.float64)
        u, v = (jnp.where(x > 0, g / jnp.sqrt(jnp.where(x > 0, x, 1)), 0) for x in (s, q))
        r = jnp.sqrt(s)
        inside = (r >= WINDOW[0]) & (r < WINDOW[1])
        amp = jnp.where(q > 0, r / jnp.sqrt(jnp.where(q > 0, q, 1)), jnp.inf)
        sums = sums + jnp.array([jnp.sum((v - u) ** 2), jnp.sum(u * u), jnp.sum(u * v), 0, 0])
        low, high = (jnp.min(jnp.where(inside, amp, jnp.inf)), jnp.max(jnp.where(inside, amp, -jnp.inf)))
        sums = sums.at[3].min(low).at[4].max(high)
    return sums


def _figures(sums):
    error, power, product, low, high = map(float, sums)
    return {"nrmse": (error / power) ** 0.5, "gain": product / power, "amp": [low, high]}


def links(task, steps, seed=0):
    """Return nrmse and gain of the other fields: a centered RMSprop's, and a momentum's, against float32."""
    decayed = functools.partial(rmsprop, 1.0, 0.99, momentum=0.9, lr_in_momentum=False)
    centered = scale_by_rms(0.99, 1e-16, centered=True)
    bytes_ = {"variance": RmsByte(), "mu": SignedByte(relative_to="nu")}
    pairs = {
        "centered, bytes": (centered, compressed(centered, **bytes_)),
        "centered, bfloat16": (centered, compressed(centered, variance=BFloat16(), mu=BFloat16())),
        "momentum, byte": (decayed(1e-16), compressed(decayed(1e-16), trace=SignedByte(1.0))),
        "momentum, bfloat16": (decayed(1e-16), compressed(decayed(1e-16), trace=BFloat16())),
    }
    params, tx = task.init(jax.random.key(seed)), rmsprop(1e-3, 0.99)
    states = {name: tuple(link.init(params) for link in pair) for name, pair in pairs.items()}
    start = (params, tx.init(params), states, dict.fromkeys(pairs, jnp.zeros(3)))

    def step(carry, key):
        params, state, states, sums = carry
        grads = jax.grad(task.loss)(params, task.batch(key))
        updates, state = tx.update(grads, state, params)
        new = {
            name: [link.update(grads, s) for link, s in zip(pairs[name], states[name], strict=True)] for name in pairs
        }
        states = {name: tuple(s for _, s in both) for name, both in new.items()}
        flat = {
            name: [jnp.concatenate([x.ravel() for x in jax.tree.leaves(u)]) for u, _ in new[name]] for name in pairs
        }
        sums = {
            name: sums[name] + jnp.stack([jnp.sum((v - u) ** 2), jnp.sum(u * u), jnp.sum(u * v)])
            for name, (u, v) in flat.items()
        }
        return (optax.apply_updates(params, updates), state, states, sums), None

    keys = jax.random.split(jax.random.key(seed + 1), steps)
    sums = jax.jit(lambda start: jax.lax.scan(step, start, keys)[0][3])(start)
    return {
        name: {"nrmse": float(error / power) ** 0.5, "gain": float(product / power)}
        for name, (error, power, product) in sums.items()
    }


def periodic(code, decay, kind, last=200, elements=(16, 20), measured=4096):
    """Return, for every period to the last, the mean over time and the elements of a matrix of r used over r true.

    The gradients repeat exactly: one of 1 and zeros after it ("spike"), or a period of random ones ("random").
    """
    periods = jnp.arange(2, last + 1)
    table = jnp.asarray(np.random.default_rng(0).normal(size=last) * 0.1, jnp.float32)
    warm = round(6 / (1 - decay))
    shape = (len(periods), *elements)

    def step(carry, t):
        stored, true, total = carry
        at = t % periods
        g = jnp.where(at == 0, 1.0, 0.0) if kind == "spike" else table[at]
        g = jnp.broadcast_to(g[:, None, None], shape)
        used, true = _average(decay, stored, g), _average(decay, true, g)
        counted = (t >= warm) & (t < warm + measured // periods * periods)
        total = total + jnp.where(counted[:, None, None], jnp.sqrt(used / true), 0)
        return (code.through(used, 0, t + 1), true, total), None

    start = (jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(shape))
    total = jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(warm + measured))[0][2])(start)
    return np.asarray(total.mean((1, 2)) / (measured // periods * periods))


def run(steps):
    """Return all figures; `steps` are those of the digits and of the manual."""
    found = {"steps": steps, "streams": {}, "fields": {}, "periodic": {}}
    for name, task, count in zip(("digits", "manual"), (tasks.cnn(), tasks.transformer()), steps, strict=True):
        found["streams"][name] = measure(task, count, CODES)
        found["fields"][name] = links(task, count)
    for name in ("byte", "nibble", "bfloat16"):
        means = {d: np.concatenate([periodic(CODES[name], d, kind) for kind in ("spike", "random")]) for d in DECAYS}
        found["periodic"][name] = {str(d): [float(m.min()), float(m.max())] for d, m in means.items()}
    return found
