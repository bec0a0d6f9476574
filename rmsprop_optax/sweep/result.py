"""What came of each learning rate: which trains best, and up to which training is stable."""

from __future__ import annotations  # signatures in help() read as written here

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from rmsprop_optax import _checks

__all__ = ["Suggestion", "Sweep", "gather"]


class Suggestion(NamedTuple):
    """A learning rate, and why."""

    learning_rate: float
    reason: str


@_checks.init
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """The losses of every run, and which learning rates trained well.

    Attributes:
      learning_rates: Shape (rates,), ascending.
      losses: The loss of each step's batch before its update; shape (rates, steps), or (rates, seeds, steps). NaN after
        the step at which a run was stopped.
      diverged_at: The step at which a run diverged, -1 if it did not; shape (rates,), or (rates, seeds). The number of
        steps if only the held-out loss is not finite.
      held_out: The loss on the held-out batch after the last step; shape (rates,), or (rates, seeds), or None.
      seeds: The seeds, or None.

    Raises:
      ValueError: Arrays whose shapes do not fit together.
      TypeError: A field that is not an array of numbers.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    diverged_at: np.ndarray
    held_out: np.ndarray | None = None
    seeds: tuple[int, ...] | None = None

    def __post_init__(self):
        listed = isinstance(self.seeds, tuple) and all(isinstance(seed, int) for seed in self.seeds)
        runs = (len(self.seeds),) if self.seeds is not None and listed else ()
        if self.seeds is not None and not listed:
            raise TypeError(f"`seeds` must be a tuple of integers or None, got {_checks.shown(self.seeds)}.")
        rates = _array_of("learning_rates", self.learning_rates, "(rates,)")
        if rates.ndim != 1 or not (rates.size and (rates > 0).all() and (np.diff(rates) > 0).all()):
            raise ValueError(
                f"`learning_rates` must have shape (rates,), be positive and ascend, got {_checks.shown(rates)}."
            )
        losses = _array_of("losses", self.losses, "(rates, steps) or (rates, seeds, steps)")
        shape = losses.shape[:-1]
        fits = shape == (*rates.shape, *runs) if runs else shape[:1] == rates.shape and len(shape) < 3
        if not fits or not losses.shape[-1]:
            expected = ", ".join(map(str, (*rates.shape, *runs, "steps")))
            raise ValueError(f"`losses` must have shape ({expected}), got {losses.shape}.")
        for name in ("diverged_at", *(("held_out",) if self.held_out is not None else ())):
            array = _array_of(name, getattr(self, name), "(rates,) or (rates, seeds)")
            if array.shape != shape:
                raise ValueError(f"`{name}` must have shape {shape}, as `losses` has it, got {array.shape}.")

    @property
    def diverged(self) -> np.ndarray:
        """Whether a run diverged; shape (rates,), or (rates, seeds)."""
        return self.diverged_at >= 0

    @property
    def final(self) -> np.ndarray:
        """The loss by which runs are compared: the held-out loss, or else the mean of the last tenth of the steps.

        Shape (rates,), or (rates, seeds); infinite where a run diverged.
        """
        loss = _tail(self.losses) if self.held_out is None else self.held_out
        return np.where(self.diverged, np.inf, loss)

    @property
    def best(self) -> float | None:
        """The rate whose final loss, averaged over seeds, is lowest; None if every rate diverged."""
        loss = _per_rate(self.final).mean(1)
        return float(self.learning_rates[loss.argmin()]) if np.isfinite(loss).any() else None

    @property
    def edge(self) -> float | None:
        """The largest stable rate; None if the smallest rate diverged.

        A rate is stable if no run with this rate or a smaller one diverged. Above the best rate, each run, with this
        rate or one in between, must also have lowered its first loss by at least half as much as the best rate did.
        """
        if self.best is None:
            return None
        first, final = _per_rate(self.losses[..., 0]), _per_rate(self.final)
        above_best = self.learning_rates > self.best
        lowest = final[self.learning_rates == self.best].mean()
        stable = (final < np.inf).all(1) & ~(above_best & (final > (first + lowest) / 2).any(1))
        stable = np.logical_and.accumulate(stable)
        return float(self.learning_rates[stable][-1]) if stable.any() else None

    def suggest(self) -> Suggestion:
        """Suggest a learning rate, and say why.

        The rate is the lowest point of a parabola, in the logarithm of the rate, fitted to the final losses within a
        factor of two of the best rate, so that one noisy run matters less than it does for `best`. It is at most half
        an octave from the best rate, never above the edge and never outside the rates tried. Rates half an octave apart
        (`2.0 ** numpy.arange(-12, 0, 0.5)`) and three to five seeds make it reliable.

        Returns:
          A `Suggestion`: the `learning_rate` and the `reason`.

        Raises:
          ValueError: Every rate diverged.
        """
        best, edge = self.best, self.edge
        if best is None or edge is None:
            raise ValueError(
                f"Nothing to suggest: {self.learning_rates[0]:.3g}, the smallest of `learning_rates`, diverged at step "
                f"{_per_rate(self.diverged_at)[0].max()}. Sweep smaller ones."
            )
        rate = _lowest_point(self.learning_rates, _per_rate(self.final).mean(1), best, edge)
        return Suggestion(rate, self._reason(rate, best, edge))

    @_checks.keywords
    def sensitivity(self, octaves: float = 2.0) -> float:
        r"""Measure how much a wrong learning rate costs.

        .. math::
            \frac{1}{n} \sum_{i = 1}^n \min(\ell_i, \ell_0) - \ell^*

        over the :math:`n` rates tried that are at most `octaves` factors of two from the best: :math:`\ell_i` is the
        final loss of a rate, which counts as the first loss, :math:`\ell_0`, if it is larger or the run diverged, and
        :math:`\ell^*` is that of the best rate. All are means over seeds. It is 0 if every rate trains as well as the
        best, and cannot exceed what training gains. The unit is that of the loss.

        Args:
          octaves: How far from the best rate, in factors of two, to either side; above 0.

        Returns:
          The sensitivity, at least 0.

        Raises:
          ValueError: Every rate diverged; the rates are not evenly spaced in their logarithm, or do not reach as far;
            `octaves` is out of range.
          TypeError: `octaves` is not a number.

        References:
          Wortsman et al. (2023), arXiv 2309.14322, who average over a fixed range of rates.
        """
        octaves = _checks.positive("octaves", octaves)
        if self.best is None:
            raise ValueError("The sensitivity needs a rate that trains, and every run diverged. Sweep smaller rates.")
        away = np.log2(self.learning_rates / self.best)
        if len(away) > 1 and not np.allclose(np.diff(away), away[1] - away[0], rtol=0.01):
            raise ValueError(
                "The sensitivity needs `learning_rates` that are evenly spaced in their logarithm, such as "
                "2.0 ** numpy.arange(-12, 0, 0.5): otherwise some count more than others."
            )
        if away[0] > 0.01 - octaves or away[-1] < octaves - 0.01:
            raise ValueError(
                f"`octaves` must be within the rates tried, which reach {abs(away[0]):.3g} octaves below and "
                f"{away[-1]:.3g} above the best, {self.best:.3g}; got {octaves:.3g}. Sweep more rates, or pass less."
            )
        near = np.abs(away) <= octaves + 0.01
        final, first = _per_rate(self.final), _per_rate(self.losses[..., 0])
        return float(np.minimum(final, first)[near].mean() - final[away == 0].mean())

    def _reason(self, rate: float, best: float, edge: float) -> str:
        runs = "" if self.seeds is None or len(self.seeds) == 1 else f" in the mean of {len(self.seeds)} seeds"
        what = "training" if self.held_out is None else "held-out"
        smallest, largest = self.learning_rates[[0, -1]]
        loss = _per_rate(self.final)[self.learning_rates == best].mean()
        words = [f"{best:.3g} ends with the lowest {what} loss, {loss:.3g}{runs}"]
        if not math.isclose(rate, best, rel_tol=1e-3):
            words.append(f"a parabola through the rates within a factor of two has its lowest point at {rate:.3g}")
        if edge == largest:
            words.append(f"no rate tried is unstable, up to {largest:.3g}")
        elif math.isclose(edge, rate):
            words.append("no larger rate tried is stable")
        else:
            words.append(f"training is stable up to {edge:.3g}, {edge / rate:.3g} times this rate")
        if best == smallest:
            words.append("it is the smallest rate tried: sweep smaller ones, too")
        if best == largest:
            words.append("it is the largest rate tried: sweep larger ones, too")
        return "; ".join(words) + "."

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and properties as lists and numbers, ready for JSON; NaN and infinity become None."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        derived = {"diverged": self.diverged, "final": self.final, "best": self.best, "edge": self.edge}
        return {name: _plain(value) for name, value in (arrays | derived).items()}

    def __repr__(self) -> str:
        runs, steps = _per_rate(self.losses[..., 0]).shape[1], self.losses.shape[-1]
        lines = [f"Sweep of {len(self.learning_rates)} learning rates, {runs} seed{'s' * (runs > 1)}, {steps} steps"]
        lines += ["learning rate        loss"]
        for rate, final, at in zip(
            self.learning_rates, _per_rate(self.final), _per_rate(self.diverged_at), strict=True
        ):
            marks = [name for name in ("best", "edge") if rate == getattr(self, name)]
            count = f" ({(at >= 0).sum()} of {runs})" if runs > 1 else ""
            end = f"diverged at step {at[at >= 0].min()}{count}" if (at >= 0).any() else f"{final.mean():.4g}"
            lines.append(f"{rate:>13.4g}  {end:>10}  {', '.join(marks)}".rstrip())
        return "\n".join(lines)


def _array_of(name: str, array: Any, shape: str) -> np.ndarray:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        raise TypeError(
            f"`{name}` must be a NumPy array of numbers of shape {shape}, got {_checks.shown(array)}. "
            "`sweep.learning_rates` makes a Sweep."
        )
    return array


def gather(rates: Any, seeds: Any, losses: Any, diverged_at: Any, held_out: Any) -> Sweep:
    """Arrange the runs by rate and seed, and mark those as diverged that only their last losses show to be."""
    steps = losses.shape[-1]
    twice = losses[:, 0] + np.abs(losses[:, 0])
    below = steps - np.argmax(
        (losses <= twice[:, None])[:, ::-1], 1
    )  # the step after the last loss that is at most twice the first
    diverged_at = np.where((diverged_at < 0) & (_tail(losses) > twice), np.minimum(below, steps - 1), diverged_at)
    shape = rates.shape if seeds is None else (len(rates), len(seeds))
    if held_out is not None:
        diverged_at = np.where((diverged_at < 0) & ~np.isfinite(held_out), steps, diverged_at)
        held_out = held_out.reshape(shape)
    return Sweep(rates, losses.reshape(*shape, steps), diverged_at.reshape(shape), held_out, seeds)


def _lowest_point(rates: np.ndarray, loss: np.ndarray, best: float, edge: float) -> float:
    """Return the lowest point of a parabola through the logarithms of rates and losses near the best.

    Losses above twice the lowest, and those of unstable rates, count as twice the lowest.
    """
    octaves, lowest = np.log2(rates / best), loss[rates == best][0]
    near = np.abs(octaves) <= 1 + 1e-6
    if lowest <= 0 or near.sum() < 3:
        return min(best, edge)
    height = np.log2(np.minimum(np.where(rates > edge, np.inf, loss) / lowest, 2))
    curvature, slope, _ = np.polyfit(octaves[near], height[near], 2)
    shift = np.clip(-slope / (2 * curvature), -0.5, 0.5) if curvature > 0 else 0.0
    return float(np.clip(best * 2.0**shift, rates[0], edge))


def _tail(losses: np.ndarray) -> np.ndarray:
    return losses[..., -max(1, losses.shape[-1] // 10) :].mean(-1)


def _per_rate(x: np.ndarray) -> np.ndarray:
    """Add an axis for seeds where there is none."""
    return x.reshape(len(x), -1)


def _plain(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return [_plain(row) for row in x]
    if isinstance(x, np.generic):
        return x.item() if np.isfinite(x) else None
    return list(x) if isinstance(x, tuple) else x
