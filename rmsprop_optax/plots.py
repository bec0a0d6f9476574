"""Figures: each function draws on matplotlib Axes and returns them."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rmsprop_optax import _checks

__all__ = ["effective_learning_rates", "paths", "step_response", "sweep"]


def __dir__() -> list[str]:
    return __all__


@_checks.keywords
def paths(
    function: Callable[[Any, Any], Any],
    routes: Mapping[str, Any],
    *,
    colors: Mapping[str, str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw the paths that optimizers took over the contours of a function of two parameters.

    Args:
      function: Maps two arrays of one shape, the parameters, to the function's values in that shape.
      routes: The points of each path by name: an array of shape (steps, 2), the start first.
      colors: A matplotlib color for each name; the others take those of a color-blind safe cycle.
      ax: The Axes to draw on; None makes a new figure.

    Returns:
      The Axes.

    Raises:
      ValueError: No routes; a route that is not finite or not of shape (steps, 2).
      TypeError: Arguments of another type, such as arrays without names.
      ImportError: matplotlib is not installed.

    Example:
      >>> import numpy as np
      >>> from rmsprop_optax import plots
      >>> ax = plots.paths(lambda x, y: x**2 + 9 * y**2, {"straight": np.linspace([-2.0, 1.0], [0.0, 0.0], 9)})
      >>> [text.get_text() for text in ax.get_legend().get_texts()]
      ['straight', 'lowest point']
    """
    if not callable(function):
        raise TypeError(f"`function` must be a function of two arrays, got {_kind(function)}.")
    points = {
        name: _numbers(f"`routes` at {name}", route, "(steps, 2)")
        for name, route in _named("routes", routes, "the points of a path").items()
    }
    for name, route in points.items():
        if route.ndim != 2 or route.shape[1] != 2 or not len(route):
            raise ValueError(f"`routes` at {name} must have shape (steps, 2), got {route.shape}.")
        if not np.isfinite(route).all():
            step = np.argmin(np.isfinite(route).all(1))
            raise ValueError(f"`routes` at {name} must be finite, got {route[step]} at step {step}. Cut it off there.")
    colors = _colors(colors)
    everything = np.concatenate([*points.values(), np.zeros((1, 2))])
    low, high = everything.min(0), everything.max(0)
    margin = 0.15 * (high - low) + 1e-9
    x, y = (np.linspace(a - m, b + m, 200) for a, b, m in zip(low, high, margin, strict=True))
    grid = np.meshgrid(x, y)
    values = _values(function, grid)
    if values.shape != grid[0].shape:
        raise ValueError(f"`function` must return the shape of its arguments, {grid[0].shape}, got {values.shape}.")
    ax = _axes(ax)
    levels = np.quantile(values, np.linspace(0.02, 0.98, 14) ** 2)
    ax.contour(*grid, values, levels=np.unique(levels), colors="0.75", linewidths=0.8, zorder=1)
    for i, (name, route) in enumerate(points.items()):
        color = colors.get(name, _CYCLE[i % len(_CYCLE)])
        ax.plot(*route.T, _MARKS[i % len(_MARKS)], color=color, label=name, markersize=3, linewidth=1.5, zorder=2 + i)
    lowest = np.unravel_index(np.argmin(values), values.shape)
    ax.plot(
        grid[0][lowest], grid[1][lowest], "*", color="0.4", markersize=10, linestyle="", label="lowest point", zorder=1
    )
    ax.set(xlabel=r"$\theta_1$", ylabel=r"$\theta_2$")
    ax.legend(loc="best", frameon=True)
    return ax


@_checks.keywords
def sweep(sweeps: Any, *, colors: Mapping[str, str] | None = None, ax: Any = None) -> Any:
    """Draw the final loss against the learning rate, with the suggested rate and the edge of stability.

    A line is the mean over seeds and its band their range. A cross at the top marks a rate at which a run diverged, the
    dashed vertical line the largest stable rate, and the star the suggested rate: the legend says so.

    Args:
      sweeps: A `rmsprop_optax.sweep.Sweep`, or several by name.
      colors: A matplotlib color for each name; the others take those of a color-blind safe cycle.
      ax: The Axes to draw on; None makes a new figure.

    Returns:
      The Axes, with logarithmic axes; the y-axis is linear if a loss is not positive.

    Raises:
      ValueError: No sweeps; a sweep in which every rate diverged.
      TypeError: Something that is not a sweep.
      ImportError: matplotlib is not installed.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from rmsprop_optax import plots, sweep
      >>> rates = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
      >>> run = sweep.learning_rates(optax.sgd, lambda p, _: p**2, jnp.float32(1.0), None, rates, steps=20)
      >>> ax = plots.sweep(run)
      >>> ax.get_xscale(), ax.get_yscale()
      ('log', 'log')
    """
    named = {"": sweeps} if _is_sweep(sweeps) else _named("sweeps", sweeps, "a `sweep.Sweep`, or such a sweep")
    for name, run in named.items():
        if not _is_sweep(run):
            raise TypeError(
                f"`sweeps` at {name} must be a `sweep.Sweep`, as `sweep.learning_rates` returns it, got {_kind(run)}."
            )
        if run.best is None:
            where = f"`sweeps` at {name}" if name else "`sweeps`"
            smallest = f"the smallest, {run.learning_rates[0]:.3g}, did too. Sweep smaller ones."
            raise ValueError(f"{where} must have a rate that did not diverge, but {smallest}")
    colors, ax = _colors(colors), _axes(ax)
    positive = all((np.asarray(run.final) > 0).all() for run in named.values())
    to, back = (np.log, np.exp) if positive else (np.asarray, np.asarray)
    for i, (name, run) in enumerate(named.items()):
        color = colors.get(name, _CYCLE[i % len(_CYCLE)])
        rates, final = np.asarray(run.learning_rates), np.asarray(run.final).reshape(len(run.learning_rates), -1)
        finite = np.isfinite(final).all(1)
        shown = np.where(finite[:, None], final, np.nan)
        mark = _MARKS[i % len(_MARKS)]
        ax.plot(rates, shown.mean(1), mark, color=color, label=name or None, markersize=3.5, linewidth=1.6, zorder=3)
        ax.fill_between(rates, shown.min(1), shown.max(1), color=color, alpha=0.18, linewidth=0, zorder=1)
        top = ax.get_xaxis_transform()
        ax.plot(
            rates[~finite], np.full((~finite).sum(), 0.97 - 0.04 * i), "x", color=color, markersize=5, transform=top
        )
        if run.edge is not None:
            ax.axvline(run.edge, color=color, linestyle=(3.5 * i, (4, 3)), linewidth=1, zorder=2)  # two, side by side
            rate = run.suggest().learning_rate
            height = back(np.interp(np.log(rate), np.log(rates[finite]), to(shown[finite].mean(1))))
            ax.plot(rate, height, "*", color=color, markeredgecolor="white", markersize=14, zorder=4)
    ax.set(xscale="log", yscale="log" if positive else "linear", xlabel="learning rate", ylabel="final loss")
    low, high = to(ax.get_ylim())
    ax.set_ylim(top=back(high + (0.03 + 0.04 * len(named)) * (high - low)))  # room for the crosses
    ax.legend(handles=[*ax.get_legend_handles_labels()[0], *_marks_of(named.values())], loc="best")
    return ax


@_checks.keywords
def effective_learning_rates(
    quantiles: Mapping[str, Any], *, steps: Any = None, colors: Mapping[str, str] | None = None, ax: Any = None
) -> Any:
    """Draw how widely the effective learning rates spread over the elements, and how they change over training.

    A line is the middle quantile, and its band reaches from the first to the last.

    Args:
      quantiles: Quantiles by name, such as the name of a leaf: shape (steps, quantiles), ascending in each row. Stack
        those that `diagnostics.measure` returns at each step.
      steps: The number of each step, shape (steps,); None counts from 1.
      colors: A matplotlib color for each name; the others take those of a color-blind safe cycle.
      ax: The Axes to draw on; None makes a new figure.

    Returns:
      The Axes, with a logarithmic y-axis.

    Raises:
      ValueError: No quantiles; quantiles that are not of shape (steps, quantiles); `steps` of another length.
      TypeError: Arguments of another type, such as arrays without names.
      ImportError: matplotlib is not installed.

    Example:
      >>> import numpy as np
      >>> from rmsprop_optax import plots
      >>> ax = plots.effective_learning_rates({"hidden": np.geomspace(1, 3, 30).reshape(10, 3)})
      >>> ax.get_ylabel()
      'effective learning rate'
    """
    bands = {
        name: _numbers(f"`quantiles` at {name}", values, "(steps, quantiles)")
        for name, values in _named("quantiles", quantiles, "quantiles").items()
    }
    x = None if steps is None else _numbers("`steps`", steps, "(steps,)")
    for name, band in bands.items():
        if band.ndim != 2 or not band.size:
            raise ValueError(f"`quantiles` at {name} must have shape (steps, quantiles), got {band.shape}.")
        if x is not None and x.shape != band.shape[:1]:
            raise ValueError(
                f"`steps` must have shape ({len(band)},), one for each step of `quantiles` at {name}, got {x.shape}."
            )
    colors, ax = _colors(colors), _axes(ax)
    for i, (name, band) in enumerate(bands.items()):
        color = colors.get(name, _CYCLE[i % len(_CYCLE)])
        at = np.arange(1, len(band) + 1) if x is None else x
        line = _MARKS[i % len(_MARKS)][1:]
        ax.plot(at, band[:, band.shape[1] // 2], line, color=color, label=name, linewidth=1.6, zorder=3)
        ax.plot(at, band[:, [0, -1]], color=color, linewidth=0.5, zorder=2)
        ax.fill_between(at, band[:, 0], band[:, -1], color=color, alpha=0.18, linewidth=0, zorder=1)
    ax.set(yscale="log", xlabel="step", ylabel="effective learning rate")
    ax.legend(loc="best")
    return ax


@_checks.keywords
def step_response(
    responses: Mapping[str, Any], *, gradients: Any = None, colors: Mapping[str, str] | None = None, ax: Any = None
) -> Any:
    """Draw the sizes of optimizers' updates for one sequence of gradients.

    Args:
      responses: Updates by the name of their optimizer: shape (steps,), as `diagnostics.step_response` returns them.
      gradients: The gradients, shape (steps,), drawn in gray behind the updates; None leaves them out.
      colors: A matplotlib color for each name; the others take those of a color-blind safe cycle.
      ax: The Axes to draw on; None makes a new figure.

    Returns:
      The Axes, with a logarithmic y-axis.

    Raises:
      ValueError: No responses; responses or gradients that are not of shape (steps,).
      TypeError: Arguments of another type, such as arrays without names.
      ImportError: matplotlib is not installed.

    Example:
      >>> import numpy as np
      >>> from rmsprop_optax import diagnostics, plots, rmsprop
      >>> gradients = np.repeat(np.float32([1, 10, 1]), 20)
      >>> ax = plots.step_response({"RMSprop": diagnostics.step_response(rmsprop(1.0), gradients)}, gradients=gradients)
      >>> ax.get_ylabel()
      'size of the step'
    """
    named = {f"`responses` at {name}": values for name, values in _named("responses", responses, "updates").items()}
    given = named if gradients is None else named | {"`gradients`": gradients}
    sizes = [np.abs(_numbers(where, values, "(steps,)")) for where, values in given.items()]
    for where, values in zip(given, sizes, strict=True):
        if values.ndim != 1 or not len(values):
            raise ValueError(f"{where} must have shape (steps,), got {values.shape}.")
    series, size = dict(zip(responses, sizes, strict=False)), None if gradients is None else sizes[-1]
    colors, ax = _colors(colors), _axes(ax)
    if size is not None:
        x = np.arange(1, len(size) + 1)
        ax.step(x, size, where="mid", color="0.7", linewidth=3, label="gradient", zorder=1)
    for i, (name, values) in enumerate(series.items()):
        color = colors.get(name, _CYCLE[i % len(_CYCLE)])
        x = np.arange(1, len(values) + 1)
        ax.plot(
            x, values, _MARKS[i % len(_MARKS)], color=color, label=name, markersize=2.5, linewidth=1.5, zorder=2 + i
        )
    ax.set(yscale="log", xlabel="step", ylabel="size of the step")
    ax.legend(loc="best")
    return ax


# Okabe and Ito's palette: its colors can be told apart with any kind of color vision.
_CYCLE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKS = ("o-", "s--", "^:", "D-.")  # a marker and a line, for those who see no colors


def _marks_of(runs: Any) -> list[Any]:
    """Return what a legend needs to explain the star, the vertical line and the crosses of `sweep`."""
    line = _pyplot().Line2D
    marks = []
    if any(run.edge is not None for run in runs):
        marks.append(line([], [], color="0.4", marker="*", markersize=11, linestyle="", label="suggested"))
        marks.append(line([], [], color="0.4", linestyle=(0, (4, 3)), linewidth=1, label="largest stable rate"))
    if not all(np.isfinite(run.final).all() for run in runs):
        marks.append(line([], [], color="0.4", marker="x", linestyle="", label="diverged"))
    return marks


def _values(function: Any, grid: Any) -> np.ndarray:
    """Return the function's values on a grid, or say what it raised."""
    try:
        return np.asarray(function(*grid), float)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise TypeError(
            "`function` must take two arrays, the parameters, and return numbers in their shape. It raised " + said
        ) from error


def _named(argument: str, value: Any, what: str) -> Mapping[str, Any]:
    """Return what to draw by name, or refuse a value without names and an empty dict."""
    if not isinstance(value, Mapping):
        raise TypeError(
            f"`{argument}` must be a dict from a name to {what}, got {_kind(value)}. Name it: {{'RMSprop': ...}}."
        )
    if not value:
        raise ValueError(f"`{argument}` must have at least one name, got an empty dict: there is nothing to draw.")
    return value


def _numbers(where: str, value: Any, shape: str) -> np.ndarray:
    """Return numbers as an array of floats, complex ones as their magnitudes, or refuse the value."""
    try:
        array = np.asarray(value)
        numbers = (np.abs(array) if np.iscomplexobj(array) else array).astype(float)
    except (RuntimeError, TypeError, ValueError):  # RuntimeError: a PyTorch tensor that needs its gradient
        raise TypeError(f"{where} must be an array of numbers of shape {shape}, got {_kind(value)}.") from None
    if value is None or array.dtype.kind in "US":
        raise TypeError(f"{where} must be an array of numbers of shape {shape}, got {_kind(value)}.")
    return numbers


def _kind(value: Any) -> str:
    """Describe a value by its type: an array can be too large to print."""
    return repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _is_sweep(run: Any) -> bool:
    return hasattr(run, "learning_rates") and hasattr(run, "suggest")


def _colors(colors: Any) -> Mapping[str, str]:
    if not (colors is None or isinstance(colors, Mapping)):
        raise TypeError(f"`colors` must be a dict from a name to a color, got {_kind(colors)}.")
    for name, color in (colors or {}).items():
        if not _pyplot().matplotlib.colors.is_color_like(color):
            raise ValueError(
                f"`colors` at {name} must be a color of matplotlib, such as 'C0' or '#D55E00', got {_kind(color)}."
            )
    return colors or {}


def _axes(ax: Any) -> Any:
    if ax is not None and not hasattr(ax, "get_xaxis_transform"):
        raise TypeError(f"`ax` must be the Axes to draw on, got {_kind(ax)}. `figure, ax = plt.subplots()` makes one.")
    if ax is not None:
        return ax
    return _pyplot().subplots(layout="constrained")[1]


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - the package loads without it
    except ImportError as error:
        raise ImportError("rmsprop_optax.plots draws with matplotlib: pip install 'rmsprop_optax[plots]'.") from error
    return plt
