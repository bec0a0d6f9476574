"""A character RNN in 3 bytes a parameter: bfloat16 weights, the mean square in a byte, and nothing else.

Trains it in float32 and in four cheaper ways on the text of Python's manual, prints the losses and the bytes, and
draws both in figures/. Under a minute on two cores. With --record, the picture goes into docs.
"""

from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import recording
from tqdm import tqdm

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import RmsByte, RmsNibble, compressed, with_master_weights

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RATE, DECAY, WIDTH, ROWS, LENGTH = 2e-3, 0.95, 96, 16, 24
BYTE = compressed(rmsprop(RATE, DECAY), nu=RmsByte())
HALF = compressed(rmsprop(RATE, DECAY), nu=RmsNibble())
RUNS = {  # the transformation, the dtype of parameters and gradients, the color and the line
    "float32": (rmsprop(RATE, DECAY), jnp.float32, "#D55E00", "-"),
    "bfloat16 + 16 bits, byte": (with_master_weights(BYTE), jnp.bfloat16, "#0072B2", "--"),
    "bfloat16 + 8 bits, byte": (with_master_weights(BYTE, low_bits=8), jnp.bfloat16, "#009E73", "-."),
    "bfloat16 + 8 bits, half a byte": (
        with_master_weights(HALF, low_bits=8),
        jnp.bfloat16,
        "#CC79A7",
        (0, (6, 1, 2, 1)),
    ),
    "bfloat16, byte": (with_master_weights(BYTE, low_bits=0), jnp.bfloat16, "black", ":"),
}
INK = {"parameters": "white", "low halves": "black", "nu": "black", "gradients": "black"}
PARTS = {"parameters": "#4477AA", "low halves": "#66CCEE", "nu": "#EE6677", "gradients": "#BBBBBB"}


def read():
    """Return the manual as numbers of its characters, and how many different ones there are."""
    text = "\n".join(topics[name] for name in sorted(topics))
    characters = sorted(set(text))
    return np.array([characters.index(c) for c in text[:300_000]], np.int32), len(characters)


def init(key, characters, dtype):
    shapes = {"embed": (characters, WIDTH), "in": (WIDTH, 3 * WIDTH), "state": (WIDTH, 3 * WIDTH)}
    shapes["out"] = (WIDTH, characters)
    keys = jax.random.split(key, len(shapes))
    pairs = zip(keys, shapes.items(), strict=True)
    return {name: (jax.random.normal(k, shape) / shape[0] ** 0.5).astype(dtype) for k, (name, shape) in pairs}


def loss_fn(params, text):
    """Return the mean cross entropy, in nats a character, of a gated recurrent network's predictions."""
    params = jax.tree.map(lambda p: p.astype(jnp.float32), params)

    def cell(h, x):
        from_x, from_h = jnp.split(x, 3, -1), jnp.split(h @ params["state"], 3, -1)
        keep, reset = jax.nn.sigmoid(from_x[0] + from_h[0] + 1), jax.nn.sigmoid(from_x[1] + from_h[1])
        h = keep * h + (1 - keep) * jnp.tanh(from_x[2] + reset * from_h[2])
        return h, h

    x = params["embed"][text[:, :-1].T] @ params["in"]
    _, h = jax.lax.scan(cell, jnp.zeros((text.shape[0], WIDTH)), x)
    return optax.softmax_cross_entropy_with_integer_labels(h @ params["out"], text[:, 1:].T).mean()


def train(name, text, characters, steps, seed=0):
    """Return the loss after every step, the bytes a parameter, and the parameters' number."""
    tx, dtype, *_ = RUNS[name]
    params = init(jax.random.key(seed), characters, dtype)
    state = tx.init(params)

    @jax.jit
    def step(params, state, batch):
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    rng, losses = np.random.default_rng(seed), []
    for _ in tqdm(range(steps), desc=f"{name:>30}", unit="step"):
        starts = rng.integers(len(text) - LENGTH - 1, size=(ROWS, 1))
        params, state, loss = step(params, state, text[starts + np.arange(LENGTH + 1)])
        losses.append(loss)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    trees = {
        "parameters": params,
        "low halves": getattr(state, "low", ()),
        "nu": (optax.tree.get(state, "nu"), optax.tree.get(state, "scales", ())),
        "gradients": params,  # they have the parameters' dtype
    }
    return np.array(losses), {part: sum(x.nbytes for x in jax.tree.leaves(tree)) / size for part, tree in trees.items()}


def draw(curves, sizes):
    layout = [["losses", "differences"], ["bytes", "bytes"]]
    figure, panels = plt.subplot_mosaic(layout, figsize=(8.5, 6), layout="constrained")
    window = min(20, len(curves["float32"]))
    x = np.arange(window, len(curves["float32"]) + 1)
    for name, losses in curves.items():
        _, _, color, line = RUNS[name]
        for panel, series in (("losses", losses), ("differences", 1000 * (losses - curves["float32"]))):
            smooth = np.convolve(series, np.ones(window) / window, mode="valid")
            panels[panel].plot(x, smooth, color=color, linestyle=line, label=name, linewidth=1.6)
    panels["losses"].set(xlabel="step", ylabel="training loss, nats a character")
    panels["losses"].legend(frameon=False)
    panels["differences"].set(xlabel="step", ylabel="difference to float32, 1/1000 nat")

    names, ends, ax = list(sizes), np.zeros(len(sizes)), panels["bytes"]
    for part, color in PARTS.items():
        widths = np.array([sizes[name][part] for name in names])
        ax.barh(names, widths, left=ends, color=color, label=part, edgecolor="white")
        for y, (start, width) in enumerate(zip(ends, widths, strict=True)):
            if width:
                ax.text(start + width / 2, y, f"{width:.2g}", ha="center", va="center", color=INK[part])
        ends += widths
    ax.invert_yaxis()
    ax.set(xlabel="bytes a parameter", xlim=(0, 12.5))
    ax.legend(frameon=False, loc="lower right")
    for ax in panels.values():
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"A character RNN on Python's manual, means of {window} steps, and where its memory goes")
    return figure


def main():
    args = recording.parser(__doc__).parse_args()

    text, characters = read()
    curves, sizes = {}, {}
    for name in list(RUNS)[:2] if args.quick else RUNS:
        curves[name], sizes[name] = train(name, text, characters, 20 if args.quick else 400)

    print(f"\n{'':<32} {'loss':>7} {'parameters':>11} {'low halves':>11} {'nu':>5} {'together':>9}   bytes a parameter")
    for name, parts in sizes.items():
        parts = [parts[part] for part in ("parameters", "low halves", "nu")]
        cells = "".join(f"{x:>{w}.3g}" for x, w in zip([*parts, sum(parts)], (12, 12, 6, 10), strict=True))
        print(f"{name:<32} {curves[name][-50:].mean():>7.4f}{cells}")

    recording.draw(draw(curves, sizes), "low_memory", args.record)


if __name__ == "__main__":
    main()
