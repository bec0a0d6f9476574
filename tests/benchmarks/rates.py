"""Every code at the learning rate that suits it best, beside float32 at the rate that suits float32 best.

    python tests/benchmarks/rates.py [--quick]

The tasks, starts and batches are those of training.py. Rates are half octaves from 0.001, and are chosen on seeds that
are not judged: from a grid of four, on until the best is between two that are worse. The best rate for the training
part may not be the best for the part held out, so each part has a rate chosen for it. At such rates a few runs end with
a loss many times that of the others, which would decide a mean of losses: the mean of the logarithm of the loss is what
is chosen by and compared. Where a code's rate is not float32's, it is judged at that of float32 too, and float32 at
that of the code. Each code is saved in docs/evidence/codes_at_their_best_rate.json when it is done; codes that the file
has are not trained again, so remove the file to begin again. More than half an hour on one CPU core.
"""

import argparse

import evidence_file
import jax
import numpy as np
import tables
import tasks
import training
from tqdm import tqdm

NAME, COMMAND = "codes_at_their_best_rate", "python tests/benchmarks/rates.py"
PARTS = ("train", "held out")
SETTINGS = {
    "digits": {"task": tasks.mlp, "steps": 1000, "judged": 128, "choosing": 32, "at once": 32},
    "manual": {"task": tasks.transformer, "steps": 600, "judged": 8, "choosing": 2, "at once": 4},
}
QUICK = {"steps": 20, "judged": 2, "choosing": 2, "at once": 4}
FIRST_OTHER_SEED = 500


def rate(half_octaves):
    return 1e-3 * 2 ** (half_octaves / 2)


def trainer(task, make, low, settings, desc):
    """Return a function from half octaves and seeds to the losses at the end, an array (half octaves, seeds, parts)."""
    steps, at_once = settings["steps"], settings["at once"]

    def one(seed, rate):
        start, step, final = training.pieces(task, make(rate), low)
        return final(jax.lax.scan(step, start(seed), training.keys_of(seed, steps))[0])

    together = jax.jit(jax.vmap(one))

    def losses(half_octaves, seeds):
        runs = np.array([(seed, rate(i)) for i in half_octaves for seed in seeds])
        padded = np.resize(runs, (-(-len(runs) // at_once) * at_once, 2)).reshape(-1, at_once, 2)
        batches = tqdm(padded, desc=desc, unit=f"{at_once} runs")
        made = [np.array(together(batch[:, 0].astype(np.int32), batch[:, 1].astype(np.float32))) for batch in batches]
        flat = np.concatenate(made, axis=1, dtype=np.float64).T[: len(runs)]
        return flat.reshape(len(half_octaves), len(seeds), len(PARTS))

    return losses


def choose(mean_losses, start=(0, 1, 2, 3), last=10):
    """Return the mean log losses of each part by half octave, until each part's best is between two that are worse."""
    found, todo = {}, list(start)
    while todo:
        found |= dict(zip(todo, mean_losses(todo), strict=True))
        wanted = set()
        for part in range(len(PARTS)):
            best = best_of(found, part)
            wanted |= {best - 2, best - 1} if best == min(found) else set()
            wanted |= {best + 1, best + 2} if best == max(found) else set()
        todo = sorted(i for i in wanted if abs(i) <= last)
    return found


def best_of(found, part):
    """Return the half octave with the lowest loss; a loss that is not finite is the highest."""
    return min(found, key=lambda i: found[i][part] if np.isfinite(found[i][part]) else np.inf)


def code(losses, settings):
    """Choose a code's rates and return the losses, of the choice and of the seeds that are judged."""
    others = range(FIRST_OTHER_SEED, FIRST_OTHER_SEED + settings["choosing"])
    found = choose(lambda todo: np.log(losses(todo, others)).mean(1))
    best = [best_of(found, part) for part in range(len(PARTS))]
    rates = sorted(set(best))
    at = dict(zip(rates, losses(rates, range(settings["judged"])), strict=True))
    return {
        part: {
            "half octaves": best[p],
            "rate": rate(best[p]),
            "choice": [[rate(i), np.exp(found[i][p])] for i in sorted(found)],
            "losses": in_digits(at[best[p]][:, p]),
        }
        for p, part in enumerate(PARTS)
    }


def judged(losses, half_octaves, settings, part):
    """Return the losses of the seeds that are judged, at one rate."""
    return in_digits(losses([half_octaves], range(settings["judged"]))[0, :, part])


def in_digits(losses):
    return [float(f"{loss:.7g}") for loss in losses]


def run(name, settings, found, save):
    """Fill `found` with the codes of one task that it does not have."""
    task = settings["task"]()
    for label, (make, low) in training.optimizers().items():
        if label not in found:
            found[label] = code(trainer(task, make, low, settings, f"{name}, {label}"), settings)
            save()


def at_float32s_rate(name, settings, found, save):
    """Judge each code also at float32's rate where its own is another: is it the code or the rate that differs?"""
    task = settings["task"]()
    for label, (make, low) in training.optimizers().items():
        for p, part in enumerate(PARTS):
            row, base = (found[code][part] for code in (label, "float32"))
            if row["rate"] != base["rate"] and "losses at float32's rate" not in row:
                losses = trainer(task, make, low, settings, f"{name}, {label}, {part}, at float32's rate")
                row["losses at float32's rate"] = judged(losses, base["half octaves"], settings, p)
                save()


def float32_at_their_rates(name, settings, found, save):
    """Judge float32 also at the rates of the codes: what does it lose there itself?"""
    task, (make, low) = settings["task"](), training.optimizers()["float32"]
    for p, part in enumerate(PARTS):
        base = found["float32"][part]
        there = base.setdefault("losses at other rates", {})
        for i in sorted({row[part]["half octaves"] for row in found.values()} - {base["half octaves"]}):
            if f"{rate(i):.2g}" not in there:
                losses = trainer(task, make, low, settings, f"{name}, float32, {part}, at {rate(i):.2g}")
                there[f"{rate(i):.2g}"] = judged(losses, i, settings, p)
                save()


def measure(name, settings, codes, save):
    run(name, settings, codes, save)
    at_float32s_rate(name, settings, codes, save)
    float32_at_their_rates(name, settings, codes, save)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs; writes nothing")
    if parser.parse_args().quick:
        for name, settings in SETTINGS.items():
            measure(name, settings | QUICK, {}, lambda: None)
        return
    found = evidence_file.read(NAME).get("tasks", {})

    def save():
        columns, rows = tables.rates_as_one(found)
        evidence_file.write(NAME, COMMAND, "one of two CPU cores", columns, rows, tasks=found)

    for name, settings in SETTINGS.items():
        what = {key: settings[key] for key in ("steps", "judged", "choosing")} | {"decay": training.DECAY}
        measure(name, settings, found.setdefault(name, what | {"codes": {}})["codes"], save)
    print("\n\n".join(tables.rates(found)))


if __name__ == "__main__":
    main()
