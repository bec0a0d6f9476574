"""Many learning rates in one compiled program: which trains best, and up to which training is stable."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks, runs

__all__ = ["Suggestion", "Sweep", "learning_rates"]


class Suggestion(NamedTuple):
    """A learning rate, and why."""

    learning_rate: float
    reason: str


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """What became of each learning rate.

    Attributes:
      learning_rates: Shape (rates,), ascending.
      losses: The loss of each step's batch before its update; shape (rates, steps), or (rates, seeds, steps). NaN from
        the step after the one at which a run was stopped.
      diverged_at: The step at which a run diverged, -1 if it did not; shape (rates,), or (rates, seeds). The number of
        steps, if only the held-out loss tells.
      held_out: The loss on the held-out batch after the last step; shape (rates,), or (rates, seeds), or None.
      seeds: The seeds, or None.
    """

    learning_rates: np.ndarray
    losses: np.ndarray
    diverged_at: np.ndarray
    held_out: np.ndarray | None = None
    seeds: tuple[int, ...] | None = None

    @property
    def diverged(self) -> np.ndarray:
        """Whether a run diverged; shape (rates,), or (rates, seeds)."""
        return self.diverged_at >= 0

    @property
    def final(self) -> np.ndarray:
        """What runs are compared by: the held-out loss, or else the mean loss of the last tenth of the steps.

        Shape (rates,), or (rates, seeds); infinite where a run diverged.
        """
        loss = _tail(self.losses) if self.held_out is None else self.held_out
        return np.where(self.diverged, np.inf, loss)

    @property
    def best(self) -> float | None:
        """The rate with the lowest final loss, in the mean over seeds; None if every rate diverged."""
        loss = _per_rate(self.final).mean(1)
        return float(self.learning_rates[loss.argmin()]) if np.isfinite(loss).any() else None

    @property
    def edge(self) -> float | None:
        """The largest stable rate; None if the smallest diverged, the largest tried if none is unstable.

        A rate is stable if no run at it or below it diverged, and no run at it, or between it and the best, ended with
        less than half of what the best gained on the first loss.
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

        The lowest point of a parabola, in the logarithm of the rate, through the final losses within a factor of two of
        the best rate: one noisy run weighs less so than in the best itself. It is at most half an octave from the best
        rate, never beyond the edge and never outside the rates tried. Rates half an octave apart (`2.0 **
        numpy.arange(-12, 0, 0.5)`) and three to five seeds make it reliable.

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
        """Return everything as lists and numbers, ready for JSON; what is not finite is None."""
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


def learning_rates(
    make_tx: Callable[[Any], optax.GradientTransformation],
    loss_fn: Callable[[Any, Any], Any],
    params: Any,
    batches: Any,
    learning_rates: Any,
    *,
    steps: int | None = None,
    held_out: Any = None,
    seeds: int | Sequence[int] | None = None,
    diverged_above: float = 100.0,
    at_once: int | None = None,
    progress: bool = False,
) -> Sweep:
    r"""Train once with each learning rate, all in one compiled program.

    With :math:`\alpha` a learning rate and :math:`u` the update of the transformation made from it, each run is

    .. math::
        \theta_{t+1} = \theta_t + u_t(\nabla_\theta \ell(\theta_t, b_t); \alpha)

    A run has diverged at the first step whose loss is not finite or exceeds `diverged_above` times the first loss; it
    stops there, and others go on. So has a run that ends, in the mean of its last tenth, above twice its first loss; it
    diverged where it last climbed past that. For a negative first loss, k times it means it plus k - 1 times its
    magnitude.

    The program is compiled once, for all rates and seeds, and again only for another `make_tx`, `loss_fn` or shape.
    Runs in a row keep the parameters of two runs in memory, runs at once those of all.

    Args:
      make_tx: A function from a learning rate, a traced float32 scalar (float64 if a parameter is), to an optax
        transformation: `rmsprop`, `optax.sgd`, `lambda rate: optax.chain(optax.clip(1.0), optax.adam(rate))`.
      loss_fn: A function from parameters and a batch to a scalar loss; is traced.
      params: The parameters to start from: a tree of floating-point arrays, or, with `seeds`, a function from a PRNG
        key to one, called with `jax.random.key(seed)`.
      batches: A tree of arrays, each of shape (at least `steps`, ...): step i gets element i of each. Or an iterator of
        batches, of which `steps` are read and kept in memory. Indices into a data set make small batches, too. None if
        the loss needs no data.
      learning_rates: Shape (rates,), positive, ascending. Powers of a constant factor show most:
        `2.0 ** numpy.arange(-12, 0, 0.5)`.
      steps: How many steps to train; None for all of `batches`. Needed with an iterator and without data.
      held_out: A batch to judge the trained parameters by; None judges by the training loss.
      seeds: How many seeds to run each rate with, or which: integers in [0, 2**32). A seed chooses the start, if
        `params` is a function, and the order of the batches. None runs each rate once, in the order given.
      diverged_above: In (1, inf]. A multiple of the first loss. RMSprop, uncorrected, may well recover from 50.
      at_once: How many runs advance together, under `jax.vmap`, in [1, rates * seeds]. None chooses by the default
        backend: 1 on a CPU, all elsewhere. Memory grows with it.
      progress: Whether to show a bar, with tqdm. It watches from outside the program.

    Returns:
      A `Sweep`.

    Raises:
      ValueError: Rates that are empty, not ascending or not positive; a loss that is not a scalar; batches that run out
        or differ in shape; `steps`, `seeds`, `diverged_above` or `at_once` out of range.
      TypeError: `make_tx` is not such a function; a loss or parameters that are not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from rmsprop_optax import sweep
      >>> loss_fn = lambda params, batch: 0.5 * jnp.sum(jnp.array([1.0, 10.0]) * params**2)
      >>> sweep.learning_rates(optax.sgd, loss_fn, jnp.ones(2), None, [0.025, 0.05, 0.1, 0.2, 0.4], steps=50)
      Sweep of 5 learning rates, 1 seed, 50 steps
      learning rate        loss
              0.025      0.0464
               0.05     0.00407
                0.1   2.611e-05  best, edge
                0.2           5
                0.4  diverged at step 3

    References:
      Smith, `Cyclical learning rates for training neural networks <https://arxiv.org/abs/1506.01186>`_, section 3.3,
      raises the rate during one run; here each rate has its own, so that late steps count.
    """
    _callable("make_tx", make_tx, "that takes a learning rate: `rmsprop`, not `rmsprop(0.01)`")
    _callable("loss_fn", loss_fn, "that takes parameters and a batch")
    rates = _rates(learning_rates)
    seeds = _seeds(seeds)
    if not diverged_above > 1:
        raise ValueError(f"`diverged_above` must be in (1, inf], got {diverged_above!r}: it multiplies the first loss.")
    make_params, params, dtype = _start(params, seeds)
    batches, steps = _stacked(batches, steps)
    pairs = [(rate, seed) for rate in rates for seed in seeds or (0,)]
    at_once = _at_once(at_once, len(pairs))
    groups = [pairs[i : i + at_once] for i in range(0, len(pairs), at_once)]
    parts = min(steps, math.ceil(50 / len(groups))) if progress else 1  # of a group, between two ticks of the bar
    stops = [round(steps * part / parts) for part in range(parts + 1)]
    shuffled = seeds is not None and bool(jax.tree.leaves(batches))

    columns: list[Any] = []
    with _bar(progress, len(pairs) * steps) as tick:
        for group in groups:
            rate, seed = zip(*group, *[group[-1]] * (at_once - len(group)), strict=True)  # one shape, so one program
            numbers = np.array(rate, dtype), np.array(seed, np.uint32)
            now = runs.begin(make_tx, make_params, steps, shuffled, *numbers, params, batches)
            for before, stop in itertools.pairwise(stops):
                now = runs.advance(make_tx, loss_fn, now, batches, stop, diverged_above)
                tick(now.step, len(group) * (stop - before))
            judged = None if held_out is None else runs.judge(loss_fn, now.params, held_out)
            columns.append((now.losses, now.diverged_at, judged))
            columns[-2:-1] = jax.device_get(columns[-2:-1])  # while this group runs
    losses, diverged_at, judged = (
        None if c[0] is None else np.concatenate(c)[: len(pairs)] for c in zip(*jax.device_get(columns), strict=True)
    )
    return _sweep(rates, seeds, losses, diverged_at, judged)


def _sweep(rates, seeds, losses, diverged_at, judged):
    """Put runs into the shape of the sweep, and mark those that only their end shows to have diverged."""
    steps = losses.shape[-1]
    twice = losses[:, 0] + np.abs(losses[:, 0])
    below = steps - np.argmax((losses <= twice[:, None])[:, ::-1], 1)  # the step after the last one not above twice
    diverged_at = np.where((diverged_at < 0) & (_tail(losses) > twice), np.minimum(below, steps - 1), diverged_at)
    if judged is not None:
        diverged_at = np.where((diverged_at < 0) & ~np.isfinite(judged), steps, diverged_at)
    shape = rates.shape if seeds is None else (len(rates), len(seeds))
    judged = None if judged is None else judged.reshape(shape)
    return Sweep(rates, losses.reshape(*shape, steps), diverged_at.reshape(shape), judged, seeds)


def _lowest_point(rates: np.ndarray, loss: np.ndarray, best: float, edge: float) -> float:
    """Fit a parabola in the logarithms; a loss counts as at most twice the lowest, and so does an unstable rate."""
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
    """Give what has no seeds an axis for them."""
    return x.reshape(len(x), -1)


def _plain(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return [_plain(row) for row in x]
    if isinstance(x, np.generic):
        return x.item() if np.isfinite(x) else None
    return list(x) if isinstance(x, tuple) else x


@contextlib.contextmanager
def _bar(wanted: bool, steps: int) -> Iterator[Callable[[Any, int], None]]:
    """Give a function that waits for an array and moves the bar; without a bar it does nothing."""
    if not wanted:
        yield lambda array, steps: None
        return
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError("`progress` shows a bar with tqdm: pip install tqdm, or leave it out.") from error
    with tqdm(total=steps, desc="learning rates", unit="step", unit_scale=True) as bar:

        def tick(array: Any, done: int) -> None:
            jax.block_until_ready(array)
            bar.update(done)

        yield tick


def _callable(name: str, function: Any, what: str) -> None:
    if not callable(function):
        raise TypeError(f"`{name}` must be a function {what}, got {function!r}.")


def _rates(learning_rates: Any) -> np.ndarray:
    rates = np.asarray(learning_rates, float)
    if rates.ndim != 1 or rates.size == 0:
        raise ValueError(f"`learning_rates` must have shape (rates,) with one rate at least, got shape {rates.shape}.")
    if not (np.isfinite(rates) & (rates > 0)).all():
        raise ValueError(f"`learning_rates` must be positive and finite, got {rates.tolist()}.")
    if not (np.diff(rates) > 0).all():
        raise ValueError(f"`learning_rates` must ascend, got {rates.tolist()}. Pass sorted(set(learning_rates)).")
    return rates


def _seeds(seeds: Any) -> tuple[int, ...] | None:
    if seeds is None:
        return None
    listed = tuple(range(seeds) if isinstance(seeds, int) else seeds)
    valid = all(isinstance(seed, int | np.integer) and 0 <= seed < 2**32 for seed in listed)
    if not listed or not valid or len(set(listed)) < len(listed):
        raise ValueError(f"`seeds` must be a number from 1 or different integers in [0, 2**32), got {seeds!r}.")
    return tuple(int(seed) for seed in listed)


def _start(params: Any, seeds: tuple[int, ...] | None) -> tuple[Any, Any, Any]:
    """Return what makes the parameters, or None; the parameters, or None; and the dtype of the learning rate."""
    makes = callable(params) and jax.tree_util.all_leaves([params])
    if makes and seeds is None:
        raise ValueError(
            "`params` is a function of a key, and `seeds` is None. Pass seeds=3, say, or call it yourself."
        )
    tree = jax.eval_shape(params, jax.random.key(0)) if makes else params
    _checks.inexact("params", tree)
    bits = [jnp.finfo(jnp.result_type(leaf)).bits for leaf in jax.tree.leaves(tree)]
    if not bits:
        raise ValueError("`params` must have a leaf at least, got none.")
    return (params if makes else None), (None if makes else params), np.float64 if max(bits) == 64 else np.float32


def _stacked(batches: Any, steps: int | None) -> tuple[Any, int]:
    """Return the batches as arrays with the steps in front, and the number of steps."""
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1):
        raise ValueError(f"`steps` must be an integer from 1, got {steps!r}.")
    unread = hasattr(batches, "__next__") or (jax.tree_util.all_leaves([batches]) and not hasattr(batches, "shape"))
    if steps is None and (unread or not jax.tree.leaves(batches)):
        raise ValueError("`steps` must be given, got None: these `batches` do not tell how many they are.")
    if unread:
        batches = _read(iter(batches), steps or 0)
    lengths = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(batches):
        if not np.shape(leaf):
            raise ValueError(f"`batches` at {jax.tree_util.keystr(path)} must have shape (steps, ...), got a scalar.")
        lengths[jax.tree_util.keystr(path)] = np.shape(leaf)[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"`batches` must all have the steps as their first axis, got lengths {lengths}.")
    available = min(lengths.values(), default=steps or 0)
    if not 0 < (steps or available) <= available:
        raise ValueError(f"`batches` run out after {available} of {steps} steps. Pass more of them, or fewer `steps`.")
    return jax.tree.map(jnp.asarray, batches), int(steps or available)


def _read(batches: Iterator[Any], steps: int) -> Any:
    taken = list(itertools.islice(batches, steps))
    if len(taken) < steps:
        raise ValueError(f"`batches` ran out after {len(taken)} of {steps} steps. Pass more of them, or fewer `steps`.")
    for i, batch in enumerate(taken):
        _checks.like(f"batches at step {i}", batch, "batches at step 0", taken[0])
    return jax.tree.map(lambda *leaves: (jnp if isinstance(leaves[0], jax.Array) else np).stack(leaves), *taken)


def _at_once(at_once: Any, runs: int) -> int:
    if at_once is None:
        return 1 if jax.default_backend() == "cpu" else runs
    if isinstance(at_once, bool) or not isinstance(at_once, int | np.integer) or at_once < 1:
        raise ValueError(f"`at_once` must be an integer from 1, got {at_once!r}. None chooses by the backend.")
    return min(int(at_once), runs)
