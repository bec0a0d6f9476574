"""`Sweep.sensitivity` is the mean cost of a wrong rate, on losses by hand, and refuses what it could not average."""

import numpy as np
import pytest

from rmsprop_optax import sweep

OCTAVES = np.arange(-3, 4)


def made(final, first=2.0, octaves=OCTAVES):
    """Return a sweep that ends with these losses: shape (rates,) or (rates, seeds)."""
    final = np.asarray(final, float)
    losses = np.stack([np.full(final.shape, first), final], -1)
    diverged_at = np.where(np.isfinite(final), -1, 1)
    return sweep.Sweep(2.0 ** np.asarray(octaves, float), losses, diverged_at, held_out=final)


def test_it_is_the_mean_of_what_the_rates_lose():
    found = made([9, 1.5, 1.0, 0.5, 0.75, 1.5, np.inf])
    assert found.sensitivity(octaves=1) == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert found.sensitivity() == pytest.approx((1 + 0.5 + 0 + 0.25 + 1) / 5)


def test_a_rate_costs_at_most_what_training_gains():
    found = made(
        [9, 1.5, 1.0, 0.5, 0.75, 1.5, np.inf]
    )  # of the ends, one rises above the first loss, 2, and one diverges
    assert found.sensitivity(octaves=3) == pytest.approx((1.5 + 1 + 0.5 + 0 + 0.25 + 1 + 1.5) / 7)


def test_losses_are_averaged_over_seeds_each_cut_at_its_own_first():
    final = np.stack([[1.0, 0.0, 1.0], [np.inf, 1.0, 1.0]], 1)
    assert made(final, octaves=[-1, 0, 1]).sensitivity(1) == pytest.approx((1.5 + 0.5 + 1) / 3 - 0.5)


def test_a_flat_sweep_has_none_and_a_narrower_valley_has_more():
    assert made(1 - 1e-12 * (OCTAVES == 0)).sensitivity() < 1e-9
    wide, narrow = (made(1 - np.exp(-((OCTAVES / width) ** 2)), first=1.0) for width in (3, 1))
    assert 0 < wide.sensitivity() < narrow.sensitivity() < 1


REFUSED = {
    "rates that end before": (
        lambda: made([3, 2, 1, 1.5], octaves=[-2, -1, 0, 1]).sensitivity(2),
        "reach 2 octaves below",
    ),
    "uneven rates": (lambda: made([3, 1, 2], octaves=[-3, 0, 1]).sensitivity(1), "evenly spaced"),
    "no rate that trains": (lambda: made([np.inf] * 3, octaves=[-1, 0, 1]).sensitivity(1), "every run diverged"),
    "no width": (lambda: made(np.ones(7)).sensitivity(0), "`octaves` must be above 0"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_refused(why):
    call, message = REFUSED[why]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_width_that_is_not_a_number_is_refused():
    with pytest.raises(TypeError, match="`octaves` must be a number"):
        made(np.ones(7)).sensitivity("2")
