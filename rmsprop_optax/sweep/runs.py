"""Training runs that advance together, each with its own learning rate, in one compiled program.

With a mesh, its devices share the runs equally, and each advances its own without the others.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from rmsprop_optax import _checks

__all__ = ["Runs", "losses_on", "start", "train_until"]


class Runs(NamedTuple):
    """Runs that advance together. Every field except `step` has a leading axis of runs."""

    step: Any  # shape (devices,), int32; (1,) without a mesh
    rates: Any  # shape (runs,)
    params: Any
    state: Any  # of the optimizer
    order: Any  # shape (runs, steps), int32: which batch each step takes; None for the order given
    losses: Any  # shape (runs, steps); NaN at steps that a run hasn't taken
    ceiling: Any  # shape (runs,); a run whose loss exceeds it has diverged
    diverged_at: Any  # shape (runs,), int32; -1 for a run that hasn't diverged


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def start(mesh, make_tx, make_params, steps, shuffled, rates, seeds, params, batches):
    """Return runs before their first step, one for each pair of a rate and a seed."""

    def begin(rates, seeds, params, batches):
        def one(rate, seed):
            key = jax.random.key(seed)
            first = params if make_params is None else make_params(key)
            first = jax.tree.map(lambda p: jax.lax.convert_element_type(p, jnp.result_type(p)), first)  # no weak types
            order = None
            if shuffled:
                order = jax.random.permutation(jax.random.fold_in(key, _ORDER), len(jax.tree.leaves(batches)[0]))[
                    :steps
                ]
            with _traced_rate():
                return first, _transformation(make_tx, rate).init(first), order

        n, dtype = len(rates), rates.dtype
        first, state, order = jax.vmap(one)(rates, seeds)
        losses, diverged_at = jnp.full((n, steps), jnp.nan, dtype), jnp.full(n, -1, jnp.int32)
        return Runs(jnp.zeros(1, jnp.int32), rates, first, state, order, losses, jnp.zeros(n, dtype), diverged_at)

    return _on_each_device(mesh, begin, (rates, seeds), params, batches)


_ORDER = 0x6F726465  # a function that makes parameters is unlikely to fold the same number into its key


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def train_until(mesh, make_tx, loss_fn, runs, batches, stop, diverged_above):
    """Return the runs at step `stop`, or at the step where the last of a device's runs diverged."""
    advance = functools.partial(_advance, make_tx, loss_fn)
    return _on_each_device(mesh, advance, (runs,), batches, stop, diverged_above)


def _advance(make_tx, loss_fn, runs, batches, stop, diverged_above):
    alone = len(runs.rates) == 1

    def step(i, rate, params, state, order):
        batch = jax.tree.map(lambda x: x[i if order is None else order[i]], batches)
        loss, grads = jax.value_and_grad(functools.partial(_loss, loss_fn))(params, batch)
        grads = jax.tree.map(jnp.conj, grads)  # the direction of ascent, where parameters are complex
        with _traced_rate():
            updates, new = _transformation(make_tx, rate).update(grads, state, params)
        new = jax.tree.map(lambda x, old: x if x.dtype == old.dtype else x.astype(old.dtype), new, state)
        return loss.astype(runs.losses.dtype), optax.apply_updates(params, updates), new

    def body(now):
        i, alive = now.step, now.diverged_at < 0
        one = functools.partial(step, i)
        loss, params, state = (one if alone else jax.vmap(one))(now.rates, now.params, now.state, now.order)
        ceiling = jnp.where(i == 0, loss + (diverged_above - 1) * jnp.abs(loss), now.ceiling)
        lost = ~jnp.isfinite(loss) | (loss > ceiling)
        return now._replace(
            step=i + 1,
            params=params,
            state=state,
            losses=now.losses.at[:, i].set(jnp.where(alive, loss, jnp.nan)),
            ceiling=ceiling,
            diverged_at=jnp.where(alive & lost, i, now.diverged_at),
        )

    first = _map_step_inputs(lambda x: x[0], runs) if alone else runs
    first = first._replace(step=runs.step[0])
    last = jax.lax.while_loop(lambda now: (now.step < stop) & (now.diverged_at < 0).any(), body, first)
    last = last._replace(step=last.step[None])
    return _map_step_inputs(lambda x: x[None], last) if alone else last


def _map_step_inputs(function, runs):
    """Apply a function to each array that a step of training takes.

    A single run trains without the leading axis of runs: `jax.vmap` would turn each `jax.lax.cond` of an optimizer into
    a select, which computes both branches.
    """
    inputs = runs.rates, runs.params, runs.state, runs.order
    rates, params, state, order = jax.tree.map(function, inputs)
    return runs._replace(rates=rates, params=params, state=state, order=order)


@functools.partial(jax.jit, static_argnums=(0, 1))
def losses_on(mesh, loss_fn, params, held_out):
    """Return each run's loss on one held-out batch; `params` has a leading axis of runs."""

    def losses(params, held_out):
        if len(jax.tree.leaves(params)[0]) == 1:
            return _loss(loss_fn, jax.tree.map(lambda x: x[0], params), held_out)[None]
        return jax.vmap(lambda params: _loss(loss_fn, params, held_out))(params)

    return _on_each_device(mesh, losses, (params,), held_out)


def _on_each_device(mesh, function, split, *whole):
    """Call a function with a device's share of the first arguments and the whole of the others, without collectives.

    On several devices a plain `jax.vmap` over sharded runs needs one in each step, to see whether all have diverged.
    """
    if mesh is None:
        return function(*split, *whole)
    runs = PartitionSpec(mesh.axis_names)
    specs = (runs,) * len(split) + (PartitionSpec(),) * len(whole)
    return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=runs, check_vma=False)(*split, *whole)


@contextlib.contextmanager
def _traced_rate() -> Iterator[None]:
    """Say what to do where an optimizer, or the function that makes it, turns its learning rate into a number."""
    try:
        yield
    except _CONVERSIONS as error:
        raise TypeError(
            "`make_tx` must take a traced learning rate, which all rates share one program for: no float(rate), no "
            "`if` that depends on it. For a schedule that branches on its peak, such as "
            "optax.warmup_cosine_decay_schedule, sweep a factor: `lambda factor: rmsprop(lambda count: factor * "
            f"schedule(count))`. {str(error).splitlines()[0]}"
        ) from error


_CONVERSIONS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def _transformation(make_tx: Any, rate: Any) -> Any:
    tx = make_tx(rate)
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"`make_tx` must return an optax transformation, got {_checks.shown(tx)}. Pass a function of the "
            "learning rate: `rmsprop`, `optax.sgd` or `lambda rate: optax.adam(rate, b1=0.8)`."
        )
    return tx


def _loss(loss_fn: Any, params: Any, batch: Any) -> jax.Array:
    try:
        loss = loss_fn(params, batch)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise TypeError(
            f"`loss_fn` must take `params` and one of `batches`, and return a scalar. Traced, it raised {said}"
        ) from error
    if not jax.tree_util.all_leaves([loss]) or not hasattr(loss, "dtype"):
        raise TypeError(f"`loss_fn` must return a scalar array, got {type(loss).__name__}. Return the loss alone.")
    if loss.shape != ():
        raise ValueError(f"`loss_fn` must return a scalar, got shape {loss.shape}. Take the mean over the batch.")
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise TypeError(f"`loss_fn` must return a floating-point scalar, got {loss.dtype}.")
    return loss
