"""Times a training step beside optax and torch, in one run: python tests/benchmarks/step.py [--quick].

Prints tables of ratios: the donated step, its temporaries and its state; tracing, lowering and compiling many leaves;
an update outside of jit. On a GPU it also prints absolute times beside the card's copy bandwidth.
"""

import argparse
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from timing import copied, ratio, rounds
from tqdm import tqdm

from rmsprop_optax import rmsprop

OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "centered": {"centered": True},
    "eps outside": {"eps_in_sqrt": False},
    "bias_correction": {"bias_correction": True},
}
TORCH = {
    "plain": {"alpha": 0.9},
    "momentum": {"alpha": 0.9, "momentum": 0.9},
    "centered": {"alpha": 0.9, "centered": True},
}


class JaxStep:
    """A donated, compiled step over `leaves` equal leaves of `size` parameters in all."""

    def __init__(self, tx, size, leaves=8):
        keys = jax.random.split(jax.random.key(0), leaves)
        self.params = [jnp.full((size // leaves,), 0.5, jnp.float32) for _ in keys]
        self.grads = [jax.random.normal(key, (size // leaves,)) for key in keys]
        self.state = tx.init(self.params)

        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self.step = jax.jit(step, donate_argnums=(0, 1)).lower(self.params, self.state, self.grads).compile()
        self.temporaries = self.step.memory_analysis().temp_size_in_bytes / size
        self.bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(self.state)) / size

    def __call__(self):
        self.params, self.state = self.step(self.params, self.state, self.grads)
        jax.block_until_ready((self.params, self.state))


class TorchStep:
    """torch.optim.RMSprop over the same parameters."""

    temporaries = bytes = None

    def __init__(self, options, size, foreach, leaves=8):
        import torch

        rng = torch.Generator().manual_seed(0)
        params = [torch.nn.Parameter(torch.full((size // leaves,), 0.5)) for _ in range(leaves)]
        for param in params:
            param.grad = torch.randn(param.shape, generator=rng)
        self.optimizer = torch.optim.RMSprop(params, lr=0.01, foreach=foreach, **options)

    def __call__(self):
        self.optimizer.step()


def step_table(size, count):
    print(f"\nA donated float32 step over {size / 2**20:.0f}M parameters: our time over theirs, in the same round.")
    print(f"{'':<16} {'optax':>6} {'torch loop':>11} {'torch foreach':>14} {'temporaries':>13} {'state':>10}")
    for name, options in OPTIONS.items():
        steps = {
            "optax": JaxStep(optax.rmsprop(0.01, **options), size),
            "ours": JaxStep(rmsprop(0.01, **options), size),
        }
        if name in TORCH and has_torch():
            steps |= {f"torch {kind}": TorchStep(TORCH[name], size, kind == "foreach") for kind in ("loop", "foreach")}
        times = rounds(steps, count)
        optax_s, loop, foreach = (
            f"{ratio(times['ours'], times[other]):.2f}" if other in times else "-"
            for other in ("optax", "torch loop", "torch foreach")
        )
        print(
            f"{name:<16} {optax_s:>6} {loop:>11} {foreach:>14}"
            f" {steps['ours'].temporaries:>9.2f} B/p {steps['ours'].bytes:>6.2f} B/p"
        )
        if jax.default_backend() == "gpu":
            print_bandwidth(name, times, size, steps)


def print_bandwidth(name, times, size, steps):
    card = copied(size)
    for other in ("optax", "ours"):
        seconds = statistics.median(times[other])
        moved = size * (4 + 2 * 4 + 2 * steps[other].bytes)  # gradient in; parameter and state in and out
        rate = moved / seconds / 1e9
        print(f"  {name}, {other}: {1e3 * seconds:.3f} ms, {rate:.0f} GB/s where a copy reaches {card:.0f}")


def timed(function, clock=time.perf_counter):
    start = clock()
    function()
    return clock() - start


def has_torch():
    try:
        import torch  # noqa: F401
    except ImportError:
        return False
    return jax.default_backend() == "cpu"


def lower(tx, params):
    state = tx.init(params)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return lambda: jax.jit(lambda *args: step(*args)).lower(params, state, params)


def leaves_table(trees, repeats, compile_up_to):
    print("\nMany leaves, update and apply_updates: our processor time over optax's.")
    print(f"{'':<16} {'leaves':>16} {'trace + lower':>14} {'compile':>8}")
    for kind, params in trees.items():
        for name, options in OPTIONS.items():
            work = {make: lower(make(0.01, **options), params) for make in (optax.rmsprop, rmsprop)}
            best = dict.fromkeys(work, (float("inf"), float("inf")))
            for _ in tqdm(range(repeats), desc=f"{name}, {kind}", leave=False):
                for make, function in work.items():
                    jax.clear_caches()
                    lowering = timed(function, time.process_time)
                    compiling = timed(function().compile, time.process_time) if len(params) <= compile_up_to else 0.0
                    best[make] = tuple(map(min, best[make], (lowering, compiling)))
            ours, theirs = best[rmsprop], best[optax.rmsprop]
            compiled = f"{ours[1] / theirs[1]:.2f}" if theirs[1] else "-"
            print(f"{name:<16} {kind:>16} {ours[0] / theirs[0]:>14.2f} {compiled:>8}")


def equal(count):
    return {f"leaf {i}": jnp.ones(8) for i in range(count)}


class Eager:
    """An update of a fixed gradient, not compiled."""

    def __init__(self, tx, params):
        self.tx, self.params, self.state = tx, params, tx.init(params)

    def __call__(self):
        updates, self.state = self.tx.update(self.params, self.state, self.params)
        jax.block_until_ready((updates, self.state))


def eager_table(leaves, count):
    params = {f"leaf {i}": jnp.full((8 + i,), 0.5) for i in range(leaves)}
    print(f"\nAn update outside of jit, {leaves} leaves of as many shapes: milliseconds, and our time over optax's.")
    print(f"{'':<16} {'optax':>7} {'ours':>7} {'ratio':>6}")
    for name, options in OPTIONS.items():
        times = rounds({make: Eager(make(0.01, **options), params) for make in (optax.rmsprop, rmsprop)}, count)
        theirs, ours = (1e3 * statistics.median(times[make]) for make in (optax.rmsprop, rmsprop))
        print(f"{name:<16} {theirs:>7.1f} {ours:>7.1f} {ratio(times[rmsprop], times[optax.rmsprop]):>6.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    args = parser.parse_args()
    size = 2**20 if args.quick else 2**25
    kind = jax.devices()[0].device_kind
    print(f"{kind} ({platform.machine()}), jax {jax.__version__}, optax {optax.__version__}")
    step_table(size, 3 if args.quick else 15)
    trees = {"20 of 20 shapes": {f"leaf {i}": jnp.ones(8 + i) for i in range(20)}}
    trees |= {} if args.quick else {"1000 equal": equal(1000), "5000 equal": equal(5000)}
    leaves_table(trees, 1 if args.quick else 5, compile_up_to=1000)
    eager_table(60, 3 if args.quick else 25)


if __name__ == "__main__":
    main()
