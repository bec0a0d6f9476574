"""Steps timed in turn, so that each meets the same machine, and the rate at which it copies."""

import statistics
import time

import jax
import jax.numpy as jnp
from tqdm import tqdm


def rounds(steps, count):
    """Time each step in turn, `count` times, after a first: a dictionary of lists of seconds."""
    for step in steps.values():
        step()
    times = {name: [] for name in steps}
    for _ in tqdm(range(count), desc="rounds", leave=False):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def ratio(times, others):
    """The median of one step's time over another's within a round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def copied(size, count=10):
    """The rate at which `size` float32 numbers are read and written, in GB/s: the best of some tries."""
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    x, best = jax.block_until_ready(add(jnp.zeros(size))), float("inf")
    for _ in range(count):
        start = time.perf_counter()
        x = jax.block_until_ready(add(x))
        best = min(best, time.perf_counter() - start)
    return 8 * size / best / 1e9
