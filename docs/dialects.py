"""Write the tables of dialects.md from the rows, and draw its two figures: python docs/dialects.py."""

import argparse
import pathlib
import re

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import page_tables

from rmsprop_optax import dialects, rmsprop

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).parent
NUMBERS = ["learning_rate", "decay", "eps", "momentum", "centered", "weight_decay"]
MOMENTS = ["nu", "mu", "trace", "ema", "count"]
NONE = "-"


def page(text):
    """Return the page with its tables written from the rows."""
    made = {"switches": switches(), "names": names(), "state": state(), "sources": sources()}
    return page_tables.page(text, made)


def switches():
    head = ["", "eps", "`nu` starts at", "its bias", "momentum", "learning rate", "weight decay", "complex parameters"]
    return page_tables.table(head, [_switches(row) for row in dialects.ROWS.values()])


def _title(row):
    return f"`{row.api}` {row.version}"


def _switches(row):
    v = row.variant
    has_decay = "weight_decay" in row.arguments or not v.decoupled_weight_decay
    cells = {
        "eps_in_sqrt": "in the root" if v.eps_in_sqrt else "outside",
        "initial_scale": f"{v.initial_scale:g}",
        "bias_correction": "corrected" if v.bias_correction else "not corrected",
        "average_momentum": ("average" if v.average_momentum else "sum") if _has(row, "momentum") else NONE,
        "lr_in_momentum": ("in the momentum" if v.lr_in_momentum else "outside") if _has(row, "momentum") else NONE,
        "decoupled_weight_decay": ("decoupled" if v.decoupled_weight_decay else "L2") if has_decay else NONE,
        "complex_pairs": {True: "two numbers", False: "one number", None: NONE}[v.complex_pairs],
    }
    for switch, argument in row.set_by.items():
        if switch in cells:
            cells[switch] += f"; set by `{argument}`"
    return [_title(row), *cells.values()]


def _has(row, name):
    return name in row.arguments or name in row.fixed


def names():
    return page_tables.table(
        ["", "function", *(f"`{name}`" for name in NUMBERS)],
        [
            [_title(row), f"`{row.function}`" if row.function else NONE, *(_argument(row, n) for n in NUMBERS)]
            for row in dialects.ROWS.values()
        ],
    )


def _argument(row, name):
    if name in row.fixed:
        return f"always {_number(row.fixed[name])}"
    if name not in row.arguments:
        return NONE
    default = f" = {_number(row.defaults[name])}" if name in row.defaults else ""
    return f"`{row.arguments[name]}{default}`"


def _number(x):
    return re.sub(r"e-0", "e-", f"{x:g}") if isinstance(x, float) else str(x)


def state():
    head = ["", *(f"`{name}`" for name in MOMENTS), "buffer at momentum 0"]
    return page_tables.table(head, [_state(row) for row in dialects.ROWS.values() if row.state])


def _state(row):
    cells = [f"`{row.state[name]}`" if name in row.state else NONE for name in MOMENTS]
    if row.negated_trace:
        cells[MOMENTS.index("trace")] += ", negated"
    buffer = ("yes" if row.keeps_trace else "no") if _has(row, "momentum") else NONE
    return [_title(row), *cells, buffer]


def sources():
    return page_tables.table(
        ["", "read at", "remark"], [[_title(r), r.source, r.remark or NONE] for r in dialects.ROWS.values()]
    )


BLACK, ORANGE, BLUE, GREEN = "#000000", "#D55E00", "#0072B2", "#009E73"  # Okabe and Ito's


def eps_figure(path):
    """Draw the settled step against the size of the gradient, eps inside and outside the root."""
    sizes = np.geomspace(1e-12, 1e2, 400)
    lines = [
        (1e-8, True, BLUE, "-", "eps = 1e-8 in the root (TensorFlow, Keras, optax)"),
        (1e-8, False, ORANGE, "-.", "eps = 1e-8 outside (PyTorch)"),
        (1e-4, False, BLACK, "--", "eps = 1e-4 outside: the root of 1e-8"),
    ]
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for eps, inside, color, style, label in lines:
        tx = rmsprop(1.0, decay=0.0, eps=eps, eps_in_sqrt=inside)  # without memory, every step is a settled one
        g = jnp.asarray(sizes)
        step = -tx.update(g, tx.init(g))[0]
        ax.loglog(sizes, step, style, color=color, label=label, linewidth=2)
    for floor, color in ((1e-8, ORANGE), (1e-4, BLUE)):
        ax.axvline(floor, ymin=0.3, color=color, linestyle=":", zorder=0)  # above the legend
        ax.annotate(
            f"floor {floor:.0e}".replace("e-0", "e-"), (floor, 2), (4, 0), textcoords="offset points", color=color
        )
    ax.set(
        xlabel="size of a steady gradient", ylabel="step, in learning rates", ylim=(1e-8, 8),
        title="A gradient below the floor takes a step in proportion to its size",
    )  # fmt: skip
    ax.grid(color="0.9")
    ax.legend(loc="lower right", frameon=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def first_steps_figure(path):
    """Draw the first steps on a steady gradient: from zeros for three decays, and from ones for three gradients."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for decay, color, line in ((0.9, BLUE, "-"), (0.99, ORANGE, "--"), (0.999, BLACK, "-.")):
        path_of = _steps(rmsprop(1.0, decay=decay, eps=0.0), 1.0)
        left.loglog(np.arange(1, 1001), path_of, line, color=color, label=f"decay {decay}", linewidth=2)
        left.annotate(f"{path_of[0]:.1f}", (1, path_of[0]), (4, 2), textcoords="offset points", color=color)
    corrected = _steps(rmsprop(1.0, decay=0.999, eps=0.0, bias_correction=True), 1.0)
    left.loglog(np.arange(1, 1001), corrected, ":", color=GREEN, label="any, bias_correction=True", linewidth=3)
    left.set_title("nu starts at 0: 1/sqrt(1 - decay) at first")
    for g, color, line in ((10.0, BLUE, "-"), (0.1, ORANGE, "--"), (0.001, BLACK, "-.")):
        path_of = _steps(rmsprop(1.0, decay=0.9, eps=0.0, initial_scale=1.0), g)
        right.loglog(np.arange(1, 1001), path_of, line, color=color, label=f"gradient {g:g}", linewidth=2)
    right.set_title("nu starts at 1 (TensorFlow 1), decay 0.9")
    left.set(ylabel="step, in learning rates", ylim=(None, 80))
    for ax in (left, right):
        ax.set_xlabel("number of the step, on a steady gradient")
        ax.grid(color="0.9")
        ax.legend(loc="lower left" if ax is left else "lower right", frameon=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _steps(tx, g):
    def step(state, _):
        update, state = tx.update(g, state)
        return state, -update

    return np.asarray(jax.lax.scan(step, tx.init(0.0), length=1000)[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="where to write (default: beside this file)")
    out = parser.parse_args().out
    (out / "figures").mkdir(parents=True, exist_ok=True)
    (out / "dialects.md").write_text(page((HERE / "dialects.md").read_text()))
    eps_figure(out / "figures" / "eps.png")
    first_steps_figure(out / "figures" / "first_steps.png")
    print(f"wrote {out / 'dialects.md'} and two figures")
