"""The README's table against optax.rmsprop: one test a row, which checks both columns."""

import pathlib
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from kit import training

import rmsprop_optax

ROWS = {}
THEIRS, OURS = optax.rmsprop, rmsprop_optax.rmsprop


def row(label):
    def register(check):
        ROWS[label] = check
        return check

    return register


def steps(make, grads, **options):
    """Return the updates of a series of gradients (first axis) at learning rate 1, and the last state."""
    updates, state = training.updates(make(1.0, **options), grads)
    return -updates, state


@row("ordinary gradients")
def _():
    grads = jnp.asarray(np.random.default_rng(0).normal(size=(50, 200)), jnp.float32)
    np.testing.assert_allclose(steps(OURS, grads)[0], steps(THEIRS, grads)[0], atol=1e-6 / 0.01)
    np.testing.assert_allclose(steps(OURS, grads)[0], steps(THEIRS, grads)[0], rtol=1e-6)


@row("error at decay 0.999, float32")
def _():
    rng = np.random.default_rng(1)
    grads = (rng.choice([-1.0, 1.0], (3000, 64)) * 10 ** rng.uniform(-4, 4, (3000, 64))).astype(np.float32)
    nu, expected = np.zeros(64, np.longdouble), []
    for g in grads.astype(np.longdouble):
        nu = np.longdouble(0.999) * nu + (1 - np.longdouble(0.999)) * g * g
        expected.append(g / np.sqrt(nu + np.longdouble(1e-8)))
    theirs, ours = (
        float(np.max(np.abs(np.asarray(steps(make, grads, decay=0.999)[0], np.longdouble) / np.array(expected) - 1)))
        for make in (THEIRS, OURS)
    )
    assert 5e-6 < theirs < 8e-6
    assert ours < 2e-6


@row("one finite gradient of 2e19")
def _():
    grads = jnp.array([1.0] * 5 + [2e19] + [1.0] * 1000, jnp.float32)
    updates, state = steps(THEIRS, grads)
    assert jnp.isinf(state[0].nu)
    assert (updates[-900:] == 0).all()
    updates, state = steps(OURS, grads)
    assert jnp.isfinite(state[0].nu)
    assert updates[-1] > 0.5


@row("float16, a zero gradient")
def _():
    grads = jnp.zeros((1, 1), jnp.float16)
    assert jnp.isnan(steps(THEIRS, grads)[0]).all()
    assert (steps(OURS, grads)[0] == 0).all()


@row("eps 0, a zero gradient")
def _():
    assert jnp.isnan(steps(THEIRS, jnp.zeros((1, 1)), eps=0.0)[0]).all()
    assert (steps(OURS, jnp.zeros((1, 1)), eps=0.0)[0] == 0).all()


@row("float32 average in bfloat16 training, decay 0.999")
def _():
    grads = jnp.ones((8000, 1), jnp.bfloat16)
    assert steps(THEIRS, grads, decay=0.999)[1][0].nu == 0.5
    np.testing.assert_allclose(steps(OURS, grads, decay=0.999)[1][0].nu, 1, rtol=1e-3)


@row("bfloat16 parameters, float32 gradients")
def _():
    for make, traces in ((THEIRS, 2), (OURS, 1)):
        tx, seen = make(0.1), []
        update = jax.jit(lambda g, s, tx=tx, seen=seen: (seen.append(1), tx.update(g, s))[1])
        state = first = tx.init(jnp.ones(2, jnp.bfloat16))
        for _ in range(3):
            _, state = update(jnp.ones(2), state)
        assert len(seen) == traces
        assert (state[0].nu.dtype == first[0].nu.dtype) == (make is OURS)


@row("`centered`, gradients nearly constant")
def _():
    grads = jnp.full((400, 1), 0.7)
    assert jnp.isnan(steps(THEIRS, grads, centered=True, decay=0.95)[0]).any()
    assert jnp.isfinite(steps(OURS, grads, centered=True, decay=0.95)[0]).all()


@row("the state when `centered`")
def _():
    grads = jnp.array([[3.0], [1.0]])
    (_, theirs), (_, ours) = (steps(make, grads, centered=True, decay=0.5) for make in (THEIRS, OURS))
    np.testing.assert_allclose(theirs[0].nu, 0.5 * 4.5 + 0.5 * 1)
    np.testing.assert_allclose(ours[0].variance, theirs[0].nu - theirs[0].mu ** 2)
    np.testing.assert_allclose(ours[0].mu, theirs[0].mu)
    assert optax.tree.get(ours, "nu") is None


@row("a negative learning rate with `weight_decay`")
def _():
    params, zero = jnp.ones(1), jnp.zeros(1)
    theirs = optax.chain(optax.add_decayed_weights(0.1), THEIRS(-0.1))
    assert optax.apply_updates(params, theirs.update(zero, theirs.init(params), params)[0]) > params
    with pytest.raises(ValueError, match="must not be negative with `weight_decay`"):
        OURS(-0.1, weight_decay=0.1)
    assert OURS(-0.1).update(params, OURS(-0.1).init(params))[0] > 0


@row("`centered` with `bias_correction`")
def _():
    assert round(float(steps(THEIRS, jnp.ones((1, 1)), centered=True, bias_correction=True)[0][0, 0])) == 2006
    with pytest.raises(ValueError, match="`centered` and `bias_correction`"):
        OURS(1.0, centered=True, bias_correction=True)


@row("`nesterov` without `momentum`")
def _():
    grads = jnp.ones((5, 1))
    assert (steps(THEIRS, grads, nesterov=True)[0] == steps(THEIRS, grads)[0]).all()
    with pytest.raises(ValueError, match="`nesterov` needs `momentum`"):
        OURS(1.0, nesterov=True)


@row("`decay=1.5`, `learning_rate=None`")
def _():
    assert jnp.isnan(steps(THEIRS, jnp.ones((1, 1)), decay=1.5)[0]).all()
    climbing = THEIRS(None)
    assert climbing.update(jnp.ones(1), climbing.init(jnp.ones(1)))[0] > 0
    for options in ({"decay": 1.5}, {"learning_rate": None}):
        with pytest.raises((ValueError, TypeError), match=next(iter(options))):
            OURS(**({"learning_rate": 1.0} | options))


@row("`bias_correction` at decay 0.9999999")
def _():
    theirs, ours = (
        float(steps(make, jnp.ones((1, 1)), decay=0.9999999, eps=0.0, bias_correction=True)[0][0, 0])
        for make in (THEIRS, OURS)
    )
    assert round(theirs, 2) == 1.09
    assert round(ours, 6) == 1


@row("`inject_hyperparams` on bfloat16 parameters, decay 0.999")
def _():
    params = jnp.ones(1, jnp.bfloat16)
    assert optax.inject_hyperparams(THEIRS)(0.1, decay=0.999).init(params).hyperparams["decay"] == 1
    with pytest.raises(TypeError, match=r"hyperparam_dtype=jnp\.float32"):
        optax.inject_hyperparams(OURS)(0.1, decay=0.999).init(params)
    tx = optax.inject_hyperparams(OURS, hyperparam_dtype=jnp.float32)(1.0, decay=0.999)
    np.testing.assert_allclose(tx.update(params, tx.init(params), params)[0], -(1000**0.5), rtol=1e-2)


@row("a gradient of shape (3, 1) for (3,)")
def _():
    params, grads = {"kernel": jnp.ones(3)}, {"kernel": jnp.ones((3, 1))}
    updates, _ = THEIRS(0.1).update(grads, THEIRS(0.1).init(params))
    assert optax.apply_updates(params, updates)["kernel"].shape == (3, 3)
    with pytest.raises(ValueError, match=r"kernel has shape \(3, 1\)"):
        OURS(0.1).update(grads, OURS(0.1).init(params))


@row("an integer parameter")
def _():
    params = {"steps": jnp.array([5, 1])}
    updates, _ = THEIRS(0.1).update({"steps": jnp.array([1.0, 1.0])}, THEIRS(0.1).init(params))
    assert optax.apply_updates(params, updates)["steps"].tolist() == [4, 0]
    with pytest.raises(TypeError, match="`params` at steps"):
        OURS(0.1).init(params)


@row("a None gradient")
def _():
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    for make in (THEIRS, OURS):
        tx = make(0.1)
        _, state = tx.update(params, tx.init(params))
        _, state = tx.update(params | {"a": None}, state)
        assert (state[0].nu["a"] is None) == (make is THEIRS)


@row("a state made with other options")
def _():
    state = THEIRS(0.1, bias_correction=True).init(jnp.ones(1))
    assert THEIRS(0.1).update(jnp.ones(1), state)[0].shape == (1,)
    with pytest.raises(ValueError, match="not made by init with these options"):
        OURS(0.1).update(jnp.ones(1), OURS(0.1, bias_correction=True).init(jnp.ones(1)))


@row("derivative through the update at a zero gradient, eps outside")
def _():
    for make in (THEIRS, OURS):
        tx = make(0.1, eps_in_sqrt=False)
        grad = jax.grad(lambda g, tx=tx: tx.update(g, tx.init(g))[0].sum())(jnp.array([1.0, 0.0]))
        assert jnp.isfinite(grad).all() == (make is OURS)


@row("`jax.jit(tx.init)` of sharded parameters")
def _():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    params = jax.device_put(jnp.ones(16), NamedSharding(mesh, PartitionSpec("d")))
    for make, devices in ((THEIRS, 1), (OURS, 8)):
        assert len(jax.jit(make(0.1).init)(params)[0].nu.sharding.device_set) == devices


@row("`nu` of complex64 parameters")
def _():
    params = jnp.ones(1, jnp.complex64)
    assert THEIRS(0.1).init(params)[0].nu.dtype == np.complex64
    assert OURS(0.1).init(params)[0].nu.dtype == np.float32


@row("a learning rate that changes, with momentum")
def _():
    rate = optax.piecewise_constant_schedule(1.0, {1: 0.0})
    for make, options, moves in ((THEIRS, {}, True), (OURS, {}, True), (OURS, {"lr_in_momentum": False}, False)):
        tx = make(rate, momentum=0.9, **options)
        state = tx.init(jnp.ones(1))
        for _ in range(3):
            updates, state = tx.update(jnp.ones(1), state)
        assert bool((updates != 0).all()) == moves


@row("weight decay")
def _():
    with pytest.raises(TypeError, match="weight_decay"):
        THEIRS(0.1, weight_decay=0.1)
    tx = OURS(0.1, weight_decay=optax.constant_schedule(0.5), weight_decay_mask={"a": True, "b": False})
    params = {"a": jnp.ones(1), "b": jnp.ones(1)}
    updates, _ = tx.update({"a": jnp.zeros(1), "b": jnp.zeros(1)}, tx.init(params), params)
    np.testing.assert_allclose(updates["a"], -0.05, rtol=1e-6)
    assert updates["b"] == 0


@row("equal calls, `pickle`, `repr`")
def _():
    assert THEIRS(0.1) != THEIRS(0.1)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(THEIRS(0.1))
    assert " at 0x" in repr(THEIRS(0.1))
    assert OURS(0.1) == OURS(0.1) == pickle.loads(pickle.dumps(OURS(0.1)))
    assert repr(OURS(0.1)).startswith("rmsprop(learning_rate=0.1, ")


@pytest.mark.parametrize("label", ROWS)
def test_row(label):
    ROWS[label]()


def test_the_readme_s_table_has_these_rows():
    readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
    section = readme.split("## Against optax.rmsprop")[1].split("##")[0]
    labels = re.findall(r"^\| ([^|]+?) \|", section, re.MULTILINE)
    assert labels == list(ROWS)
    assert f"In {len(ROWS) - 1} situations" in readme  # on ordinary gradients the two agree
