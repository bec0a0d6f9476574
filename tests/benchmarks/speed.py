"""A donated step's time and its temporaries, beside optax.rmsprop in float32 in the same round.

On a GPU also the achieved bandwidth beside the card's own copy, and torch (foreach and compiled) and flashoptim-jax,
where they are installed.
"""

import statistics

import jax
import jax.numpy as jnp
import optax
import timing

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble, compressed, with_master_weights

LEAVES = 4


def cases():
    """Name the cases: the transformation, and whether parameters and gradients are bfloat16; the first is the base."""
    byte = compressed(rmsprop(1e-3), nu=RmsByte())
    nibble = compressed(rmsprop(1e-3), nu=RmsNibble())
    return {
        "optax.rmsprop": (optax.rmsprop(1e-3), False),
        "float32": (rmsprop(1e-3), False),
        "bfloat16": (compressed(rmsprop(1e-3), nu=BFloat16()), False),
        "byte": (byte, False),
        "byte, bfloat16 parameters + 16 bits": (with_master_weights(byte), True),
        "byte, bfloat16 parameters + 8 bits": (with_master_weights(byte, low_bits=8), True),
        "byte, bfloat16 parameters + 0 bits": (with_master_weights(byte, low_bits=0), True),
        "nibble": (nibble, False),
        "nibble, bfloat16 parameters + 8 bits": (with_master_weights(nibble, low_bits=8), True),
    }


class Step:
    """A compiled step over equal square leaves of `size` parameters in all."""

    def __init__(self, tx, low, size):
        side = round((size / LEAVES) ** 0.5)
        dtype = jnp.bfloat16 if low else jnp.float32
        self.size, self.temporaries = LEAVES * side * side, None
        self.params = [jnp.full((side, side), 0.5, dtype) for _ in range(LEAVES)]
        self.grads = [jax.random.normal(jax.random.key(i), (side, side), dtype) for i in range(LEAVES)]
        self.state = tx.init(self.params)

        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self.run = jax.jit(step, donate_argnums=(0, 1)).lower(self.params, self.state, self.grads).compile()
        self.temporaries = self.run.memory_analysis().temp_size_in_bytes / self.size

    def __call__(self):
        self.params, self.state = self.run(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))

    def moved(self):
        """Return the bytes that a step must read and write: parameters and state twice, gradients once."""
        twice = sum(x.nbytes for x in jax.tree.leaves((self.params, self.state)))
        return 2 * twice + sum(x.nbytes for x in self.grads)


def run(size, rounds):
    """Time each case in turn, `rounds` times, and return medians; the ratios are medians of those within a round."""
    steps = {name: Step(tx, low, size) for name, (tx, low) in cases().items()}
    gpu = jax.default_backend() == "gpu"
    others = beside(size) if gpu else {}
    times = timing.rounds(steps | others, rounds)
    found = {"parameters": steps["byte"].size, "rows": {}, "copy GB/s": timing.copied(size) if gpu else None}
    for name, seconds in times.items():
        row = {"ms": 1e3 * statistics.median(seconds), "ratio": timing.ratio(seconds, times["optax.rmsprop"])}
        if name in steps:
            row["temporaries"] = steps[name].temporaries
            row["GB/s"] = steps[name].moved() / statistics.median(seconds) / 1e9 if gpu else None
        found["rows"][name] = row
    return found


def beside(size):
    """Name other libraries' steps on the GPU, of those that are installed."""
    found, side = {}, round((size / LEAVES) ** 0.5)
    try:
        import torch

        for name, compile_it in (("torch foreach", False), ("torch compiled", True)):
            params = [torch.nn.Parameter(torch.full((side, side), 0.5, device="cuda")) for _ in range(LEAVES)]
            for param in params:
                param.grad = torch.randn_like(param)
            update = torch.optim.RMSprop(params, lr=1e-3, foreach=True).step
            found[name] = _synchronized(torch.compile(update) if compile_it else update, torch.cuda.synchronize)
    except (ImportError, AssertionError) as error:  # torch without CUDA asserts
        print(f"left out: {error}")
    try:
        from flashoptim_jax import flash_adam

        tx, params = flash_adam(1e-3), [jnp.full((side, side), 0.5, jnp.float32) for _ in range(LEAVES)]
        found["flashoptim-jax flash_adam"] = _Flash(jax.jit(tx.step, donate_argnums=(0, 1)), params, tx.init(params))
    except ImportError as error:
        print(f"left out: {error}")
    return found


def _synchronized(step, wait):
    def run():
        step()
        wait()

    return run


class _Flash:
    def __init__(self, step, params, state):
        self.step, self.params, self.state = step, params, state
        self.grads = [jax.random.normal(jax.random.key(i), p.shape) for i, p in enumerate(params)]

    def __call__(self):
        self.params, self.state = self.step(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))
