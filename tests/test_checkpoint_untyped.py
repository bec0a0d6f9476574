"""Containers without types carry names and places alone: what they can't tell apart is refused, with the way in."""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.rows import rows

from rmsprop_optax import checkpoint, compression, dialects, rmsprop, scale_by_rms

PARAMS = {"layer": {"w": jnp.array([[1.0, -2.0], [0.5, 0.25]]), "b": jnp.array([0.5, -1.0])}}
STEPS = 5


def falling(count):
    return 0.1 / (1 + count)


def gradients(seed, params=PARAMS):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def trained(tx, params=PARAMS):
    state = tx.init(params)
    for seed in range(STEPS):
        _, state = tx.update(gradients(seed, params), state, params)
    return state


def msgpack(state):
    return flax.serialization.msgpack_restore(flax.serialization.to_bytes(state))


def lists(state):
    """Nested dictionaries and lists of fields, as a reader of JSON returns them."""
    if hasattr(state, "_asdict"):
        return {name: lists(value) for name, value in state._asdict().items()}
    if isinstance(state, tuple):
        return [lists(entry) for entry in state]
    if isinstance(state, dict):
        return {key: lists(value) for key, value in state.items()}
    return np.asarray(state)


def by_path(state):
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


FORMATS = {"msgpack": msgpack, "lists": lists, "by path": by_path}
every_format = pytest.mark.parametrize("untyped", FORMATS.values(), ids=FORMATS)
OUTSIDE = {"momentum": 0.9, "lr_in_momentum": False}
L2 = {"weight_decay": 0.1, "decoupled_weight_decay": False}
OURS = {
    "plain": rmsprop(0.1),
    "momentum": rmsprop(0.1, momentum=0.9),
    "momentum, outside": rmsprop(0.1, **OUTSIDE),
    "momentum, decay": rmsprop(0.1, momentum=0.9, weight_decay=0.1),
    "momentum, outside, decay": rmsprop(0.1, **OUTSIDE, weight_decay=0.1),
    "momentum, L2": rmsprop(0.1, momentum=0.9, **L2),
    "momentum, outside, L2": rmsprop(0.1, **OUTSIDE, **L2),
    "centered": rmsprop(0.1, centered=True),
    "centered, momentum": rmsprop(0.1, centered=True, momentum=0.9),
    "schedule": rmsprop(falling),
    "schedule, momentum": rmsprop(falling, momentum=0.9),
    "schedule, momentum, outside": rmsprop(falling, **OUTSIDE),
    "corrected": rmsprop(0.1, bias_correction=True),
    "torch": dialects.torch_rmsprop(0.1, momentum=0.9),
    "byte": compression.compressed(rmsprop(0.1), nu=compression.RmsByte()),
}
THEIRS = {
    "optax, centered": optax.rmsprop(0.1, centered=True),
    "optax, centered, momentum": optax.rmsprop(0.1, centered=True, momentum=0.9),
    "optax, trace before the rate": optax.chain(optax.scale_by_rms(), optax.trace(0.9), optax.scale(-0.1)),
    "Adam": optax.adam(0.1),
    "Adam alone": optax.scale_by_adam(),
    "AMSGrad": optax.amsgrad(0.1),
    "Yogi": optax.yogi(0.1),
    "AdaBelief": optax.adabelief(0.1),
    "NovoGrad": optax.novograd(0.1),
    "heavy ball": optax.sgd(0.1, momentum=0.9),
    "RSS": optax.adagrad(0.1),
}


def next_update(tx, state):
    return tx.update(gradients(99), state, PARAMS)[0]


@every_format
@pytest.mark.parametrize("into", rows(OURS, ["centered"]))
def test_a_container_without_types_is_the_same_optimizer_s_or_is_refused(untyped, into):
    tx = OURS[into]
    for name, other in (OURS | THEIRS).items():
        state = trained(other)
        try:
            restored = checkpoint.restore(tx.init(PARAMS), untyped(state))
        except (ValueError, TypeError):
            assert name != into
            continue
        assert meaning(name) == meaning(into)
        chex.assert_trees_all_equal(jax.tree.leaves(restored), [jnp.asarray(x) for x in jax.tree.leaves(state)])


SAME_MEANING = {"torch": "momentum, outside", "optax, trace before the rate": "momentum, outside"}


def meaning(name):
    """What the memory of an optimizer means, to which weight decay adds nothing."""
    return set(SAME_MEANING.get(name, name).split(", ")) - {"decay", "L2", "plain"}


@every_format
@pytest.mark.parametrize(("source", "into"), [("torch", "momentum"), ("momentum", "torch")])
def test_the_place_of_the_trace_tells_the_order(untyped, source, into):
    state = trained(OURS[source])
    with pytest.raises(ValueError, match=r"trace stands elsewhere in the list.*checkpoint.adapt"):
        checkpoint.restore(OURS[into].init(PARAMS), untyped(state))
    same = checkpoint.restore(OURS[source].init(PARAMS), untyped(state))
    chex.assert_trees_all_equal(same, state)
    moved, _ = checkpoint.adapt(same, OURS[into], PARAMS, learning_rate=0.1)
    settings = {"decay": 0.99, "eps_in_sqrt": False}
    order = rmsprop(0.1, momentum=0.9, lr_in_momentum=into == "momentum", **settings)
    expected = rmsprop(0.1, momentum=0.9, lr_in_momentum=source == "momentum", **settings)
    chex.assert_trees_all_close(next_update(order, moved), next_update(expected, state), rtol=1e-4)


@every_format
@pytest.mark.parametrize("name", ["optax, centered", "Adam", "Yogi", "AdaBelief"])
def test_a_mean_square_beside_a_mean_is_refused_with_both_meanings(untyped, name):
    saved = untyped(trained(THEIRS[name]))
    with pytest.raises(ValueError, match=r"`nu` beside `mu` is optax's mean square .* or the memory of Adam"):
        checkpoint.restore(rmsprop(0.1, centered=True).init(PARAMS), saved)
    with pytest.raises(ValueError, match=r"`nu` beside `mu`"):
        checkpoint.restore(rmsprop(0.1, centered=True).init(PARAMS), {"nu": PARAMS["layer"], "mu": PARAMS["layer"]})


@every_format
@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("centered", [False, True])
def test_a_file_of_optax_has_a_way_in(untyped, centered, momentum):
    options = {"centered": centered, "momentum": momentum, "eps": 1e-3}
    theirs, ours = optax.rmsprop(falling, **options), rmsprop(falling, **options)
    state = trained(theirs)
    typed = checkpoint.restore(theirs.init(PARAMS), untyped(state))
    chex.assert_trees_all_equal(typed, state)
    here, report = checkpoint.adapt(typed, ours, PARAMS)
    assert set(report.values()) == {"continued"}
    chex.assert_trees_all_close(next_update(ours, here), next_update(theirs, state), rtol=1e-5)
    with pytest.raises(ValueError, match="does not say whose state it is"):
        checkpoint.adapt(untyped(state), ours, PARAMS)
    with pytest.raises(ValueError, match="does not say whose state it is"):
        checkpoint.from_optax(untyped(state))


def test_a_layout_with_fields_that_are_none_is_refused():
    saved = {"0": {"count": None, "mu": None, "nu": msgpack(PARAMS)}, "1": {}}
    with pytest.raises(ValueError, match=r"unexpected: 0/count, 0/mu.* A field that is None is of a layout"):
        checkpoint.restore(rmsprop(0.1).init(PARAMS), saved)


class Heads(NamedTuple):
    """Parameters whose fields are called like moments, and one that is called like the content of a box."""

    nu: Any
    trace: Any
    count: Any
    value: Any


HEADS = Heads(*(jnp.full(n, 0.5) for n in (1, 2, 3, 4)))
BOXED = {"dense": {"kernel": nn.Partitioned(jnp.ones((2, 3)), ("a", None)), "bias": jnp.ones(3)}}
SLASHES = {"a/b": jnp.ones(2), "a": {"b": jnp.ones(3)}}
TREES = {"named like moments": HEADS, "boxed": BOXED, "in a list": [HEADS, {"value": jnp.ones(2)}]}
MOVES = {"momentum": rmsprop(falling, momentum=0.9), "centered": rmsprop(falling, centered=True)}


@pytest.mark.parametrize("tx", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("params", TREES.values(), ids=TREES)
def test_parameters_may_be_called_anything(params, tx):
    state = trained(tx, params)
    for saved in (state, msgpack(state), by_path(state), jax.tree.map(np.asarray, state)):
        chex.assert_trees_all_equal(checkpoint.restore(tx.init(params), saved), state)
    moved, report = checkpoint.adapt(state, rmsprop(falling, momentum=0.9, weight_decay=0.1), params)
    chex.assert_trees_all_equal_structs(moved[0].nu, params)
    assert report["1/count"] == "continued"
    accumulating = optax.MultiSteps(tx, 2).gradient_transformation()
    state = trained(accumulating, params)
    chex.assert_trees_all_equal(checkpoint.restore(accumulating.init(params), msgpack(state)), state)
    again, report = checkpoint.adapt(state, accumulating, params)
    chex.assert_trees_all_equal(again, state)
    assert set(report.values()) == {"continued"}


def test_paths_that_are_written_alike_are_told_apart_by_types_and_refused_without():
    tx = rmsprop(falling, momentum=0.9)
    state = trained(tx, SLASHES)
    for saved in (state, msgpack(state)):
        chex.assert_trees_all_equal(checkpoint.restore(tx.init(SLASHES), saved), state)
    moved, _ = checkpoint.adapt(state, rmsprop(falling), SLASHES)
    chex.assert_trees_all_equal(moved[0], state[0])
    with pytest.raises(ValueError, match="missing: 1/count"):
        checkpoint.restore(tx.init(SLASHES), {"0/nu/a/b": np.ones(2, np.float32)})


def test_statistics_fill_boxes_whether_they_name_them_or_not():
    tx = rmsprop(0.1)
    nu = {"dense": {"kernel": np.full((2, 3), 4.0, np.float32), "bias": np.full(3, 9.0, np.float32)}}
    named = {"dense/kernel/value": nu["dense"]["kernel"], "dense/bias": nu["dense"]["bias"]}
    for given in (nu, named):
        restored = checkpoint.restore(tx.init(BOXED), {"nu": given})
        assert (restored[0].nu["dense"]["kernel"].value == 4).all()


def test_the_rule_alone_is_restored_from_its_fields():
    for tx in (scale_by_rms(), scale_by_rms(centered=True), scale_by_rms(bias_correction=True)):
        state = trained(tx)
        for saved in (msgpack(state), lists(state), by_path(state)):
            chex.assert_trees_all_equal(checkpoint.restore(tx.init(PARAMS), saved), state)
