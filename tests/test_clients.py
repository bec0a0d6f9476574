"""Programs of other libraries that train with `optax.rmsprop` run with ours in its place: pytest -m clients."""

import jax
import numpy as np
import optax
import pytest
from clients import comparing, record

from rmsprop_optax import rmsprop


@pytest.mark.clients
@pytest.mark.parametrize("name", record.CLIENTS)
def test_a_client_s_gradients_give_its_updates_to_round_off(name):
    if missing := record.missing(name):
        pytest.skip(f"needs {' '.join(missing)}")
    found = record.run(name)
    away = found["differences"]
    assert found["steps"] >= 20
    assert 0 <= away["ours from optax's"] <= 16  # an average over 100 steps adds up as many roundings
    assert away.get("ours from float64", 0) <= away.get("optax's from float64", 0) + 2
    assert found["ratio"] < 2  # tracing and compiling, too; times on a busy machine differ


@pytest.mark.parametrize("wrong", [{}, {"momentum": 0.5}, {"eps_in_sqrt": False}])
def test_a_difference_in_the_rule_would_be_found(wrong):
    def program():
        tx, p = optax.rmsprop(0.1, eps=1e-4), {"a": np.ones(3, np.float32), "b": None}
        state = tx.init(p)
        for step in range(4):
            _, state = jax.jit(tx.update)({"a": p["a"] / (1 + step), "b": None}, state, p)
        return state[0].nu["a"]

    calls = comparing.recorded(program)
    away = comparing.differences(lambda *args, **kwargs: rmsprop(*args, **kwargs, **wrong), calls)["ours from optax's"]
    assert len(calls[0].steps) == 4
    assert (away > 1000) == bool(wrong)
    assert away <= 2 or wrong
    assert set(comparing.times(program, rmsprop)) == {"optax", "ours"}


def test_the_round_off_between_the_two_is_that_of_decay_in_optax():
    grads = np.float32(0.85) ** np.arange(200, dtype=np.float32)  # nu falls as decay has it, and errors add up
    steps = {}
    for name, make in {"optax": optax.rmsprop, "ours": rmsprop}.items():
        tx = make(1.0, eps=0.0)
        steps[name] = jax.lax.scan(lambda s, g, tx=tx: tx.update(g, s)[::-1], tx.init(grads[0]), grads)[1]
    rounded, exact = ((float(np.float32(0.9)), float(np.float32(1 - 0.9))), (0.9, 1 - 0.9))
    for (decay, rest), nearer, other in ((rounded, "optax", "ours"), (exact, "ours", "optax")):
        nu, expected = 0.0, []
        for g in grads.astype(np.float64):
            nu = decay * nu + rest * g**2
            expected.append(-g / np.sqrt(nu))
        away = {name: np.max(np.abs(np.asarray(found) / expected - 1)) for name, found in steps.items()}
        assert away[nearer] < 0.2 * away[other], away
