"""An optimizer compares, hashes, pickles and prints like the call that made it."""

import copy
import inspect
import pickle
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rmsprop_optax import rmsprop, scale_by_rms
from rmsprop_optax.compression import RmsByte, compressed


def test_equal_calls_are_equal_however_they_are_written():
    assert rmsprop(1e-2) == rmsprop(learning_rate=0.01, decay=0.9)
    assert hash(rmsprop(1e-2)) == hash(rmsprop(learning_rate=0.01, decay=0.9))
    assert rmsprop(1e-2) != rmsprop(1e-3)
    assert rmsprop(1e-2) != rmsprop(1e-2, momentum=0.0)
    assert scale_by_rms() == scale_by_rms(0.9)
    assert scale_by_rms() != optax.scale_by_rms()
    assert rmsprop(0.1).init != rmsprop(0.1).update


@pytest.mark.parametrize("tx", [rmsprop(0.0125), rmsprop(0.1, momentum=0.9, centered=True), scale_by_rms(0.5)], ids=str)
def test_pickles_and_copies_are_equal_and_work(tx):
    for again in (pickle.loads(pickle.dumps(tx)), copy.deepcopy(tx), copy.copy(tx)):
        assert again == tx
        assert hash(again) == hash(tx)
        assert again.update(jnp.ones(2), again.init(jnp.ones(2)))[0].shape == (2,)


def test_the_repr_is_the_call():
    assert repr(rmsprop(0.0125)).startswith("rmsprop(learning_rate=0.0125, decay=0.9, eps=1e-08, ")
    assert eval(repr(rmsprop(0.0125, momentum=0.9))) == rmsprop(0.0125, momentum=0.9)
    numbers, switches = (
        "decay=0.5, eps=1e-08, initial_scale=0.0",
        "eps_in_sqrt=True, bias_correction=False, centered=False",
    )
    assert repr(scale_by_rms(0.5).init) == f"scale_by_rms({numbers}, {switches}).init"


def test_arrays_schedules_and_masks_compare_by_identity_and_hash():
    rate, schedule, mask = jnp.float32(0.1), optax.constant_schedule(0.1), {"w": True}
    for arguments in (
        {"learning_rate": rate},
        {"learning_rate": schedule},
        {"learning_rate": 0.1, "weight_decay": 0.1, "weight_decay_mask": mask},
        {"learning_rate": np.array(0.1)},
    ):
        assert rmsprop(**arguments) == rmsprop(**arguments)
        assert hash(rmsprop(**arguments)) == hash(rmsprop(**arguments))
    assert rmsprop(rate) != rmsprop(jnp.float32(0.1))
    assert rmsprop(schedule) != rmsprop(optax.constant_schedule(0.1))


def test_it_hashes_and_compares_while_its_numbers_are_traced():
    def build(rate):
        tx = rmsprop(rate)
        assert tx == rmsprop(rate)
        return hash(tx) * 0 + rate

    assert jax.jit(build)(0.5) == 0.5


def test_as_a_static_argument_equal_optimizers_are_traced_once():
    traces = []

    def step(tx, state, grads):
        traces.append(tx)
        return tx.update(grads, state)

    step = jax.jit(step, static_argnums=0)
    state = rmsprop(0.1).init(jnp.ones(2))
    for rate in (0.1, 0.1, 0.2):
        step(rmsprop(rate), state, jnp.ones(2))
    assert len(traces) == 2


def test_it_is_optax_s_type_and_keeps_its_signatures():
    tx = rmsprop(0.1)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    init, update = tx
    assert list(inspect.signature(update).parameters) == ["updates", "state", "params", "extra_args"]
    assert next(iter(inspect.signature(rmsprop).parameters)) == "learning_rate"
    assert rmsprop.__name__ == "rmsprop"
    assert init.__name__


def test_a_transformation_rebuilt_as_a_pytree_still_works():
    tx = jax.tree.map(lambda leaf: leaf, rmsprop(0.1))
    assert tx == rmsprop(0.1)
    assert repr(tx) == repr(rmsprop(0.1))


def made_of_cells(function):
    """Return a function as Equinox's `closure_to_pytree` rebuilds it: from its code and copies of its cells."""
    if not isinstance(function, types.FunctionType) or function.__closure__ is None:
        return function
    cells = [jax.tree.map(made_of_cells, cell.cell_contents) for cell in function.__closure__]
    return types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        tuple(types.CellType(jax.tree.map(lambda x: x + 1 if isinstance(x, jax.Array) else x, c)) for c in cells),
    )


@pytest.mark.parametrize("wrap", [lambda tx: tx, optax.chain, lambda tx: compressed(tx, nu=RmsByte())])
def test_a_library_that_replaces_the_numbers_in_closures_finds_a_traced_rate(wrap):
    def step(rate):
        tx = jax.tree.map(made_of_cells, wrap(rmsprop(rate)))
        return tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0]

    tx = wrap(rmsprop(1.5))
    np.testing.assert_allclose(jax.jit(step)(0.5), tx.update(jnp.ones(2), tx.init(jnp.ones(2)))[0], rtol=1e-2)


def solved(rate):
    optimistix = pytest.importorskip("optimistix")
    solver = optimistix.OptaxMinimiser(rmsprop(rate), rtol=1e-3, atol=1e-3)
    loss = lambda y, _: jnp.sum((y - 1) ** 2)  # noqa: E731
    return jnp.sum(optimistix.minimise(loss, solver, jnp.zeros(2), max_steps=50, throw=False).value)


def test_optimistix_stops_at_a_minimum_that_does_not_depend_on_the_rate():
    assert jax.grad(solved)(0.1) == 0.0
    assert jax.jit(jax.grad(solved))(0.1) == 0.0


def test_optimistix_takes_a_schedule():
    np.testing.assert_allclose(solved(optax.constant_schedule(0.1)), 2, rtol=1e-2)
