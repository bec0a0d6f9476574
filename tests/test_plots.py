"""`plots`: each function draws the given numbers on the given Axes."""

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


def test_a_sweep_shows_means_ranges_the_edge_the_suggestion_and_diverged_rates(ax):
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
    marks = [text.get_text() for text in ax.get_legend().get_texts()]
    assert marks == ["suggested", "largest stable rate", "diverged"]


def test_several_sweeps_are_named_and_told_apart(ax):
    plots.sweep({"SGD": swept([4, 3, 2, 3, 4]), "RMSprop": swept([3, 2, 1, 2, 3])}, colors={"SGD": "black"}, ax=ax)
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["SGD", "RMSprop", "suggested", "largest stable rate"]
    assert len({line.get_linestyle() for line in ax.lines if line.get_label() in ("SGD", "RMSprop")}) == 2
    colors = {line.get_label(): line.get_color() for line in ax.lines if line.get_label() in ("SGD", "RMSprop")}
    assert colors["SGD"] == "black"
    assert colors["RMSprop"] != "black"


def test_losses_that_are_not_positive_are_drawn_on_a_linear_scale(ax):
    plots.sweep(swept([-1, -2, -3, -2, -1]), ax=ax)
    assert ax.get_yscale() == "linear"


def test_effective_learning_rates_show_the_middle_and_the_outer_quantiles(ax):
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


def test_paths_are_drawn_through_their_points(ax):
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


def plain(x, y):
    return x + y


def spread(quantiles, **options):
    return plots.effective_learning_rates(quantiles, **options)


DIVERGED = swept([1] * 5, diverged=range(5))
BAD = {
    "nothing but divergence": (lambda: plots.sweep(DIVERGED), ValueError, "`sweeps` must have a rate that did not"),
    "one that diverged": (lambda: plots.sweep({"SGD": DIVERGED}), ValueError, "`sweeps` at SGD must have a rate"),
    "losses for a sweep": (lambda: plots.sweep(np.ones(3)), TypeError, "to a `sweep.Sweep`.*got a ndarray.*Name it"),
    "a named array for a sweep": (lambda: plots.sweep({"a": np.ones(3)}), TypeError, "`sweeps` at a must be a"),
    "flat quantiles": (lambda: spread({"w": np.ones(3)}), ValueError, r"`quantiles` at w must have.*got \(3,\)"),
    "empty quantiles": (lambda: spread({"w": np.ones((3, 0))}), ValueError, "`quantiles` at w must have shape"),
    "a word for quantiles": (lambda: spread({"w": "median"}), TypeError, "`quantiles` at w.*of numbers"),
    "steps of another length": (
        lambda: spread({"w": np.ones((3, 3))}, steps=[1, 2]), ValueError, r"`steps` must have shape \(3,\).*got \(2,\)",
    ),
    "a word for steps": (lambda: spread({"w": np.ones((3, 3))}, steps="all"), TypeError, "`steps` must be an array"),
    "a response of matrices": (lambda: plots.step_response({"x": jnp.ones((3, 2))}), ValueError, "`responses` at x"),
    "a response without steps": (lambda: plots.step_response({"x": []}), ValueError, "`responses` at x must have"),
    "None for a response": (lambda: plots.step_response({"x": None}), TypeError, "`responses` at x.*numbers.*got None"),
    "a scalar gradient": (lambda: plots.step_response({"x": [1.0]}, gradients=1.0), ValueError, "`gradients` must"),
    "a route in space": (lambda: plots.paths(plain, {"up": np.ones((3, 3))}), ValueError, "`routes` at up must have"),
    "a route without points": (lambda: plots.paths(plain, {"up": np.ones((0, 2))}), ValueError, "`routes` at up must"),
    "a ragged route": (lambda: plots.paths(plain, {"up": [[1.0], [1.0, 2.0]]}), TypeError, "`routes` at up must be an"),
    "a route to infinity": (
        lambda: plots.paths(plain, {"up": [[0.0, 1.0], [np.inf, 1.0]]}), ValueError, "`routes` at up.*at step 1. Cut",
    ),
    "a height for a function": (lambda: plots.paths(1.0, {"up": np.ones((3, 2))}), TypeError, "`function`.*got 1.0"),
    "a function of a point": (
        lambda: plots.paths(lambda x, y: x.sum(), {"up": np.ones((3, 2))}), ValueError, r"the shape of its.*got \(\)",
    ),
    "a list of colors": (lambda: plots.sweep(swept([4, 3, 2, 3, 4]), colors=["red"]), TypeError, "`colors` must be"),
    "a figure with its axes": (
        lambda: plots.step_response({"x": [1.0]}, ax=("figure", "ax")), TypeError, "`ax` must be the Axes.*got a tuple",
    ),
}  # fmt: skip
NAMED = {
    "sweeps": plots.sweep,
    "quantiles": plots.effective_learning_rates,
    "responses": plots.step_response,
    "routes": lambda routes: plots.paths(plain, routes),
}


@pytest.mark.parametrize("given", [None, [], [1.0], np.ones((3, 2)), "RMSprop"], ids=repr)
@pytest.mark.parametrize("name", NAMED)
def test_a_value_without_names_is_refused(name, given):
    with pytest.raises(TypeError, match=f"`{name}` must be a dict from a name to .*, got .*Name it"):
        NAMED[name](given)


@pytest.mark.parametrize("name", NAMED)
def test_an_empty_dict_is_refused_as_nothing_to_draw(name):
    with pytest.raises(ValueError, match=f"`{name}` must have at least one name, got an empty dict"):
        NAMED[name]({})


def test_a_refusal_leaves_no_figure_behind():
    before = plt.get_fignums()
    for call, kind, _ in BAD.values():
        with pytest.raises(kind):
            call()
    assert plt.get_fignums() == before


def test_complex_updates_are_drawn_by_their_magnitude(ax):
    plots.step_response({"x": np.array([3 + 4j, 5j])}, ax=ax)
    assert ax.lines[0].get_ydata().tolist() == [5, 5]


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_by_name(bad):
    call, kind, message = BAD[bad]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("name", DRAWN)
def test_without_matplotlib_the_error_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"rmsprop_optax\[plots\]"):
        DRAWN[name]()
