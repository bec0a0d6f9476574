"""The tasks that are trained: a classifier of handwritten digits, two sizes, and a transformer on text.

A task is a pair of functions, `init(key)` and `loss(params, batch)`, and one that draws batches. All are small enough
for two CPU cores and need no download: the digits come with scikit-learn, the text with Python. The text is Python's
manual, or for the larger transformer the manual and the sources of the standard library.
"""

import collections
import functools
import pathlib
import re
import sysconfig
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Task(NamedTuple):
    init: Any  # key -> params
    loss: Any  # params, batch -> mean cross entropy
    batch: Any  # key -> a batch of the training part
    held_out: Any  # a batch that is not trained on


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1).mean()


@functools.cache
def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    return jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order], jnp.int32)


def glorot(key, shape):
    return jax.random.normal(key, shape, jnp.float32) / float(np.sqrt(np.prod(shape[:-1])))


def digits_task(init, logits):
    images, labels = digits()
    train = 1400

    def batch(key):
        rows = jax.random.randint(key, (64,), 0, train)
        return images[rows], labels[rows]

    return Task(init, lambda p, b: cross_entropy(logits(p, b[0]), b[1]), batch, (images[train:], labels[train:]))


def mlp():
    """64-64-64-10: 9,000 parameters."""

    def init(key):
        keys = jax.random.split(key, 3)
        sizes = ((64, 64), (64, 64), (64, 10))
        return {
            f"layer{i}": {"w": glorot(k, size), "b": jnp.zeros(size[1], jnp.float32)}
            for i, (k, size) in enumerate(zip(keys, sizes, strict=True))
        }

    def logits(p, x):
        x = jax.nn.relu(x @ p["layer0"]["w"] + p["layer0"]["b"])
        x = jax.nn.relu(x @ p["layer1"]["w"] + p["layer1"]["b"])
        return x @ p["layer2"]["w"] + p["layer2"]["b"]

    return digits_task(init, logits)


def cnn():
    """Two convolutions and two dense layers: 38,000 parameters."""

    def init(key):
        shapes = {"conv0": (3, 3, 1, 16), "conv1": (3, 3, 16, 32), "dense0": (512, 64), "dense1": (64, 10)}
        keys = jax.random.split(key, len(shapes))
        return {
            name: {"w": glorot(k, shape), "b": jnp.zeros(shape[-1], jnp.float32)}
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    def logits(p, x):
        x = x.reshape(-1, 8, 8, 1)
        for name in ("conv0", "conv1"):  # a convolution as nine shifts, which a CPU multiplies faster in a loop
            padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            shifts = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
            weights = p[name]["w"].reshape(-1, p[name]["w"].shape[-1])
            x = jax.nn.relu(jnp.concatenate(shifts, -1) @ weights + p[name]["b"])
        x = x.reshape(-1, 4, 2, 4, 2, 32).max((2, 4)).reshape(-1, 512)
        x = jax.nn.relu(x @ p["dense0"]["w"] + p["dense0"]["b"])
        return x @ p["dense1"]["w"] + p["dense1"]["b"]

    return digits_task(init, logits)


def manual():
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


NOT_READ = {"site-packages", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "encodings"}  # tests, data, tables


def sources():
    """Return the standard library's sources by path, without those that were written when Python was built."""
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    found = {path.relative_to(library): path for path in library.rglob("*.py")}
    kept = [name for name in found if not NOT_READ & set(name.parts) and not name.name.startswith("_sysconfigdata")]
    return {name.as_posix(): found[name].read_text(encoding="utf-8") for name in sorted(kept)}


def manual_and_sources():
    return "\n".join([manual(), *sources().values()])


@functools.cache
def words(size, text=manual):
    """A text as numbers of its most frequent words; 0 for all others."""
    tokens = re.findall(r"\w+|[^\w\s]", text())
    counts = collections.Counter(tokens)
    common = sorted(sorted(counts, key=lambda word: (-counts[word], word))[: size - 1])
    numbers = {word: i + 1 for i, word in enumerate(common)}
    return jnp.asarray([numbers.get(word, 0) for word in tokens], jnp.int32)


def transformer(size=1000, width=64, layers=2, length=16, rows=8, text=manual):
    """Two layers of width 64 over 1,000 words: 163,000 parameters, the embeddings among them rarely touched."""
    text = words(size, text)
    train = int(len(text) * 0.9)

    def init(key):
        keys = iter(jax.random.split(key, 2 + 4 * layers))
        block = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
        return {
            "embedding": jax.random.normal(next(keys), (size, width), jnp.float32) / (2 * width**0.5),
            "position": jax.random.normal(next(keys), (length, width), jnp.float32) / (2 * width**0.5),
            "blocks": [{name: glorot(next(keys), shape) for name, shape in block.items()} for _ in range(layers)],
        }

    def normed(x):
        return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)

    def logits(p, tokens):
        x = p["embedding"][tokens] + p["position"]
        mask = jnp.tril(jnp.ones((length, length), bool))
        for block in p["blocks"]:
            q, k, v = jnp.split((normed(x) @ block["qkv"]).reshape(*x.shape[:2], 4, -1).swapaxes(1, 2), 3, -1)
            scores = jnp.where(mask, q @ k.swapaxes(2, 3) / float(q.shape[-1]) ** 0.5, -1e9)
            x = x + (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(x.shape) @ block["out"]
            x = x + jax.nn.gelu(normed(x) @ block["up"]) @ block["down"]
        return normed(x) @ p["embedding"].T

    def cut(starts):
        return text[starts[:, None] + jnp.arange(length + 1)]

    def loss(p, tokens):
        return cross_entropy(logits(p, tokens[:, :-1]), tokens[:, 1:])

    held_out = cut(jnp.linspace(train, len(text) - length - 1, 128).astype(jnp.int32))
    return Task(init, loss, lambda key: cut(jax.random.randint(key, (rows,), 0, train - length - 1)), held_out)
