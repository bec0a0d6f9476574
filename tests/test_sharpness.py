"""`diagnostics.sharpness` is the largest eigenvalue of a matrix written out, for every variant, and 2 is the edge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from kit.rows import rows

from rmsprop_optax import diagnostics, rmsprop
from rmsprop_optax.sharding import state_shardings

RATE = 0.05
DATA = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
VARIANTS = {
    "plain": {},
    "outside": {"eps_in_sqrt": False},
    "centered": {"centered": True, "eps": 1e-3},
    "corrected": {"bias_correction": True},
    "centered, outside": {"centered": True, "eps": 1e-3, "eps_in_sqrt": False},
    "momentum": {"momentum": 0.9},
}


def start(axes=None):
    params = {"w": jax.random.normal(jax.random.key(0), (8, 8)) / 3, "b": jnp.zeros(8)}
    if axes is None:
        return params
    mesh = jax.make_mesh((8,), ("x",), axis_types=(axes,))
    return jax.device_put(params, {"w": NamedSharding(mesh, P(None, "x")), "b": NamedSharding(mesh, P("x"))})


def loss_fn(params):
    return jnp.mean(jnp.sum(jnp.tanh(DATA @ params["w"] + params["b"]) ** 2, 1) - params["b"][0] ** 2 / 9)


def trained(tx, params, steps=5):
    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss_fn)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def written_out(loss_fn, params, rates):
    """Return the largest eigenvalue of the matrix itself, in float64 on the host."""
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    hessian = np.asarray(jax.hessian(lambda x: loss_fn(unravel(x)))(flat), np.float64)
    root = np.sqrt(np.asarray(jax.flatten_util.ravel_pytree(rates)[0], np.float64))
    return np.linalg.eigvalsh(root[:, None] * hessian * root).max()


@pytest.mark.parametrize("name", rows(VARIANTS, []))
def test_it_is_the_largest_eigenvalue_of_the_matrix_written_out(name):
    options = VARIANTS[name]
    params, state = trained(rmsprop(RATE, **options), start())
    eps = {key: options[key] for key in ("eps", "eps_in_sqrt") if key in options}
    decay = {"decay": 0.9} if options.get("bias_correction") else {}
    (rates,) = diagnostics.effective_learning_rate(state, RATE, **eps, **decay).values()
    expected = written_out(loss_fn, params, rates)
    read = functools.partial(diagnostics.sharpness, loss_fn, **eps, **decay, iterations=300, tolerance=1e-5)
    assert float(read(params, state, RATE)) == pytest.approx(expected, rel=1e-3)
    assert float(jax.jit(read)(params, state, 2 * RATE)) == pytest.approx(2 * expected, rel=1e-3)


@pytest.mark.parametrize("axes", rows([AxisType.Auto, AxisType.Explicit], []))
def test_shards_are_read_where_they_are(axes):
    params = start(axes)
    mesh = params["w"].sharding.mesh

    def gathered(params):
        return loss_fn(jax.tree.map(lambda p: jax.sharding.reshard(p, P()), params))

    alone, alone_state = trained(rmsprop(RATE), start())
    params = jax.tree.map(lambda x, p: jax.device_put(x, p.sharding), alone, params)
    state = jax.device_put(alone_state, state_shardings(rmsprop(RATE), params))
    read = functools.partial(diagnostics.sharpness, iterations=200, tolerance=1e-5)
    with jax.set_mesh(mesh):
        found = jax.jit(functools.partial(read, gathered if axes is AxisType.Explicit else loss_fn))(
            params, state, RATE
        )
    assert float(found) == pytest.approx(float(read(loss_fn, alone, alone_state, RATE)), rel=1e-3)


def test_a_loss_that_curves_down_has_a_negative_one_and_a_saddle_its_largest():
    params = {"a": jnp.ones(3), "b": jnp.ones(1)}
    state = rmsprop(1.0).init(params)
    read = functools.partial(diagnostics.sharpness, params=params, state=state, learning_rate=1.0, eps=1.0)
    assert float(read(lambda p: -jnp.sum(p["a"] ** 2) - 2 * jnp.sum(p["b"] ** 2))) == pytest.approx(-2, rel=1e-2)
    assert float(read(lambda p: -3 * jnp.sum(p["a"] ** 2) + jnp.sum(p["b"] ** 2))) == pytest.approx(2, rel=1e-2)


@pytest.mark.parametrize(("factor", "grows"), [(0.95, False), (1.05, True)])
def test_steps_on_a_quadratic_grow_above_2_and_shrink_below(factor, grows):
    curvature = jnp.array([1.0, 3.0, 10.0])
    state = rmsprop(1.0, initial_scale=4.0).init(curvature)
    quadratic = lambda x: jnp.sum(curvature * x**2) / 2  # noqa: E731
    one = float(diagnostics.sharpness(quadratic, curvature, state, 1.0, eps=0.0, tolerance=1e-6))
    rate = factor * 2 / one
    (rates,) = diagnostics.effective_learning_rate(state, rate, eps=0.0).values()
    x = jnp.ones(3)
    for _ in range(100):
        x = x - rates * jax.grad(quadratic)(x)
    assert bool(jnp.abs(x).max() > 1) is grows


def test_parameters_without_a_second_moment_count_as_fixed():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = optax.masked(rmsprop(1.0), {"a": True, "b": False})
    loss = lambda p: jnp.sum(p["a"] ** 2) + 50 * jnp.sum(p["b"] ** 2)  # noqa: E731
    assert float(diagnostics.sharpness(loss, params, tx.init(params), 1.0, eps=1.0)) == pytest.approx(2, rel=1e-3)


def test_bfloat16_parameters_are_read_in_float32():
    params = jnp.ones(8, jnp.bfloat16)
    found = diagnostics.sharpness(lambda x: jnp.sum(x**2), params, rmsprop(1.0).init(params), 1.0, eps=1.0)
    assert found.dtype == jnp.float32
    assert float(found) == pytest.approx(2, rel=1e-2)


REFUSED = {
    "a loss of other parameters": (lambda p: p["x"], "`loss_fn` must be .* Traced, it raised"),
    "a vector": (lambda p: p, "`loss_fn` must be a function from `params` to a real scalar"),
    "text": ("loss", "`loss_fn` must be a function"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_loss_that_is_not_a_scalar_of_the_parameters_is_refused(why):
    loss, message = REFUSED[why]
    params = jnp.ones(3)
    with pytest.raises(TypeError, match=message):
        diagnostics.sharpness(loss, params, rmsprop(0.1).init(params), 0.1)


def test_complex_parameters_are_refused():
    params = jnp.ones(3, complex)
    with pytest.raises(TypeError, match="must be real"):
        diagnostics.sharpness(lambda x: jnp.sum(jnp.abs(x) ** 2), params, rmsprop(0.1).init(params), 0.1)
