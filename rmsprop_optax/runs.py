"""Training runs that advance together, each with its own learning rate, in one compiled program."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = ["Runs", "advance", "begin", "judge"]


class Runs(NamedTuple):
    """Runs that advance together; their number is the leading axis, but of `step`."""

    step: Any  # shape (), int32
    rates: Any
    params: Any
    state: Any
    order: Any  # in which a run takes the batches, int32; None for the order given
    losses: Any  # NaN where a run has not been
    ceiling: Any  # a loss above it is divergence
    diverged_at: Any  # int32, -1 if not


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def begin(make_tx, make_params, steps, shuffled, rates, seeds, params, batches):
    def one(rate, seed):
        key = jax.random.key(seed)
        start = params if make_params is None else make_params(key)
        start = jax.tree.map(lambda p: jax.lax.convert_element_type(p, jnp.result_type(p)), start)  # no weak types
        order = None
        if shuffled:
            order = jax.random.permutation(jax.random.fold_in(key, _ORDER), len(jax.tree.leaves(batches)[0]))[:steps]
        return start, _transformation(make_tx, rate).init(start), order

    n, dtype = len(rates), rates.dtype
    start, state, order = jax.vmap(one)(rates, seeds)
    losses, diverged_at = jnp.full((n, steps), jnp.nan, dtype), jnp.full(n, -1, jnp.int32)
    return Runs(jnp.int32(0), rates, start, state, order, losses, jnp.zeros(n, dtype), diverged_at)


_ORDER = 0x6F726465  # no number that whoever makes the parameters is likely to fold in


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def advance(make_tx, loss_fn, runs, batches, stop, multiple):
    """Train until step `stop`, or until every run has diverged."""
    alone = len(runs.rates) == 1

    def step(i, rate, params, state, order):
        batch = jax.tree.map(lambda x: x[i if order is None else order[i]], batches)
        loss, grads = jax.value_and_grad(functools.partial(_loss, loss_fn))(params, batch)
        grads = jax.tree.map(jnp.conj, grads)  # of complex parameters, the way up
        updates, new = _transformation(make_tx, rate).update(grads, state, params)
        new = jax.tree.map(lambda x, old: x if x.dtype == old.dtype else x.astype(old.dtype), new, state)
        return loss.astype(runs.losses.dtype), optax.apply_updates(params, updates), new

    def body(now):
        i, alive = now.step, now.diverged_at < 0
        one = functools.partial(step, i)
        loss, params, state = (one if alone else jax.vmap(one))(now.rates, now.params, now.state, now.order)
        ceiling = jnp.where(i == 0, loss + (multiple - 1) * jnp.abs(loss), now.ceiling)
        lost = ~jnp.isfinite(loss) | (loss > ceiling)
        return now._replace(
            step=i + 1,
            params=params,
            state=state,
            losses=now.losses.at[:, i].set(jnp.where(alive, loss, jnp.nan)),
            ceiling=ceiling,
            diverged_at=jnp.where(alive & lost, i, now.diverged_at),
        )

    start = _own(runs, lambda x: x[0]) if alone else runs
    end = jax.lax.while_loop(lambda now: (now.step < stop) & (now.diverged_at < 0).any(), body, start)
    return _own(end, lambda x: x[None]) if alone else end


def _own(runs, change):
    """Change what a run trains with. One alone has no leading axis there: its conditionals stay conditionals."""
    own = runs.rates, runs.params, runs.state, runs.order
    rates, params, state, order = jax.tree.map(change, own)
    return runs._replace(rates=rates, params=params, state=state, order=order)


@functools.partial(jax.jit, static_argnums=0)
def judge(loss_fn, params, held_out):
    if len(jax.tree.leaves(params)[0]) == 1:
        return _loss(loss_fn, jax.tree.map(lambda x: x[0], params), held_out)[None]
    return jax.vmap(lambda params: _loss(loss_fn, params, held_out))(params)


def _transformation(make_tx: Any, rate: Any) -> Any:
    try:
        tx = make_tx(rate)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            "`make_tx` must take a traced learning rate, all rates share one program. " + str(error)
        ) from None
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        raise TypeError(
            f"`make_tx` must return an optax transformation, got {tx!r}. Pass a function of the learning rate: "
            "`rmsprop`, `optax.sgd` or `lambda rate: optax.adam(rate, b1=0.8)`."
        )
    return tx


def _loss(loss_fn: Any, params: Any, batch: Any) -> jax.Array:
    loss = loss_fn(params, batch)
    if not jax.tree_util.all_leaves([loss]) or not hasattr(loss, "dtype"):
        raise TypeError(f"`loss_fn` must return a scalar array, got {type(loss).__name__}. Return the loss alone.")
    if loss.shape != ():
        raise ValueError(f"`loss_fn` must return a scalar, got shape {loss.shape}. Take the mean over the batch.")
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise TypeError(f"`loss_fn` must return a floating-point scalar, got {loss.dtype}.")
    return loss
