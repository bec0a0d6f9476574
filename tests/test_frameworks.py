"""In Flax NNX, Flax Linen, Equinox and Haiku, ten steps equal those of optax.rmsprop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.rows import rows

import rmsprop_optax

X = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
Y = jnp.sin(X.sum(-1, keepdims=True))
OPTIONS = {
    "plain": {},
    "momentum": {"momentum": 0.9, "nesterov": True},
    "centered": {"centered": True, "eps": 1e-3},
    "corrected": {"bias_correction": True, "eps_in_sqrt": False},
}


def loss_of(output):
    return jnp.mean((output - Y) ** 2)


def nnx_parameters(tx):
    from flax import nnx

    model = nnx.Sequential(nnx.Linear(3, 8, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(8, 1, rngs=nnx.Rngs(1)))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(lambda model: loss_of(model(X)))(model))

    for _ in range(10):
        step(model, optimizer)
    return nnx.state(model, nnx.Param)


def linen_parameters(tx):
    from flax import linen as nn
    from flax.training.train_state import TrainState

    model = nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(1)])
    state = TrainState.create(apply_fn=model.apply, params=model.init(jax.random.key(0), X), tx=tx)

    def step(state, _):
        return state.apply_gradients(grads=jax.grad(lambda p: loss_of(state.apply_fn(p, X)))(state.params)), None

    return jax.lax.scan(step, state, length=10)[0].params


def equinox_parameters(tx):
    import equinox as eqx

    model = eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(0))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda model: loss_of(jax.vmap(model)(X)))(model)
        updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state

    for _ in range(10):
        model, state = step(model, state)
    return eqx.filter(model, eqx.is_inexact_array)


def haiku_parameters(tx):
    haiku = pytest.importorskip("haiku")

    model = haiku.without_apply_rng(haiku.transform(lambda x: haiku.nets.MLP([8, 1], activation=jnp.tanh)(x)))
    params = model.init(jax.random.key(0), X)
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(lambda p: loss_of(model.apply(p, X)))(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(10):
        params, state = step(params, state)
    return params


FRAMEWORKS = {
    "nnx": nnx_parameters,
    "linen": linen_parameters,
    "equinox": equinox_parameters,
    "haiku": haiku_parameters,
}


@pytest.mark.parametrize("framework", rows(FRAMEWORKS, ["nnx"]))
@pytest.mark.parametrize("options", rows(OPTIONS, ["momentum"]))
def test_ten_steps_equal_optax_s(framework, options):
    train = FRAMEWORKS[framework]
    ours, theirs = (train(make(0.01, **OPTIONS[options])) for make in (rmsprop_optax.rmsprop, optax.rmsprop))
    leaves = list(zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    assert len(leaves) == 4
    for a, b in leaves:
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_an_unfiltered_equinox_model_is_refused_with_the_path_of_its_activation():
    import equinox as eqx

    with pytest.raises(TypeError, match=r"`params` at activation must be .*your framework's filter"):
        rmsprop_optax.rmsprop(0.1).init(eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(0)))


def test_nnx_parameters_in_bfloat16_train_without_a_second_trace():
    from flax import nnx

    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0), param_dtype=jnp.bfloat16)
    optimizer = nnx.Optimizer(model, rmsprop_optax.rmsprop(0.01, momentum=0.9), wrt=nnx.Param)
    traces = []

    @nnx.jit
    def step(model, optimizer):
        traces.append(1)
        optimizer.update(model, nnx.grad(lambda model: loss_of(model(X).astype(jnp.float32)))(model))

    for _ in range(3):
        step(model, optimizer)
    assert len(traces) == 1
