"""CartPole-v1 as Gymnasium has it, several poles at once: https://gymnasium.farama.org/environments/classic_control/cart_pole."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

LIMIT = 500  # steps of an episode


class Pole(NamedTuple):
    """Poles on their carts. The reward of every step is 1."""

    x: jax.Array  # position, speed, angle, angular speed; shape (envs, 4)
    t: jax.Array  # steps since the start of the episode; shape (envs,), int32


def reset(key, envs):
    return Pole(jax.random.uniform(key, (envs, 4), minval=-0.05, maxval=0.05), jnp.zeros(envs, jnp.int32))


def step(pole, action):
    """Return the poles 0.02 s later, which of them fell (terminated), and whose time is up (truncated)."""
    _, speed, angle, spin = pole.x.T
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    push = (jnp.where(action == 1, 10.0, -10.0) + 0.05 * spin**2 * sin) / 1.1
    turn = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    pole = Pole(pole.x + 0.02 * jnp.stack([speed, push - 0.05 * turn * cos / 1.1, spin, turn], axis=1), pole.t + 1)
    terminated = (jnp.abs(pole.x[:, 0]) > 2.4) | (jnp.abs(pole.x[:, 2]) > math.radians(12))
    return pole, terminated, (pole.t >= LIMIT) & ~terminated
