"""From the results of note_claims.py to the figures and tables of docs/the_note.md."""

import json

import jax.numpy as jnp
import matplotlib
import numpy as np
import recording
from recording import table
from the_note import tasks

from rmsprop_optax import diagnostics, plots, rmsprop, sweep

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib import ticker

COLORS = {"SGD": "#000000", "momentum": "#0072B2", "RMSprop": "#D55E00", "Adam": "#009E73"}
LINES = {"SGD": ":", "momentum": "--", "RMSprop": "-", "Adam": "-."}
TITLES = {"bowl": "Bowl", "digits": "Digits", "text": "Text"}


def write(results, path):
    """Write the results."""
    path.write_text(recording.evidence.in_lines(plain(results)) + "\n")


def plain(x):
    """Turn arrays into lists, and numbers into those of four digits; what is not finite is None."""
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple) or getattr(x, "ndim", 0):
        return [plain(value) for value in x]
    if isinstance(x, str | bool | np.bool_):
        return x if isinstance(x, str) else bool(x)
    return float(f"{float(x):.4g}") if np.isfinite(x) else None


def draw(path, folder):
    """Draw the figures from the results."""
    results = json.loads(path.read_text())
    for name, make in FIGURES.items():
        figure = make(results)
        figure.savefig(folder / f"note_{name}.png", dpi=150)
        plt.close(figure)
    print(f"drew {', '.join(FIGURES)} in {folder}")


def tables(results):
    """Return the tables of the page."""
    return {name: make(results) for name, make in TABLES.items()}


def cell(values):
    """Mean and standard deviation over the seeds; where not every seed got there, of those that did."""
    there = np.array([value for value in values if value is not None], float)
    if not len(there):
        return f"0 of {len(values)}"
    mean, few = there.mean(), "" if len(there) == len(values) else f" ({len(there)} of {len(values)})"
    spread = there.std(ddof=1) if len(there) > 1 else 0.0
    exact = abs(mean) >= 1e-3 and spread  # then both are written out
    digits = np.format_float_positional(spread, 1, fractional=False, trim="-") if exact else plainly(spread)
    return f"{plainly(mean)} ± {digits}{few}"


def plainly(x):
    return f"{x:.3g}" if 1e-3 <= abs(x) < 1000 or x == 0 else f"{x:.0f}" if abs(x) >= 1000 else f"{x:.1e}"


def by_optimizer(key, names=tuple(COLORS)):
    def made(results):
        runs = results["compare"]
        return table(["", *names], [[task, *(cell(run[name][key]) for name in names)] for task, run in runs.items()])

    return made


def conditions_table(results):
    found = results["conditions"]
    columns = [(name, how) for name in ("SGD", "momentum", "RMSprop") for how in ("along", "askew")]
    rows = [
        [plainly(condition), *(plainly(np.mean(found[name][how][i])) for name, how in columns)]
        for i, condition in enumerate(found["condition"])
    ]
    return table(["times as steep", *(f"{name}, {how}" for name, how in columns)], rows)


def spread_table(results):
    rows = [[task, cell(run["ratio"]), cell(run["never"])] for task, run in results["spread"].items()]
    return table(["", "95 % quantile over 5 % quantile", "share without any gradient"], rows)


def adaptation_table(results):
    ways = {"element": "each element", "tensor": "each tensor", "all": "all together"}
    rows = []
    for task, run in results["adaptation"].items():
        rows.append([f"{task}, final loss", *(cell(run[way]["final"]) for way in ways)])
        rows.append([f"{task}, steps to the target", *(cell(run[way]["steps"]) for way in ways)])
    return table(["one mean square for", *ways.values()], rows)


def bias_table(results):
    rows = []
    for task, decays in results["bias"].items():
        for decay, run in decays.items():
            pair = [run[way][key] for key in ("final", "early", "steps") for way in ("plain", "corrected")]
            rates = [plainly(run[way]["rate"]) for way in ("plain", "corrected")]
            rows.append([f"{task}, {decay}", *rates, *map(cell, pair)])
    head = [f"{key}, {way}" for key in ("rate", "final loss", "early loss", "steps") for way in ("plain", "corrected")]
    return table(["task, decay", *head], rows)


def sensitivity_table(results):
    rows = []
    for task, run in results["compare"].items():
        for name, found in run.items():
            room = f"{'at least ' if found['edge_is_last'] else ''}{found['room']:.1f}"
            numbers = [plainly(found["rate"]), plainly(found["edge"]), room, f"{found['usable']:.1f}"]
            numbers += [plainly(swept(found).sensitivity(octaves=2))]
            rows.append([f"{task}, {name}", *numbers, cell(found["steps"]), cell(found["final"])])
    head = ["", "suggested rate", "edge", "edge over suggested, octaves", "usable octaves", "sensitivity"]
    return table([*head, "steps to the target", "final loss"], rows)


def eps_table(results):
    runs = results["eps"]
    shown = range(0, len(next(iter(runs.values()))["eps"]), 2)
    powers = [f"2^{np.log2(next(iter(runs.values()))['eps'][i]):.0f}" for i in shown]
    return table(["eps", *powers], [[task, *(cell(run["final"][i]) for i in shown)] for task, run in runs.items()])


def suggestion_table(results):
    rows = []
    for task, run in results["suggestion"].items():
        for name, found in run.items():
            finals = [[np.inf if x is None else x for x in found[key]] for key in ("half", "itself", "twice")]
            best = int((np.array(finals[1]) < np.minimum(finals[0], finals[2])).sum())
            losses = [cell(found[key]) for key in ("half", "itself", "twice")]
            rows.append([f"{task}, {name}", plainly(found["rate"]), *losses, f"{best} of {len(finals[1])}"])
    return table(["", "suggested rate", "half of it", "itself", "twice it", "best of the three"], rows)


TABLES = {
    "undone": by_optimizer("undone"),
    "reversed": by_optimizer("reversed"),
    "detour": by_optimizer("detour"),
    "conditions": conditions_table,
    "spread": spread_table,
    "adaptation": adaptation_table,
    "steps": by_optimizer("steps"),
    "final": by_optimizer("final"),
    "bias": bias_table,
    "sensitivity": sensitivity_table,
    "eps": eps_table,
    "suggestion": suggestion_table,
}


def panels(results, key="compare", height=3.5):
    names = list(results[key])
    figure, axes = plt.subplots(1, len(names), figsize=(9.5, height), layout="constrained", squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        ax.set_title(TITLES[name], fontsize=11)
    return figure, dict(zip(names, axes[0], strict=True))


def explain(figure, ax, **options):
    """Put the legend of one panel below all of them."""
    handles = ax.get_legend().legend_handles if ax.get_legend() else ax.get_legend_handles_labels()[0]
    for panel in figure.axes:
        if panel.get_legend():
            panel.get_legend().remove()
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9.5, **options)


def smooth(series, width=10):
    series = np.array([np.nan if x is None else x for x in series], float)
    width = min(width, len(series))
    return np.arange(width, len(series) + 1), np.convolve(series, np.ones(width) / width, mode="valid")


def draw_curves(results, key="curve", label="training loss", scale="log"):
    figure, axes = panels(results)
    for task, ax in axes.items():
        for name, run in results["compare"][task].items():
            ax.plot(*smooth(run[key]), color=COLORS[name], linestyle=LINES[name], label=name, linewidth=1.6)
        ax.set(xlabel="step", yscale=scale)
        if scale == "log":
            readable(ax)
        if key == "curve":
            ax.axhline(results["targets"][task], color="0.6", linewidth=0.8, label="target", zorder=0)
    axes[next(iter(axes))].set_ylabel(label)
    explain(figure, ax)
    return figure


def draw_oscillation(results):
    return draw_curves(results, "curve_undone", "share undone by the next step", "linear")


def draw_step(results):
    gradients = np.repeat(np.float32([1, 10, 1]), [30, 30, 60])
    optimizers = {"SGD": tasks.OPTIMIZERS["SGD"](1.0), "RMSprop": rmsprop(1.0)}
    responses = {name: diagnostics.step_response(tx, gradients) for name, tx in optimizers.items()}
    figure, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    plots.step_response(responses, gradients=gradients, colors=COLORS, ax=ax)
    ax.set_title("A gradient grows tenfold and shrinks again; learning rate 1, decay 0.9", fontsize=10)
    return figure


def draw_paths(results):
    steep = jnp.array([1.0, 30.0])
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.7), layout="constrained")
    askew = jnp.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
    for ax, turn, title in zip(axes, (jnp.eye(2), askew), ("axes along the parameters", "axes askew"), strict=True):
        bowl = turn @ jnp.diag(steep) @ turn.T
        start = turn @ jnp.array([-2.0, 1.3])
        routes = {name: route(tasks.OPTIMIZERS[name], bowl, start) for name in ("SGD", "RMSprop")}
        plots.paths(lambda x, y, b=bowl: 0.5 * (b[0, 0] * x**2 + 2 * b[0, 1] * x * y + b[1, 1] * y**2), routes,
                    colors=COLORS, ax=ax)  # fmt: skip
        ax.set_title(f"30 times as steep, {title}", fontsize=11)
    explain(figure, ax)
    return figure


def route(make_tx, bowl, start, steps=40):
    """Return the points on the way down, at the rate that suits."""
    found = sweep.learning_rates(
        make_tx, tasks.bowl_loss, start, jnp.stack([bowl] * steps), 2.0 ** np.arange(-8, 0, 0.25)
    )
    tx = make_tx(found.suggest().learning_rate)
    params, state, points = start, tx.init(start), [start]
    for _ in range(steps):
        updates, state = tx.update(bowl @ params, state, params)
        params = params + updates
        points.append(params)
    return np.stack(points)


def draw_rates(results):
    figure, axes = panels(results, "spread")
    for task, ax in axes.items():
        found, rate = results["spread"][task], results["compare"][task]["RMSprop"]["rate"]
        steps, name, color = found["steps"], "median, and 90 % of the elements", COLORS["RMSprop"]
        plots.effective_learning_rates({name: found["quantiles"]}, steps=steps, colors={name: color}, ax=ax)
        _, low, _, high, _ = np.transpose(found["quantiles"])
        ax.fill_between(steps, low, high, color=color, alpha=0.35, linewidth=0, label="half of the elements")
        ax.axhline(rate, color="0.5", linewidth=1, linestyle=(0, (4, 3)), label="learning rate", zorder=0)
        ax.get_legend().remove()
        if ax is not axes[next(iter(axes))]:
            ax.set_ylabel("")
    explain(figure, ax)
    return figure


def draw_sweep(results):
    figure, axes = panels(results, height=3.5)
    for task, ax in axes.items():
        run = {name: results["compare"][task][name] for name in ("SGD", "RMSprop", "Adam")}
        plots.sweep({name: swept(found) for name, found in run.items()}, colors=COLORS, ax=ax)
        readable(ax)
        if ax is not axes[next(iter(axes))]:
            ax.set_ylabel("")
    explain(figure, ax)
    return figure


def swept(found):
    """Return the sweep again, with no more of its losses than the first and the final."""
    first, final = (np.array(found[key], float) for key in ("first", "finals"))  # None is NaN
    rates = 2 ** (np.round(2 * np.log2(found["rates"])) / 2)  # half octaves, of which four digits were written
    at = np.array(found["diverged_at"], int)
    return sweep.Sweep(rates, np.stack([first, final], -1), at, seeds=tuple(range(at.shape[1])))


def readable(ax):
    """Give a logarithmic axis half a decade at least, and numbers without exponents where there is room for them."""
    low, high = np.log10(ax.get_ylim())
    low, high = min(low, (low + high) / 2 - 0.25), max(high, (low + high) / 2 + 0.25)
    ax.set_ylim(10**low, 10**high)
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())
    if high - low < 2.5:
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high - low > 1 else range(1, 10)))
        ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:g}"))


def draw_bias(results):
    figure, axes = panels(results, "bias")
    for task, ax in axes.items():
        decays = results["bias"][task]
        for way, color, face, shift in (
            ("plain", "#D55E00", "#D55E00", -0.08),
            ("corrected", "#0072B2", "white", 0.08),
        ):
            for key, marker in (("early", "o"), ("final", "s")):
                values = np.array([run[way][key] for run in decays.values()], float)
                error = np.abs(np.stack([values.min(1), values.max(1)]) - values.mean(1))
                style = {"color": color, "markerfacecolor": face, "markersize": 5, "capsize": 3, "linewidth": 1.2}
                x, label = np.arange(len(decays)) + shift, f"{way}, {key}"
                ax.errorbar(x, values.mean(1), error, fmt=marker, label=label, **style)
        ax.set(yscale="log", xlabel="decay", xticks=range(len(decays)), xticklabels=list(decays))
        ax.margins(x=0.2)
        readable(ax)
    axes[next(iter(axes))].set_ylabel("training loss")
    explain(figure, ax, title="mean and range of ten seeds")
    return figure


def draw_eps(results):
    figure, axes = panels(results, "eps")
    for task, ax in axes.items():
        found = results["eps"][task]
        values = np.array([[np.nan if x is None else x for x in row] for row in found["final"]], float)
        color, low, high = COLORS["RMSprop"], values.min(1), values.max(1)
        ax.plot(found["eps"], values.mean(1), "o-", color=color, markersize=4, label="mean")
        ax.fill_between(found["eps"], low, high, color=color, alpha=0.18, linewidth=0, label="range of five seeds")
        ax.axvline(1e-8, color="0.6", linewidth=1, linestyle=(0, (4, 3)), label="default, 1e-8", zorder=0)
        ax.set(xscale="log", yscale="log", xlabel="eps")
        readable(ax)
    axes[next(iter(axes))].set_ylabel("final training loss")
    explain(figure, ax)
    return figure


FIGURES = {
    "step": draw_step,
    "oscillation": draw_oscillation,
    "paths": draw_paths,
    "rates": draw_rates,
    "curves": draw_curves,
    "bias": draw_bias,
    "sweep": draw_sweep,
    "eps": draw_eps,
}
