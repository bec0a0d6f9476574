"""Three tasks that can refute what the note says, from easy to see through to real: a bowl, digits, text."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import char_rnn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_optax import rmsprop


class Task(NamedTuple):
    start: Callable[[Any], Any]
    loss_fn: Callable[[Any, Any], Any]
    batches: Any  # the steps in front
    target: float  # a training loss to get below
    octaves: dict[str, tuple[float, float]]  # where each optimizer's learning rates lie, as powers of two
    spacing: float = 0.5  # of the rates, in octaves
    seeds: range = range(5)  # for the sweeps
    coarse: tuple[float, range] = (0.5, range(5))  # spacing and seeds where many variants are swept
    fresh: range = range(100, 110)  # for what is reported
    cost: int = 1  # of a run, for the bar


def bowl(condition=1000.0, askew=False, steps=300):
    """A quadratic, `condition` times as steep along one axis as along another; its axes may lie askew."""
    axes = np.eye(50)
    if askew:
        axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=axes.shape))
    curvature = (axes * np.geomspace(1, condition, len(axes))) @ axes.T
    octaves = {"SGD": (-14, -6), "momentum": (-15, -4), "RMSprop": (-10, 1), "Adam": (-9, 2)}
    curvatures = np.broadcast_to(curvature.astype(np.float32), (steps, *axes.shape))
    return Task(bowl_start, bowl_loss, curvatures, 0.01 * float(np.trace(curvature)) / 2, octaves)


def bowl_start(key):
    return jax.random.normal(key, (50,))


def bowl_loss(params, curvature):
    return 0.5 * params @ curvature @ params


def digits(steps=300, hidden=64):
    """A classifier of handwritten digits with one hidden layer; batches of 64."""
    images, labels = load_digits(return_X_y=True)
    x, _, y, _ = train_test_split(
        images.astype(np.float32) / 16, labels, test_size=0.2, random_state=0, stratify=labels
    )
    batch = np.random.default_rng(0).integers(len(x), size=(steps, 64))
    octaves = {"SGD": (-5, 4), "momentum": (-8, 2), "RMSprop": (-11, 0), "Adam": (-10, 1)}
    return Task(functools.partial(digits_start, hidden=hidden), digits_loss, (x[batch], y[batch]), 0.2, octaves)


def digits_start(key, hidden):
    first, second = jax.random.split(key)
    init = jax.nn.initializers.lecun_normal()
    weights = {"hidden": init(first, (64, hidden)), "out": init(second, (hidden, 10))}
    return weights | {"hidden_bias": jnp.zeros(hidden), "out_bias": jnp.zeros(10)}


def digits_loss(params, batch):
    x, y = batch
    hidden = jax.nn.relu(x @ params["hidden"] + params["hidden_bias"])
    logits = hidden @ params["out"] + params["out_bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def text(steps=200, hidden=64, length=25):
    """The character RNN of examples/char_rnn.py, made smaller; batches of 16 pieces of text."""
    octaves = {"SGD": (-2, 4), "momentum": (-4, 3), "RMSprop": (-9, -2), "Adam": (-9, -2)}
    batches = char_rnn.excerpts(char_rnn.TRAINING, steps, batch=16, length=length)
    start = functools.partial(char_rnn.start, hidden=hidden)
    return Task(start, char_rnn.loss_fn, batches, 3.0, octaves, coarse=(1.0, range(3)), cost=20)


def shrunk(task):
    """Leave of a task what shows that the program runs."""
    batches = jax.tree.map(lambda x: x[:20], task.batches)
    return task._replace(batches=batches, spacing=4, seeds=range(2), coarse=(4, range(2)), fresh=range(100, 102))


OPTIMIZERS = {
    "SGD": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "RMSprop": rmsprop,
    "Adam": optax.adam,
}


def averaged(learning_rate, over, decay=0.9, eps=1e-8):
    """RMSprop with one mean square for many elements: over "tensor", those of each; over "all", every one."""

    def update(grads, nu, params=None):
        del params
        squares = jax.tree.map(lambda g: jnp.mean(g**2), grads)
        if over == "all":
            sizes = jax.tree.map(jnp.size, grads)
            total = sum(jax.tree.leaves(jax.tree.map(jnp.multiply, squares, sizes))) / sum(jax.tree.leaves(sizes))
            squares = jax.tree.map(lambda _: total, squares)
        nu = jax.tree.map(lambda n, s: decay * n + (1 - decay) * s, nu, squares)
        return jax.tree.map(lambda g, n: -learning_rate * g / jnp.sqrt(n + eps), grads, nu), nu

    return optax.GradientTransformation(lambda params: jax.tree.map(lambda p: jnp.zeros(()), params), update)
