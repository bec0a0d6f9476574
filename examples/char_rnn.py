"""A character RNN learns Python's own documentation with RMSprop, and writes some, before and after.

A GRU in plain JAX on the text that ships with CPython. Decay 0.95, gradients clipped to 5, and weights that start
within 0.08 are those of the published char-rnn (https://github.com/karpathy/char-rnn, train.lua); its learning rate,
0.002, is meant for 50 epochs, and this run is two. Half a minute on two cores.
"""

import argparse
import pydoc_data.topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from rmsprop_optax import rmsprop

TEXT = "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
CHARACTERS = sorted(set(TEXT))
CODES = np.searchsorted(CHARACTERS, list(TEXT))
TRAINING, HELD_OUT = np.split(CODES.astype(np.int32), [int(0.95 * len(CODES))])


def start(key, hidden=128):
    """Return the parameters of a GRU: its gates are update, reset and candidate, side by side."""
    characters = len(CHARACTERS)
    shapes = {"embed": (characters, 3 * hidden), "recur": (hidden, 3 * hidden), "out": (hidden, characters)}
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    params = {name: jax.random.uniform(keys[name], shape, minval=-0.08, maxval=0.08) for name, shape in shapes.items()}
    return params | {"bias": jnp.zeros(3 * hidden), "out_bias": jnp.zeros(characters)}


def cell(params, h, x):
    """Return the next hidden state; x is what `embed` holds for a character."""
    xz, xr, xn = jnp.split(x + params["bias"], 3, axis=-1)
    hz, hr, hn = jnp.split(h @ params["recur"], 3, axis=-1)
    z = jax.nn.sigmoid(xz + hz)
    return z * h + (1 - z) * jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)


def loss_fn(params, text):
    """Return the mean surprise, in nats, of each next character; text has shape (batch, length)."""
    h = jnp.zeros((len(text), len(params["recur"])))
    _, hs = jax.lax.scan(lambda h, x: (cell(params, h, x),) * 2, h, params["embed"][text[:, :-1].T])
    logits = hs @ params["out"] + params["out_bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:].T).mean()


def excerpts(codes, steps, batch=32, length=50, seed=0):
    """Return random pieces of the text: shape (steps, batch, length + 1)."""
    first = np.random.default_rng(seed).integers(len(codes) - length, size=(steps, batch, 1))
    return codes[first + np.arange(length + 1)]


def write(params, key, length=300, prompt="The "):
    """Return text that the model makes up."""
    given = jnp.array([CHARACTERS.index(c) for c in prompt])

    def step(carry, x):
        h, character = carry
        h = cell(params, h, params["embed"][jnp.where(x[0] < len(prompt), given[x[0] % len(prompt)], character)])
        character = jax.random.categorical(x[1], (h @ params["out"] + params["out_bias"]) / 0.7)
        return (h, character), character

    h = jnp.zeros(len(params["recur"]))
    _, codes = jax.lax.scan(step, (h, 0), (jnp.arange(length), jax.random.split(key, length)))
    return prompt + "".join(CHARACTERS[code] for code in codes[len(prompt) - 1 :])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    args = parser.parse_args()

    tx = optax.chain(optax.clip(5.0), rmsprop(args.learning_rate, decay=0.95))
    params = start(jax.random.key(0))
    state = tx.init(params)
    held_out = excerpts(HELD_OUT, 1, batch=200)[0]

    @jax.jit
    def train_step(params, state, text):
        loss, grads = jax.value_and_grad(loss_fn)(params, text)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    print(
        f"before, held-out loss {loss_fn(params, held_out):.2f} nats a character:\n{write(params, jax.random.key(1))}\n"
    )
    bar = tqdm(excerpts(TRAINING, args.steps), unit="step")
    for i, text in enumerate(bar):
        params, state, loss = train_step(params, state, text)
        if i % 20 == 0:
            bar.set_postfix(loss=f"{loss:.2f}")
    print(f"\nafter, {loss_fn(params, held_out):.2f} nats:\n{write(params, jax.random.key(1))}")


if __name__ == "__main__":
    main()
