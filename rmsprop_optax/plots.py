"""Pictures: matplotlib Axes in, Axes out."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


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
      routes: A name for each path, and its points: an array of shape (steps, 2), the start first.
      colors: A matplotlib color for each name; those not named follow the color-blind safe cycle.
      ax: Where to draw; None makes a new figure.

    Returns:
      The Axes drawn on.

    Raises:
      ValueError: A route that is not of shape (steps, 2).
      ImportError: matplotlib is not installed.

    Example:
      >>> import numpy as np
      >>> from rmsprop_optax import plots
      >>> ax = plots.paths(lambda x, y: x**2 + 9 * y**2, {"straight": np.linspace([-2.0, 1.0], [0.0, 0.0], 9)})
      >>> [text.get_text() for text in ax.get_legend().get_texts()]
      ['straight']
    """
    points = {name: np.asarray(route, float) for name, route in routes.items()}
    for name, route in points.items():
        if route.ndim != 2 or route.shape[1] != 2:
            raise ValueError(f"`routes` at {name} must have shape (steps, 2), got {route.shape}.")
    ax = _axes(ax)
    everything = np.concatenate([*points.values(), np.zeros((1, 2))])
    low, high = everything.min(0), everything.max(0)
    margin = 0.15 * (high - low) + 1e-9
    x, y = (np.linspace(a - m, b + m, 200) for a, b, m in zip(low, high, margin, strict=True))
    grid = np.meshgrid(x, y)
    values = np.asarray(function(*grid), float)
    levels = np.quantile(values, np.linspace(0.02, 0.98, 14) ** 2)
    ax.contour(*grid, values, levels=np.unique(levels), colors="0.75", linewidths=0.8, zorder=1)
    for i, (name, route) in enumerate(points.items()):
        color = (colors or {}).get(name, _CYCLE[i % len(_CYCLE)])
        ax.plot(*route.T, "o-", color=color, label=name, markersize=3, linewidth=1.5, zorder=2 + i)
    lowest = np.unravel_index(np.argmin(values), values.shape)
    ax.plot(grid[0][lowest], grid[1][lowest], "*", color="0.4", markersize=10, zorder=1)
    ax.set(xlabel=r"$\theta_1$", ylabel=r"$\theta_2$")
    ax.legend(loc="best", frameon=True)
    return ax


# Okabe and Ito's palette, told apart with any kind of color vision.
_CYCLE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt  # noqa: PLC0415 - the package loads without it
    except ImportError as error:
        raise ImportError("rmsprop_optax.plots draws with matplotlib: pip install 'rmsprop_optax[plots]'.") from error
    return plt.subplots(layout="constrained")[1]
