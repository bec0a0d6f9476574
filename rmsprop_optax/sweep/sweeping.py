"""Train once with each learning rate, all rates and seeds in one compiled program."""

from __future__ import annotations  # signatures in help() read as written here

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rmsprop_optax import _checks
from rmsprop_optax.sweep import arguments, runs
from rmsprop_optax.sweep.result import Sweep, gather

__all__ = ["learning_rates"]


@_checks.keywords
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
    devices: Sequence[jax.Device] | None = None,
    progress: bool = False,
) -> Sweep:
    r"""Train once with each learning rate, all in one compiled program.

    With :math:`\alpha` a learning rate and :math:`u` the update of the transformation made from it, each run is

    .. math::
        \theta_{t+1} = \theta_t + u_t(\nabla_\theta \ell(\theta_t, b_t); \alpha)

    A run diverges at the first step whose loss is not finite or exceeds `diverged_above` times the first loss; it stops
    there, and the others continue. A run whose mean loss over the last tenth of its steps exceeds twice its first loss
    has diverged, too, at the step where it last rose above that. If the first loss is negative, k times the first loss
    means the first loss plus k - 1 times its magnitude.

    The program is compiled once, for all rates and seeds, and again only for another `make_tx`, `loss_fn` or shape.
    Runs one after another need memory for the parameters of two runs; runs that advance together, for those of all.

    Args:
      make_tx: A function from a learning rate, a traced float32 scalar (float64 if a parameter is), to an optax
        transformation: `rmsprop`, `optax.sgd`, `lambda rate: optax.chain(optax.clip(1.0), optax.adam(rate))`. To sweep
        the peak of a schedule, sweep a factor: `lambda factor: rmsprop(lambda count: factor * schedule(count))`.
      loss_fn: A function from parameters and a batch to a scalar loss; is traced.
      params: The parameters to start from: a tree of floating-point arrays, or, with `seeds`, a function from a PRNG
        key to one, called with `jax.random.key(seed)`.
      batches: A tree of arrays, each of shape (at least `steps`, ...): step i gets element i of each. Or an iterator
        over batches; the first `steps` of them are read into memory. Indices into a data set make small batches. For a
        list of batches pass `iter(batches)`. None if the loss needs no data.
      learning_rates: Shape (rates,), positive, ascending. Space them by a constant factor:
        `2.0 ** numpy.arange(-12, 0, 0.5)`. The host reads them, so where an array is does not matter.
      steps: How many steps to train; None for all of `batches`. Required for an iterator and without data.
      held_out: A batch on which to evaluate the trained parameters, of any number of examples; runs are then compared
        by their loss on it. None compares them by their training loss.
      seeds: The number of seeds, or the seeds themselves: integers in [0, 2**32). Each rate runs once with each seed. A
        seed determines the initial parameters, if `params` is a function, and the order of the batches. None runs each
        rate once, with the batches in the order given.
      diverged_above: In (1, inf]: a run whose loss exceeds this multiple of its first loss has diverged. RMSprop
        without bias correction can recover from 50 times the first loss.
      at_once: How many runs advance together, under `jax.vmap`, in [1, rates * seeds]. None chooses by the default
        backend: 1 on a CPU, all elsewhere. Memory grows with it. With `devices`, how many on each of them, at most its
        share.
      devices: The devices to train on, of this process, such as `jax.local_devices()`: each trains `at_once` runs at a
        time, any number of runs in all. The losses are bit for bit those of one device with the same `at_once`. Each
        device gets a copy of `params`, `batches` and `held_out`; arrays that functions close over must not be committed
        to others. None trains on the default device, or where the arguments are.
      progress: Whether to show a progress bar, with tqdm. It doesn't change the program.

    Returns:
      A `Sweep`.

    Raises:
      ValueError: Rates that are empty, not ascending or not positive; a loss that is not a scalar; batches that run
        out, differ in shape or could be a tree as well as a list; a `held_out` that is not like a batch; `steps`,
        `seeds`, `diverged_above` or `at_once` out of range; no devices, equal ones, or those of another process.
      TypeError: `make_tx` is not such a function, or its first argument is not the learning rate; a loss or parameters
        that are not floating-point; arguments of another type.

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
      raises the rate during one run; here each rate has a separate run, so that late steps count.
    """
    arguments.check_factory(make_tx)
    arguments.check_function("loss_fn", loss_fn, "that takes parameters and a batch")
    rates = arguments.rates(learning_rates)
    seeds = arguments.seeds(seeds)
    arguments.check_threshold(diverged_above)
    arguments.check_progress(progress)
    make_params, params, shapes = arguments.start(params, seeds)
    dtype = arguments.rate_dtype(shapes)
    batches, steps = arguments.stacked(batches, steps)
    pairs = [(rate, seed) for rate in rates for seed in seeds or (0,)]
    mesh = arguments.mesh(devices)
    share = len(pairs) if mesh is None else math.ceil(len(pairs) / mesh.size)
    at_once = 1 if at_once is None and _are_cpus(mesh) else arguments.at_once(at_once, share)
    if held_out is not None:
        several = jax.tree.map(lambda p: jax.ShapeDtypeStruct((at_once, *p.shape), p.dtype), shapes)
        evaluate = functools.partial(runs.losses_on.eval_shape, None, loss_fn, several)
        arguments.check_held_out(held_out, batches, evaluate)
    width = at_once if mesh is None else at_once * mesh.size
    groups = [pairs[i : i + width] for i in range(0, len(pairs), width)]
    parts = min(steps, math.ceil(50 / len(groups))) if progress else 1  # of a group, between two ticks of the bar
    stops = [round(steps * part / parts) for part in range(parts + 1)]
    shuffled = seeds is not None and bool(jax.tree.leaves(batches))

    columns: list[Any] = []
    with _bar(progress, len(pairs) * steps) as tick, _within(mesh):
        params, batches, held_out = _on_all(mesh, (params, batches, held_out))
        for group in groups:
            rate, seed = zip(*group, *[group[-1]] * (width - len(group)), strict=True)  # one shape, so one program
            numbers = np.array(rate, dtype), np.array(seed, np.uint32)
            now = runs.start(mesh, make_tx, make_params, steps, shuffled, *numbers, params, batches)
            for before, stop in itertools.pairwise(stops):
                now = runs.train_until(mesh, make_tx, loss_fn, now, batches, stop, diverged_above)
                tick(now.step, len(group) * (stop - before))
            tested = None if held_out is None else runs.losses_on(mesh, loss_fn, now.params, held_out)
            columns.append((now.losses, now.diverged_at, tested))
            columns[-2:-1] = jax.device_get(columns[-2:-1])  # while this group runs
    losses, diverged_at, tested = (
        None if c[0] is None else np.concatenate(c)[: len(pairs)] for c in zip(*jax.device_get(columns), strict=True)
    )
    return gather(rates, seeds, losses, diverged_at, tested)


def _are_cpus(mesh: Mesh | None) -> bool:
    return mesh is not None and mesh.devices.flat[0].platform == "cpu"


def _within(mesh: Mesh | None) -> Any:
    """Return a context with this mesh in place of one that is set around the sweep: `jax.shard_map` takes no other."""
    if mesh is None:
        return contextlib.nullcontext()
    return (getattr(jax, "set_mesh", None) or jax.sharding.use_mesh)(mesh)  # type: ignore[attr-defined] # before jax 0.8


def _on_all(mesh: Mesh | None, tree: Any) -> Any:
    """Return arrays with a copy on each device of a mesh."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


@contextlib.contextmanager
def _bar(wanted: bool, steps: int) -> Iterator[Callable[[Any, int], None]]:
    """Yield a function that waits for an array and then advances the bar, or one that does nothing."""
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
