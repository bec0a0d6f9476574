"""A client's program with optax's rmsprop and with ours: the same gradients fed to both, and the time of each.

record.py runs this file for each client in a process of its own, so that what one client sets, 64 bits say, does not
reach the others, and reads the JSON object that it prints.
"""

import contextlib
import importlib.metadata
import json
import sys
import time
import warnings

import jax
import numpy as np
import optax

from clients.programs import PROGRAMS
from rmsprop_optax import rmsprop

ROUNDS = 3


class Call:
    """One call of `optax.rmsprop` in a program: its arguments, and the gradients and updates of each step."""

    def __init__(self, args, kwargs):
        self.args, self.kwargs, self.steps = args, kwargs, []

    def keep(self, grads, updates):
        self.steps.append([[np.array(x) for x in leaves] for leaves in (grads, updates)])


@contextlib.contextmanager
def in_place_of_optax_s(make):
    """Put a function in the place of `optax.rmsprop`."""
    theirs = optax.rmsprop
    optax.rmsprop = make
    try:
        yield
    finally:
        optax.rmsprop = theirs


def recorded(program):
    """Run a program with optax's rmsprop, and return each of its calls with what went in and what came out."""
    calls, theirs = [], optax.rmsprop

    def make(*args, **kwargs):
        tx, call = theirs(*args, **kwargs), Call(args, kwargs)
        calls.append(call)

        def update(grads, state, params=None, **extra_args):
            updates, state = optax.with_extra_args_support(tx).update(grads, state, params, **extra_args)
            jax.debug.callback(call.keep, jax.tree.leaves(grads), jax.tree.leaves(updates), ordered=True)
            return updates, state

        return optax.GradientTransformationExtraArgs(tx.init, update)

    with in_place_of_optax_s(make):
        program()
    jax.effects_barrier()
    return calls


def replayed(make, call, dtype=None):
    """Feed the gradients of a call, cast to `dtype`, to an optimizer made with its arguments; return the updates."""
    tx = make(*call.args, **call.kwargs)
    state, update = tx.init([jax.numpy.asarray(g, dtype) for g in call.steps[0][0]]), jax.jit(tx.update)
    found = []
    for grads, _ in call.steps:
        updates, state = update([jax.numpy.asarray(g, dtype) for g in grads], state)
        found.append([np.asarray(u) for u in updates])
    return found


def difference(found, expected, eps):
    """Return the largest difference of an update, in units of round-off.

    It is relative to the largest update of its leaf in that step and the one before, which the momentum adds.
    """
    worst = 0.0
    for step, before, after in zip(found, [expected[0], *expected], expected, strict=False):
        for ours, last, theirs in zip(step, before, after, strict=True):
            if theirs.size and (away := np.max(np.abs(ours - theirs))):
                worst = max(worst, float(away / np.max(np.abs([last, theirs])) / eps))
    return worst


def differences(make, calls):
    """Return how far our updates are from optax's, and both from optax's in float64, unless that is what they are."""
    eps = max(float(np.finfo(g.dtype).eps) for call in calls for g in call.steps[0][0])
    theirs = [[updates for _, updates in call.steps] for call in calls]
    ours = [replayed(make, call) for call in calls]
    with jax.enable_x64(True):
        wide = [replayed(optax.rmsprop, call, np.result_type(call.steps[0][0][0], np.float64)) for call in calls]
    pairs = {"ours from optax's": (ours, theirs)}
    if theirs[0][0][0].dtype != wide[0][0][0].dtype:
        pairs |= {"optax's from float64": (theirs, wide), "ours from float64": (ours, wide)}
    return {name: max(difference(*both, eps) for both in zip(*pair, strict=True)) for name, pair in pairs.items()}


def times(program, ours):
    """Run a program with each rmsprop in turn, and return the seconds of CPU time of every run but the first."""
    found = {"optax": [], "ours": []}
    for number in range(1 + ROUNDS):
        for name, make in {"optax": optax.rmsprop, "ours": ours}.items():
            start = time.process_time()
            with in_place_of_optax_s(make):
                arrived = jax.block_until_ready(program())
            if number:
                found[name].append(time.process_time() - start)
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(arrived)), (name, arrived)
    return found


def compare(name):
    """Return what is told of a client."""
    program = PROGRAMS[name]
    calls = recorded(program)
    seconds = times(program, rmsprop)
    return {
        "client": name,
        "version": importlib.metadata.version(name),
        "what": program.__doc__,
        "dtypes": sorted({str(leaf.dtype) for call in calls for leaf in call.steps[0][0]}),
        "leaves": sum(len(call.steps[0][0]) for call in calls),
        "steps": len(calls[0].steps),
        "differences": differences(rmsprop, calls),
        "seconds": seconds,
        "ratio": min(seconds["ours"]) / min(seconds["optax"]),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # those of the clients
    print(json.dumps(compare(sys.argv[1])))
