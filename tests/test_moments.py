"""Moments are found by the names of their fields, wherever they sit in a state."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import moments, rmsprop


class Head(NamedTuple):
    """Parameters whose field is called like a moment."""

    trace: jax.Array


def test_every_state_of_a_chain_a_partition_and_a_wrapper_that_keeps_moments_is_found():
    params = {"w": jnp.ones(2), "b": jnp.ones(3)}
    parts = {"a": rmsprop(0.1, centered=True, momentum=0.9), "b": optax.adam(0.1)}
    tx = optax.MultiSteps(optax.partition(parts, {"w": "a", "b": "b"}), 2)
    found = moments.entries(tx.init(params))
    assert [[*moments.of(entry)] for _, entry in found] == [["variance", "mu"], ["trace"], ["nu", "mu"]]
    assert [moments.second(entry) for _, entry in found] == ["variance", None, "nu"]


def test_parameters_with_a_moment_s_name_are_not_taken_for_a_state():
    state = rmsprop(0.1, momentum=0.9).init(Head(jnp.ones(2)))
    assert [type(entry) for _, entry in moments.entries(state)] == [type(state[0]), type(state[2])]
    assert moments.entries(rmsprop(0.1).init({"head": Head(jnp.ones(2))}))[0][0] == (jax.tree_util.SequenceKey(0),)
