"""A sweep over several devices: each run has the bits it has on one device, and no device waits for another."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.rows import rows

from rmsprop_optax import rmsprop, sweep
from rmsprop_optax.sweep import arguments, runs

RNG = np.random.default_rng(0)
BATCHES = RNG.normal(size=(12, 8, 3)).astype(np.float32), RNG.normal(size=(12, 8)).astype(np.float32)
HELD_OUT = BATCHES[0][0], BATCHES[1][0]
RATES = [0.003, 0.01, 0.03, 0.1, 1e30]
CONTEXTS = [None, AxisType.Auto, AxisType.Explicit]


def regression(params, batch):
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def start(key):
    return {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}


def found(params=start, seeds=3, **options):
    return sweep.learning_rates(
        rmsprop, regression, params, BATCHES, RATES, held_out=HELD_OUT, seeds=seeds, diverged_above=1e6, **options
    )


def assert_same(one, other):
    assert one.diverged.any()
    assert not one.diverged.all()
    for name in ("losses", "diverged_at", "held_out"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def in_context(kind, function):
    """Call a function with a mesh over all devices, having an axis of this type, set around it."""
    if kind is None:
        return function(lambda array: array)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        return function(lambda array: jax.device_put(array, NamedSharding(mesh, P())))


CASES = [*itertools.product([1, 2, 8], [1, 2], [3, None], CONTEXTS)]
CASES = [case for case in CASES if case[1] * case[0] <= len(RATES) * (case[2] or 1) + case[0] - 1]
ALWAYS = [(8, 1, 3, AxisType.Explicit)]


@pytest.mark.parametrize(("count", "at_once", "seeds", "context"), rows(CASES, ALWAYS))
def test_each_run_has_the_bits_of_one_device(count, at_once, seeds, context):
    first = start if seeds else start(jax.random.key(0))
    one = found(first, seeds, at_once=at_once)

    def shared(placed):
        params = first if seeds else jax.tree.map(placed, first)
        return found(params, seeds, at_once=at_once, devices=jax.devices()[:count])

    assert_same(one, in_context(context, shared))


def test_a_progress_bar_counts_each_run_once(capsys):
    assert_same(found(), found(devices=jax.devices(), progress=True))
    assert "180/180" in capsys.readouterr().err  # 15 runs of 12 steps, on 16 places


MESH = arguments.mesh(jax.devices()[5:7])


def begun():
    rates, seeds = np.array([0.01, 1e30], np.float32), np.zeros(2, np.uint32)
    return runs.start(MESH, rmsprop, start, 12, True, rates, seeds, None, BATCHES)


def test_runs_are_on_the_devices_that_are_named():
    assert begun().losses.sharding.device_set == set(jax.devices()[5:7])


def test_devices_exchange_nothing():
    program = runs.train_until.lower(MESH, rmsprop, regression, begun(), BATCHES, 12, 1e6).compile().as_text()
    assert "while" in program
    assert not re.findall("all-reduce|all-gather|all-to-all|collective-permute", program)


def test_a_device_whose_runs_have_diverged_stops_alone():
    steps = runs.train_until(MESH, rmsprop, regression, begun(), BATCHES, 12, 1e6).step
    assert steps[0] == 12
    assert steps[1] < 12


def test_rates_on_several_devices_are_read_by_the_host():
    mesh = jax.make_mesh((5,), ("x",), devices=jax.devices()[:5], axis_types=(AxisType.Auto,))
    given = jax.device_put(np.float32(RATES), NamedSharding(mesh, P("x")))
    plain = sweep.learning_rates(rmsprop, regression, start(jax.random.key(0)), BATCHES, np.float32(RATES))
    read = sweep.learning_rates(
        rmsprop, regression, start(jax.random.key(0)), BATCHES, given, devices=jax.devices()[:2]
    )
    np.testing.assert_array_equal(plain.losses, read.losses)


BAD = {
    "none": ([], ValueError, "`devices` must be a sequence of different devices of this process.*got \\[\\]"),
    "one twice": ([jax.devices()[0]] * 2, ValueError, "`devices` must be a sequence of different devices"),
    "a number": (8, TypeError, "such as jax.local_devices.., got 8"),
    "a device": (jax.devices()[0], TypeError, "`devices` must be a sequence"),
    "words": ("cpu", TypeError, "`devices` must be a sequence.*got 'cpu'"),
    "a mesh of them": (np.array(jax.devices()).reshape(4, 2), TypeError, "`devices` must be a sequence"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_sequence_of_devices_is_refused(bad):
    devices, kind, message = BAD[bad]
    with pytest.raises(kind, match=message):
        found(devices=devices)


def test_devices_of_another_process_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(ValueError, match=r"of other processes\. Call it in each process with its own rates"):
        found(devices=jax.devices())


def test_more_at_once_than_a_device_s_share_is_refused():
    with pytest.raises(ValueError, match=r"`at_once` must be an integer in \[1, 2\]"):
        found(devices=jax.devices(), at_once=3)
