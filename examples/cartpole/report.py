"""From the curves of actor_critic.py to its results, its table and its figure."""

import datetime
import json
import pathlib
import platform
import re

import jax
import matplotlib
import numpy as np
import optax

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs"
FILE = pathlib.Path("evidence", "actor_critic.json")
NAMES = {"recipe": "the recipe", "optax": "the same numbers in optax.rmsprop", "adam": "Adam"}
STYLES = {"recipe": ("-", "#D55E00"), "optax": ("--", "black"), "adam": (":", "#009E73")}


def sixths(curves):
    """Return the mean return of each seed in each sixth of training: shape (seeds, 6)."""
    parts = np.array_split(np.array(curves, float), 6, axis=1)  # None, where no episode ended, becomes NaN
    return np.stack([np.nanmean(part, axis=1) for part in parts], axis=1)


def mean_and_error(values):
    """Return the mean over seeds and its standard error, each of shape (6,)."""
    error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full(6, np.nan)
    return values.mean(0), error


def rows(curves):
    """Return the rows of the table: each optimizer, then differences of the same seeds."""
    found = {name: sixths(seeds) for name, seeds in curves.items()}
    described = {NAMES[name]: values for name, values in found.items()}
    for other in [name for name in ("optax", "adam") if name in found]:
        described[f"the recipe less {NAMES[other]}"] = found["recipe"] - found[other]
    return [[label, len(values), *(f"{m:.0f} ± {e:.0f}" for m, e in zip(*mean_and_error(values), strict=True))]
            for label, values in described.items()]  # fmt: skip


def results(frames, curves, below):
    """Return what docs/evidence.py makes a table of, and the numbers that it came from."""
    chunks = len(curves["recipe"][0])
    return {
        "command": "python examples/actor_critic.py --record",
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "optax": optax.__version__},
        "machine": "one CPU core",
        "columns": ["to step", "seeds", *(f"{frames * chunks * part // 6:,}" for part in range(1, 7))],
        "rows": rows(curves),
        "frames": frames,
        "below": below,
        "curves": curves,
    }


def write(found, record):
    """Draw the figure, or with `record` write it and the results, a list a line, into docs."""
    folder = DOCS / "figures" if record else pathlib.Path("figures")
    folder.mkdir(exist_ok=True)
    draw(found, folder / "actor_critic.png")
    if not record:
        return
    text = json.dumps(json.loads(json.dumps(found), parse_float=lambda x: float(f"{float(x):.5g}")), indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda match: re.sub(r"\s+", " ", match[0]), text)
    (DOCS / FILE).write_text(text + "\n")


def draw(found, path):
    figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for name, seeds in found["curves"].items():
        curves, (line, color) = np.array(seeds, float), STYLES[name]
        steps = found["frames"] * (np.arange(curves.shape[1]) + 0.5)
        mean = np.nanmean(curves, axis=0)
        error = np.nanstd(curves, axis=0, ddof=min(1, len(curves) - 1)) / np.sqrt(len(curves))
        ax.fill_between(steps, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
        ax.plot(steps, mean, color=color, linestyle=line, label=NAMES[name])
    ax.fill_between([], [], color="0.8", label="one standard error")
    ax.set(xlabel="steps of the environments", ylabel="return of an episode", ylim=(0, 510))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)
