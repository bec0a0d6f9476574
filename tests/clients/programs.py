"""The programs: each is written as its library's documentation has it, and looks up `optax.rmsprop` when it runs.

A program returns what it arrived at, a number or a tree of them.
"""

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax


def netket():
    """Find the ground state of an Ising chain: complex parameters, centered; the optimizer is a static argument."""
    import netket as nk

    hilbert = nk.hilbert.Spin(s=1 / 2, N=10)
    hamiltonian = nk.operator.Ising(hilbert, graph=nk.graph.Chain(10), h=1.0)
    sampler = nk.sampler.MetropolisLocal(hilbert, n_chains=8)
    model = nk.models.RBM(alpha=2, param_dtype=complex)
    state = nk.vqs.MCState(sampler, model, n_samples=256, seed=1, sampler_seed=2)
    optimizer = nk.optimizer.RmsProp(0.005, beta=0.9, centered=True)
    driver = nk.driver.VMC(hamiltonian, optimizer, variational_state=state)
    driver.run(60, show_progress=False)
    return driver.energy.mean.real


def numpyro():
    """Fit a Bayesian regression by stochastic variational inference."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal

    def model(x, y):
        weights = numpyro.sample("weights", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
        scale = numpyro.sample("scale", dist.LogNormal(0, 1))
        numpyro.sample("y", dist.Normal(x @ weights, scale), obs=y)

    x = jax.random.normal(jax.random.key(0), (100, 4))
    y = x @ jnp.array([1.0, -2.0, 0.5, 0.0]) + 0.1 * jax.random.normal(jax.random.key(1), (100,))
    optimizer = numpyro.optim.optax_to_numpyro(optax.rmsprop(0.01, momentum=0.5))
    return SVI(model, AutoNormal(model), optimizer, Trace_ELBO()).run(
        jax.random.PRNGKey(2), 500, x, y, progress_bar=False
    ).losses[-1]  # fmt: skip


def optimistix():
    """Minimise Rosenbrock's function in a loop that ends when the steps are small."""
    import optimistix as optx

    def rosenbrock(y, args):
        return {"loss": (1 - y["a"]) ** 2 + 100 * (y["b"] - y["a"] ** 2) ** 2}["loss"]

    solver = optx.OptaxMinimiser(optax.rmsprop(1e-3), rtol=1e-7, atol=1e-7)
    start = {"a": jnp.array(-1.0), "b": jnp.array(1.5)}
    return optx.minimise(rosenbrock, solver, start, max_steps=400, throw=False).value


def jaxopt():
    """Fit a multiclass logistic regression with OptaxSolver."""
    import jaxopt

    x = jax.random.normal(jax.random.key(0), (200, 10))
    y = jnp.argmax(x @ jax.random.normal(jax.random.key(1), (10, 4)), axis=1)
    solver = jaxopt.OptaxSolver(
        opt=optax.rmsprop(0.01, decay=0.99, eps=1e-5), fun=jaxopt.objective.multiclass_logreg, maxiter=300
    )
    return solver.run(jnp.zeros((10, 4)), data=(x, y)).state.value


def flowjax():
    """Fit a coupling flow to data: an Equinox module, whose static parts leave None among the parameters."""
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow
    from flowjax.train import fit_to_data

    data = jax.random.normal(jax.random.key(0), (1000, 2)) ** 2
    flow = coupling_flow(jax.random.key(1), base_dist=Normal(jnp.zeros(2)), flow_layers=2, nn_width=16)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.rmsprop(1e-3))
    _, losses = fit_to_data(
        jax.random.key(2), flow, data, optimizer=optimizer, max_epochs=10, batch_size=100, show_progress=False
    )
    return losses["train"][-1]


def blackjax():
    """Fit a normal distribution to a density by mean-field variational inference."""
    import blackjax

    def density(position):
        return -jnp.sum((position["x"] - 1) ** 2 / 2 + position["y"] ** 2 / 0.5)

    vi = blackjax.meanfield_vi(density, optax.rmsprop(0.01), 20)
    start = {"x": jnp.zeros(5), "y": jnp.zeros(5)}
    _, info = jax.lax.scan(lambda s, key: vi.step(key, s), vi.init(start), jax.random.split(jax.random.key(0), 400))
    return info.elbo[-1]


def jaxley():
    """Fit a cell's radius and conductance to a voltage: an optimizer for each kind of parameter."""
    import jaxley as jx
    from jaxley.channels import HH
    from jaxley.optimize import TypeOptimizer

    cell = jx.Cell([jx.Branch(jx.Compartment(), ncomp=2)] * 3, parents=[-1, 0, 0])
    cell.insert(HH())
    cell.branch(0).loc(0.0).stimulate(jx.step_current(0.5, 1.0, 0.5, 0.025, 5.0))
    cell.branch(2).loc(1.0).record()
    target = jx.integrate(cell)
    cell.branch("all").make_trainable("radius")
    cell.make_trainable("HH_gNa")
    params = jax.tree.map(lambda x: 1.3 * x, cell.get_parameters())
    rates = {"radius": 0.05, "HH_gNa": 0.002}
    optimizer = TypeOptimizer(lambda rate: optax.rmsprop(rate, decay=0.9), rates, params)
    loss = jax.jit(jax.value_and_grad(lambda p: jnp.mean((jx.integrate(cell, params=p) - target) ** 2)))
    state = optimizer.init(params)
    for _ in range(20):
        value, grads = loss(params)
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
    return value


def impala():
    """Update the agent of Haiku's IMPALA example, read from its source, on trajectories from random boards."""
    sys.path.insert(0, os.environ["HAIKU_SOURCE"])
    import dm_env
    from examples.impala import agent as agents
    from examples.impala import haiku_nets, learner, util

    spec = dm_env.specs.BoundedArray((10, 5), np.float32, 0, 1)
    agent = agents.Agent(3, spec, haiku_nets.CatchNet)
    opt = optax.rmsprop(5e-3, decay=0.99, eps=1e-7)
    actor_critic = learner.Learner(agent, jax.random.PRNGKey(428), opt, 2, 0.99, 40, max_abs_reward=1.0)
    _, params = actor_critic.params_for_actor()
    state, rng = opt.init(params), np.random.default_rng(0)
    for _ in range(100):
        shape = (21, 2)
        timestep = dm_env.TimeStep(
            step_type=rng.integers(0, 3, shape),
            reward=rng.integers(-1, 2, shape).astype(np.float32),
            discount=np.ones(shape, np.float32),
            observation=rng.integers(0, 2, (*shape, 10, 5)).astype(np.float32),
        )
        logits = rng.normal(size=(*shape, 3)).astype(np.float32)
        acted = agents.AgentOutput(logits, np.zeros(shape, np.float32), rng.integers(0, 3, shape))
        batch = util.Transition(timestep, acted, np.zeros(shape, np.float32))
        params, state, logs = actor_critic.update(params, state, batch)
    return logs["total_loss"]


PROGRAMS = {
    "netket": netket,
    "numpyro": numpyro,
    "optimistix": optimistix,
    "jaxopt": jaxopt,
    "flowjax": flowjax,
    "blackjax": blackjax,
    "jaxley": jaxley,
    "dm-haiku": impala,
}
