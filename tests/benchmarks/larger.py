"""A larger transformer in float32, with its mean square in a byte, and with bfloat16 weights and 8 bits besides.

    python tests/benchmarks/larger.py [--quick]

It reads what CPython ships: the manual and the sources of the standard library. The learning rate is that at which
float32 has the lowest held-out loss in a quarter of the steps, from another seed. Then three seeds, each with the same
start and the same batches for all three optimizers. Each run is saved in docs/evidence/larger_transformer.json when it
ends; runs that the file has are not run again, so remove the file to begin again. An hour on one CPU core.
"""

import argparse
import time

import evidence_file
import jax
import numpy as np
import optax
import tasks
import training
from tqdm import tqdm

NAME = "larger_transformer"
MODEL = {"size": 1024, "width": 128, "layers": 3, "length": 64, "rows": 8}
STEPS, SEEDS, OTHER_SEED = 2500, (0, 1, 2), 100
RATES = [1e-3 * 2.0**octave for octave in (-1, 0, 1, 2)]
NAMES = ("float32", "byte", "byte, bfloat16 weights + 8")
COLUMNS = ["optimizer", "bytes a parameter, parameters + state"]
COLUMNS += [f"{part}{what}" for what in ("", ", minus float32's") for part in ("train loss", "held-out loss")]


def functions(task, name, rate, steps):
    """Return a run's start, steps and final losses, compiled; the rate rises for a twentieth, then falls to 0."""
    make, low = training.optimizers()[name]
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 20, steps)
    start, step, final = training.pieces(task, make(schedule), low)
    some = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0], donate_argnums=0)
    return jax.jit(start), some, jax.jit(final)


def fit(compiled, seed, steps, bar, at_once=25):
    """Train once, and return the losses at the end, the bytes of the arrays and the seconds."""
    start, some, final = compiled
    began, carry, keys = time.perf_counter(), start(seed), training.keys_of(seed, steps)
    for first in range(0, steps, at_once):
        carry = jax.block_until_ready(some(carry, keys[first : first + at_once]))
        bar.update(min(at_once, steps - first))
    train, held_out = (float(loss) for loss in final(carry))
    params, state = ([x for x in jax.tree.leaves(tree) if x.ndim] for tree in carry)
    return {
        "seed": seed,
        "train": train,
        "held out": held_out,
        "parameters": sum(x.size for x in params),
        "bytes": sum(x.nbytes for x in params + state),
        "seconds": round(time.perf_counter() - began, 1),
    }


def sweep(task, found, steps, save):
    """Fill `found["sweep"]`: float32 at each rate, a quarter of the steps from another seed."""
    for rate in RATES:
        if rate not in [run["rate"] for run in found["sweep"]]:
            with tqdm(total=steps // 4, desc=f"rate {rate:.3g}", unit="step") as bar:
                run = fit(functions(task, "float32", rate, steps // 4), OTHER_SEED, steps // 4, bar)
            found["sweep"].append({"rate": rate} | run)
            save(found)


def compare(task, found, steps, save):
    """Fill `found["runs"]` at the best rate of the sweep: all optimizers with a seed, then the next seed."""
    found["rate"] = min(found["sweep"], key=lambda run: run["held out"])["rate"]
    done = [(run["optimizer"], run["seed"]) for run in found["runs"]]
    todo = [(name, seed) for seed in SEEDS for name in NAMES if (name, seed) not in done]
    compiled = {name: functions(task, name, found["rate"], steps) for name in NAMES}
    with tqdm(total=len(todo) * steps, unit="step") as bar:
        for name, seed in todo:
            bar.set_description(f"{name}, seed {seed}")
            found["runs"].append({"optimizer": name} | fit(compiled[name], seed, steps, bar))
            save(found)


def summary(runs):
    """Return for each optimizer its losses' mean and standard deviation, and those of the differences from float32."""
    found = {}
    for name in NAMES:
        seeds = [run for run in runs if run["optimizer"] == name]
        base = {run["seed"]: run for run in runs if run["optimizer"] == "float32"}
        found[name] = {"bytes": [run["bytes"] / run["parameters"] for run in seeds]}
        for part in ("train", "held out"):
            losses = np.array([run[part] for run in seeds])
            apart = losses - [base[run["seed"]][part] for run in seeds]
            found[name][part] = {"mean": losses.mean(), "seed sd": losses.std(ddof=1)}
            found[name][part] |= {"difference": apart.mean(), "se": apart.std(ddof=1) / len(seeds) ** 0.5}
    return found


def rows(figures):
    made = []
    for name, row in figures.items():
        parts = [row["train"], row["held out"]]
        losses = [f"{part['mean']:.4f} (s.d. {part['seed sd']:.4f})" for part in parts]
        apart = [f"{part['difference']:+.4f} ± {part['se']:.4f}" for part in parts]
        made.append([name, f"{row['bytes'][0]:.4g}", *losses, *([""] * 2 if name == "float32" else apart)])
    return made


def save(found):
    """Write the file; its table when there are two seeds or more."""
    figures = summary(found["runs"]) if len(found["runs"]) >= 2 * len(NAMES) else {}
    command, more = "python tests/benchmarks/larger.py", found | {"summary": figures}
    evidence_file.write(NAME, command, "one of two CPU cores", COLUMNS, rows(figures), **more)


def described(model, steps):
    """Return what is trained on what."""
    text = tasks.words(model["size"], tasks.manual_and_sources)
    return {
        "model": model | {"steps": steps, "tokens": steps * model["rows"] * model["length"]},
        "text": {"files": len(tasks.sources()), "words": len(text), "unknown": float((text == 0).mean())},
    }


def run(model, steps, save, found):
    """Train all that `found` does not have."""
    task = tasks.transformer(**model, text=tasks.manual_and_sources)
    what = described(model, steps)
    assert all(found.get(key, value) == value for key, value in what.items()), "the file has runs of something else"
    found = what | {"sweep": found.get("sweep", []), "runs": found.get("runs", [])}
    sweep(task, found, steps, save)
    compare(task, found, steps, save)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model, to see that it runs; writes nothing")
    if parser.parse_args().quick:
        found = run(MODEL | {"width": 16, "layers": 1, "length": 8}, 40, lambda found: None, {})
    else:
        found = run(MODEL, STEPS, save, evidence_file.read(NAME))
    print("\n".join(" | ".join(row) for row in [COLUMNS, *rows(summary(found["runs"]))]))


if __name__ == "__main__":
    main()
