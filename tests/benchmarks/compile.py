"""Processor seconds to lower and to compile an update of 291 leaves: python tests/benchmarks/compile.py [--quick].

The leaves have the shapes of an 8-billion-parameter transformer; nothing is allocated. The time of all threads counts,
the best of some rounds, in which the cases take turns. Nothing compiled is taken from a cache. It writes
results/compile.json and prints the table of docs/performance.md.
"""

import argparse
import json
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import optax
import speed
import tables
from tqdm import tqdm

FOLDER = pathlib.Path(__file__).parent


def leaves(layers):
    """Return the parameters as shapes, by dtype."""
    sys.path.insert(0, str(FOLDER.parent / "ahead_of_time"))
    import at_scale

    model = at_scale.MODELS["8B"]._replace(layers=layers)
    return {dtype: at_scale.parameters(model, dtype) for dtype in (jnp.float32, jnp.bfloat16)}


def seconds(tx, params):
    """Return processor seconds to trace and lower an update and its addition, and to compile them."""
    state = jax.eval_shape(tx.init, params)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    jax.clear_caches()
    start = time.process_time()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    between = time.process_time()
    lowered.compile()
    return between - start, time.process_time() - between


def run(layers, rounds):
    """Measure each case of speed.py in turn, `rounds` times."""
    jax.config.update("jax_enable_compilation_cache", False)
    params = leaves(layers)
    found = {}
    for _ in tqdm(range(rounds), desc="rounds", leave=False):
        for name, (tx, low) in speed.cases().items():
            now = seconds(tx, params[jnp.bfloat16 if low else jnp.float32])
            found[name] = [min(pair) for pair in zip(found.get(name, now), now, strict=True)]
    shapes = jax.tree.leaves(params[jnp.float32])
    return {
        "leaves": len(shapes),
        "shapes": len({leaf.shape for leaf in shapes}),
        "rows": {name: dict(zip(("lower", "compile"), pair, strict=True)) for name, pair in found.items()},
        "machine": f"{jax.devices()[0].device_kind}, jax {jax.__version__}, optax {optax.__version__}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a model of one layer, once; writes nothing")
    args = parser.parse_args()
    found = run(1, 1) if args.quick else run(32, 3)
    if not args.quick:
        (FOLDER / "results" / "compile.json").write_text(json.dumps(found, indent=1) + "\n")
    print(*tables.compiling(found))


if __name__ == "__main__":
    main()
