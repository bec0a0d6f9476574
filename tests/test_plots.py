"""`plots`: what is drawn is what was given, on the Axes that were given."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

from rmsprop_optax import diagnostics, plots, rmsprop
from rmsprop_optax.sweep import Sweep

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RATES = 2.0 ** np.arange(-3, 2)


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def swept(final, diverged=()):
    """Return a sweep of five rates and two seeds with these final losses."""
    final = np.stack([np.asarray(final, float), 1.1 * np.asarray(final, float)], 1)
    losses = np.stack([np.full((5, 2), 4.0), final], -1)
    at = np.full((5, 2), -1)
    at[list(diverged), 0] = 1
    return Sweep(RATES, losses, at, seeds=(0, 1))


def test_a_sweep_shows_means_ranges_the_edge_the_suggestion_and_what_diverged(ax):
    run = swept([0.4, 0.2, 0.1, 0.3, 9.0], diverged=[4])
    assert plots.sweep(run, ax=ax) is ax
    line, crosses, edge, star = ax.lines
    np.testing.assert_allclose(line.get_xdata(), RATES)
    np.testing.assert_allclose(line.get_ydata()[:4], 1.05 * np.array([0.4, 0.2, 0.1, 0.3]))
    assert np.isnan(line.get_ydata()[4])
    assert crosses.get_xdata().tolist() == [RATES[4]]
    assert set(edge.get_xdata()) == {run.edge} == {RATES[3]}
    assert star.get_xdata() == [run.suggest().learning_rate]
    (band,) = ax.collections
    np.testing.assert_allclose(band.get_paths()[0].vertices[:, 1].max(), 0.44)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_legend() is None


def test_several_sweeps_are_named_and_told_apart(ax):
    plots.sweep({"SGD": swept([4, 3, 2, 3, 4]), "RMSprop": swept([3, 2, 1, 2, 3])}, colors={"SGD": "black"}, ax=ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["SGD", "RMSprop"]
    colors = {line.get_label(): line.get_color() for line in ax.lines if line.get_label() in ("SGD", "RMSprop")}
    assert colors["SGD"] == "black"
    assert colors["RMSprop"] != "black"


def test_losses_that_are_not_positive_are_drawn_on_a_plain_scale(ax):
    plots.sweep(swept([-1, -2, -3, -2, -1]), ax=ax)
    assert ax.get_yscale() == "linear"


def test_effective_learning_rates_show_the_middle_and_the_ends(ax):
    quantiles = np.array([[1.0, 2.0, 4.0], [2.0, 3.0, 8.0]])
    assert plots.effective_learning_rates({"w": quantiles, "b": 10 * quantiles}, steps=[5, 10], ax=ax) is ax
    first, *_, second, _, _ = ax.lines
    assert first.get_xdata().tolist() == [5, 10]
    assert (first.get_ydata().tolist(), second.get_ydata().tolist()) == ([2, 3], [20, 30])
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 8)
    assert ax.get_yscale() == "log"


def test_a_step_response_shows_the_sizes_of_the_steps_over_the_gradients(ax):
    gradients = np.repeat(np.float32([1, 10]), 5)
    response = diagnostics.step_response(rmsprop(1.0, decay=0.75, eps=0.0), gradients)
    assert plots.step_response({"RMSprop": response}, gradients=gradients, ax=ax) is ax
    grey, line = ax.lines
    assert grey.get_ydata().tolist() == gradients.tolist()
    np.testing.assert_allclose(line.get_ydata()[0], 2.0, rtol=1e-6)  # 1 / sqrt(1 - decay), and up
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["gradient", "RMSprop"]


def test_paths_are_drawn_where_they_went(ax):
    route = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, 0.0]])
    assert plots.paths(lambda x, y: x**2 + y**2, {"here": route}, ax=ax) is ax
    assert any(np.array_equal(line.get_xydata(), route) for line in ax.lines)


DRAWN = {
    "sweep": lambda: plots.sweep(swept([4, 3, 2, 3, 4])),
    "effective_learning_rates": lambda: plots.effective_learning_rates({"w": np.ones((3, 3))}),
    "step_response": lambda: plots.step_response({"x": np.ones(3)}),
    "paths": lambda: plots.paths(lambda x, y: x + y, {"x": np.ones((3, 2))}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_without_axes_a_figure_is_made(name):
    ax = DRAWN[name]()
    assert ax.lines
    plt.close(ax.figure)


BAD = {
    "no sweep": (lambda: plots.sweep({}), "`sweeps` must have a rate"),
    "nothing but divergence": (lambda: plots.sweep(swept([1] * 5, diverged=range(5))), "`sweeps` must have a rate"),
    "flat quantiles": (lambda: plots.effective_learning_rates({"w": np.ones(3)}), "`quantiles` at w must have"),
    "steps of another length": (
        lambda: plots.effective_learning_rates({"w": np.ones((3, 3))}, steps=[1, 2]), "`quantiles` at w must have",
    ),
    "a response of matrices": (lambda: plots.step_response({"x": jnp.ones((3, 2))}), "`responses` at x must have"),
    "a scalar gradient": (lambda: plots.step_response({}, gradients=1.0), "at gradients must have"),
    "a route in space": (lambda: plots.paths(lambda x, y: x, {"up": np.ones((3, 3))}), "`routes` at up must have"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_by_name(bad):
    call, message = BAD[bad]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", DRAWN)
def test_without_matplotlib_the_error_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"rmsprop_optax\[plots\]"):
        DRAWN[name]()
