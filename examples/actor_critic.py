"""A2C balances a pole: Stable-Baselines3's numbers, the same numbers typed into optax.rmsprop, and Adam.

An environment of a few lines, n-step returns and one compiled loop, in plain JAX. The recipe adds eps outside the root,
as PyTorch does; `optax.rmsprop` adds it inside, where 1e-5 is a floor of 0.003 under every gradient. Draws
figures/actor_critic.png. With --record, picture and results go into docs.
"""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recording
from cartpole import report
from cartpole.environment import Pole, reset, step
from tqdm import tqdm

from rmsprop_optax import recipes

ENVS, N_STEPS, GAMMA, VALUE_COEF = 8, 5, 0.99, 0.5
CHUNK = 200  # updates between two points of a curve
CLIP = optax.clip_by_global_norm(0.5)
OPTIMIZERS = {
    "recipe": recipes.a3c(None, source="sb3"),
    "optax": optax.chain(CLIP, optax.rmsprop(7e-4, decay=0.99, eps=1e-5)),
    "adam": optax.chain(CLIP, optax.adam(7e-4, eps=1e-5)),  # A2C(use_rms_prop=False) of Stable-Baselines3
}


def start(key):
    """Return an actor and a critic as Stable-Baselines3 makes them: two layers of 64, orthogonal, biases 0."""

    def layers(key, *gains, sizes):
        shapes = zip(jax.random.split(key, 3), sizes[:-1], sizes[1:], gains, strict=True)
        return [{"w": jax.nn.initializers.orthogonal(gain)(k, (m, n)), "b": jnp.zeros(n)} for k, m, n, gain in shapes]

    actor, critic = jax.random.split(key)
    hidden = (2**0.5, 2**0.5)
    return {"actor": layers(actor, *hidden, 0.01, sizes=(4, 64, 64, 2)),
            "critic": layers(critic, *hidden, 1.0, sizes=(4, 64, 64, 1))}  # fmt: skip


def network(layers, x):
    for layer in layers[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def value(params, x):
    return network(params["critic"], x)[..., 0]


class Frames(NamedTuple):
    """What happened in a rollout; each array has the leading axes (steps, envs)."""

    x: jax.Array
    action: jax.Array
    reward: jax.Array
    after: jax.Array  # the observation after the step, before a new episode starts
    terminated: jax.Array
    truncated: jax.Array


def rollout(params, pole, key):
    """Play N_STEPS in every environment; return the poles, the frames, and the lengths of episodes that ended."""

    def play(pole, key):
        acting, starting = jax.random.split(key)
        action = jax.random.categorical(acting, network(params["actor"], pole.x))
        after, terminated, truncated = step(pole, action)
        frames = Frames(pole.x, action, jnp.ones(ENVS), after.x, terminated, truncated)
        ended = terminated | truncated
        new = reset(starting, ENVS)
        pole = Pole(jnp.where(ended[:, None], new.x, after.x), jnp.where(ended, new.t, after.t))
        return pole, (frames, jnp.where(ended, after.t, 0))

    pole, (frames, lengths) = jax.lax.scan(play, pole, jax.random.split(key, N_STEPS))
    return pole, frames, lengths


def n_step_returns(reward, value_after, terminated, truncated):
    """Sum the rewards of each step to the end of its rollout or episode, and what the critic expects after that.

    After a step that terminated nothing is expected, because the pole lies. After one that was truncated, the value of
    the last observation of *that* episode: the pole would have stood on.
    """

    def back(following, frame):
        reward, value_after, terminated, truncated = frame
        following = jnp.where(truncated, value_after, jnp.where(terminated, 0.0, following))
        return (reward + GAMMA * following,) * 2

    return jax.lax.scan(back, value_after[-1], (reward, value_after, terminated, truncated), reverse=True)[1]


def loss_fn(params, x, action, returns):
    """Return the policy-gradient loss and half the squared error of the critic, each a mean over all frames."""
    values = value(params, x)
    advantage = jax.lax.stop_gradient(returns - values)
    log_prob = jnp.take_along_axis(jax.nn.log_softmax(network(params["actor"], x)), action[..., None], -1)[..., 0]
    return -(advantage * log_prob).mean() + VALUE_COEF * ((returns - values) ** 2).mean()


@functools.partial(jax.jit, static_argnames="tx")
def train(carry, tx):
    """Make the updates of a chunk; return the carry, the sum of the returns of ended episodes, and their number."""

    def update(carry, _):
        params, state, pole, key = carry
        key, now = jax.random.split(key)
        pole, frames, lengths = rollout(params, pole, now)
        returns = n_step_returns(frames.reward, value(params, frames.after), frames.terminated, frames.truncated)
        grads = jax.grad(loss_fn)(params, frames.x, frames.action, returns)
        steps, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, steps), state, pole, key), (lengths.sum(), (lengths > 0).sum())

    carry, (returns, episodes) = jax.lax.scan(update, carry, length=CHUNK)
    return carry, returns.sum(), episodes.sum()


def run(tx, seed, chunks):
    """Train; return the mean return in each chunk, None if no episode ended, and the share of small gradients.

    That is the share of parameters whose root mean square gradient is below sqrt(1e-5), a mean over the chunks.
    """
    initial, starting, key = jax.random.split(jax.random.key(seed), 3)
    params = start(initial)
    carry, curve, below = (params, tx.init(params), reset(starting, ENVS), key), [], []
    for _ in range(chunks):
        carry, returns, episodes = train(carry, tx)
        curve.append(float(f"{returns / episodes:.5g}") if episodes else None)
        nu = np.concatenate([np.ravel(x) for x in jax.tree.leaves(optax.tree.get(carry[1], "nu"))])
        below.append(np.mean(nu < 1e-5))
    return curve, float(f"{np.mean(below):.5g}")


def train_all(args):
    """Train every optimizer with one seed after the other; write what there is after each, and return it."""
    names = list(OPTIMIZERS)[: 2 if args.quick else None]
    curves, below, began = {name: [] for name in names}, {name: [] for name in names}, time.monotonic()
    for seed in tqdm(range(args.seeds), unit="seed", disable=None):
        if seed and time.monotonic() - began > args.limit:
            break
        for name in names:
            curve, share = run(OPTIMIZERS[name], seed, args.chunks)
            curves[name].append(curve)
            below[name].append(share)
        report.write(ENVS * N_STEPS * CHUNK, curves, below, args.record)
    return curves


def main():
    parser = recording.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--chunks", type=int, default=30, help=f"of {CHUNK} updates, each of {ENVS * N_STEPS} steps")
    parser.add_argument("--limit", type=float, default=1200, help="start no seed after so many seconds")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.chunks = 1, 6
    trained = train_all(args)
    for label, seeds, *returns in report.rows(trained):
        print(f"{label}, {seeds} seeds: {', '.join(returns)}")
    for name, curves in trained.items():
        assert np.nanmax(np.array(curves, float)) > 2 * curves[0][0], f"{name} did not learn"


if __name__ == "__main__":
    main()
