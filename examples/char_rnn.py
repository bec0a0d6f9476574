"""A character RNN learns Python's own documentation with RMSprop, and writes some, before and after.

A GRU in plain JAX on the text that ships with CPython. Decay 0.95, gradients clipped to 5, and weights that start
within 0.08 are those of the published char-rnn (https://github.com/karpathy/char-rnn, train.lua); its learning rate,
0.002, is meant for 50 epochs, and this run is two. Half a minute on two cores.

With --record it compares four optimizers instead: each at the learning rate that a sweep over two seeds suggests, by
the training loss, and then over five other seeds. That takes ten minutes.
"""

import functools
import pydoc_data.topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
import recording
from tqdm import tqdm

from rmsprop_optax import rmsprop, sweep

STEPS, LEARNING_RATE, DECAY, TARGET = 600, 0.01, 0.95, 2.5
OPTIMIZERS = {  # and the powers of two between which each learning rate is searched
    "SGD": (optax.sgd, (-0.5, 1.5)),
    "SGD with momentum": (functools.partial(optax.sgd, momentum=0.9), (-0.5, 1.5)),
    "RMSprop": (functools.partial(rmsprop, decay=DECAY), (-7, -5)),
    "Adam": (optax.adam, (-6.5, -4.5)),
}
TUNED, REPORTED = range(5, 7), range(5)  # seeds
COLUMNS = ["optimizer", "learning rate", "held-out loss", f"steps to {TARGET:g}", "final loss"]

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


def train(steps):
    """Train with RMSprop, showing the loss; return the parameters."""
    tx = optax.chain(optax.clip(5.0), rmsprop(LEARNING_RATE, DECAY))
    params = start(jax.random.key(0))
    state = tx.init(params)

    @jax.jit
    def train_step(params, state, text):
        loss, grads = jax.value_and_grad(loss_fn)(params, text)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    bar = tqdm(excerpts(TRAINING, steps), unit="step")
    for i, text in enumerate(bar):
        params, state, loss = train_step(params, state, text)
        if i % 20 == 0:
            bar.set_postfix(loss=f"{loss:.2f}")
    return params


def compare(name, steps, held_out):
    """Return the learning rate of an optimizer and, for each seed, its losses and the steps to the target."""
    make, (low, high) = OPTIMIZERS[name]
    make_tx, pieces = lambda rate: optax.chain(optax.clip(5.0), make(rate)), excerpts(TRAINING, steps)
    rates = 2.0 ** np.arange(low, high + 0.1, 0.5)
    rate, reason = sweep.learning_rates(make_tx, loss_fn, start, pieces, rates, seeds=TUNED, progress=True).suggest()
    print(f"{name}: {reason}")
    rate = float(f"{rate:.2g}")
    run = sweep.learning_rates(
        make_tx, loss_fn, start, pieces, [rate], held_out=held_out, seeds=REPORTED, progress=True
    )
    smooth = [np.convolve(losses, np.ones(20) / 20, mode="valid") for losses in run.losses[0]]
    reached = [int(np.argmax(losses < TARGET)) + 20 for losses in smooth if (losses < TARGET).any()]
    final = run.losses[0, :, -50:].mean(1).tolist()
    return {"rate": rate, "held_out": run.held_out[0].tolist(), "steps": reached, "final": final}


def record(runs):
    """Print the table and write it where the docs find it."""
    rows = []
    for name, run in runs.items():
        held_out, final = (recording.spread(run[key], digits=3) for key in ("held_out", "final"))
        rows.append([name, f"{run['rate']:g}", held_out, recording.reached(run["steps"], len(REPORTED)), final])
    for cells in (COLUMNS, *rows):
        print("".join(f"{cell:<20}" for cell in cells))
    recording.write("char_rnn", COLUMNS, rows, runs=runs)


def main():
    args = recording.parser(__doc__).parse_args()

    held_out = excerpts(HELD_OUT, 1, batch=200)[0]
    if args.record:
        record({name: compare(name, STEPS, held_out) for name in OPTIMIZERS})
        return
    for when, steps in (("before", 0), ("after", 20 if args.quick else STEPS)):
        params = train(steps)
        print(f"\n{when}, held-out loss {loss_fn(params, held_out):.2f} nats a character:")
        print(write(params, jax.random.key(1)))


if __name__ == "__main__":
    main()
