"""From the curves of actor_critic.py to its results, its table and its figure."""

import matplotlib
import numpy as np
import recording

matplotlib.use("Agg")
import matplotlib.pyplot as plt

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


def write(frames, curves, below, record):
    """Draw the figure, and with `record` write the results, too."""
    draw(frames, curves, recording.figures(record) / "actor_critic.png")
    if record:
        chunks = len(curves["recipe"][0])
        columns = ["to step", "seeds", *(f"{frames * chunks * part // 6:,}" for part in range(1, 7))]
        more = {"frames": frames, "below": below, "curves": curves}
        recording.write("actor_critic", columns, rows(curves), machine="one CPU core", **more)


def draw(frames, curves, path):
    figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for name, seeds in curves.items():
        runs, (line, color) = np.array(seeds, float), STYLES[name]
        steps = frames * (np.arange(runs.shape[1]) + 0.5)
        mean = np.nanmean(runs, axis=0)
        error = np.nanstd(runs, axis=0, ddof=min(1, len(runs) - 1)) / np.sqrt(len(runs))
        ax.fill_between(steps, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
        ax.plot(steps, mean, color=color, linestyle=line, label=NAMES[name])
    ax.fill_between([], [], color="0.8", label="one standard error")
    ax.set(xlabel="steps of the environments", ylabel="return of an episode", ylim=(0, 510))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)
