"""LightBench's tasks that are formulas: objective, start, difficulties and win condition of each, in jax.numpy.

A task is written here from its equation. Its numbers are those of LightBench 0.1.1, https://pypi.org/project/lightbench;
docs/evidence.md says what differs and which tasks are left out. Elements that do not interact are followed as a sample:
256 of them, evenly spaced, each with the gradient that it has in the whole.
"""

import jax
import jax.numpy as jnp
import numpy as np

FOLLOWED = 256


def rms(x):
    return jnp.sqrt(jnp.mean(jnp.square(x)))


def followed(size):
    """Return which elements are followed: all of few, or evenly spaced ones with the first and the last."""
    return np.linspace(0, size - 1, min(size, FOLLOWED)).round()


def normal(shape, **memory):
    """Start from independent normal numbers; `memory` is numbers to fill arrays of the same shape with."""
    return lambda key, level: (jax.random.normal(key, shape), {k: jnp.full(shape, v) for k, v in memory.items()})


def all_of(times):
    """Start as many normal numbers as the level says, or a multiple."""
    return lambda key, level: (jax.random.normal(key, (times * level,)), {})


def matrix(key, level):
    return jax.random.normal(key, (level, level)), {}


def the_loss(x, memory, loss):
    return loss


def sampled(loss, whole):
    """Give elements that are followed the gradients that they have in a mean over so many."""
    return lambda x, memory, batch: loss(x, memory, batch) * (FOLLOWED / whole)


def whole_loss(whole):
    return lambda x, memory, loss: loss * (whole / FOLLOWED)


def distance(x, memory, loss):
    return rms(x)


def from_target(x, memory, loss):
    return rms(x - memory["target"])


# Functions of two numbers


def at(*point):
    return lambda key, level: (jnp.array(point, jnp.float32), {})


def beale(p, memory=None, batch=None):
    """Beale's function, moved so that its minimum is at 0."""
    x, y = p[0] + 3, p[1] + 0.5
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock(p, memory=None, batch=None):
    """Rosenbrock's valley with 1 in place of 100; the minimum is at (1, 1)."""
    return (1 - p[0]) ** 2 + (p[1] - p[0] ** 2) ** 2


def rastrigin(p, memory=None, batch=None):
    return jnp.mean(p**2 + 10 * (1 - jnp.cos(2 * np.pi * p)))


def saddle(p, memory, batch=None):
    """x^k + y^k + 10 with odd k: flat at 0, and below 0.1 only beyond."""
    return sum(x * jnp.abs(x) ** (2 * memory["level"]) for x in p) + 10  # level 1 is x^3


def plateau(p, memory, batch=None):
    """A logistic step between a basin around 0 and a plateau, steeper with the level; the minimum is 0."""
    s = memory["level"]
    return 1 / (1 + jnp.exp(-s * (jnp.sum(p**2) - 1))) - 1 / (1 + jnp.exp(s))


# Sums over independent elements: `size` is the whole, of which some are followed


def sized(**memory):
    """Start the followed elements of so many as the level says; `memory` makes numbers from their positions."""

    def start(key, level):
        i = jnp.asarray(followed(level), jnp.float32)
        made = {name: make(i, level) for name, make in memory.items()}
        return jax.random.normal(key, i.shape), {"size": jnp.float32(level), **made}

    return start


def ramp(i, size):
    """Return 1, 2, ..., n over their sum."""
    return (i + 1) / (size * (size + 1) / 2)


def unit(i, size):
    """Return 0, 1, ..., n - 1 over their Euclidean norm."""
    return i / np.sqrt((size - 1) * size * (2 * size - 1) / 6)


def share(i, size):
    return (i + 1) / (size + 1)


def decades(key, level, size=512):
    """Start scales from 10**-level to 10**level."""
    return jax.random.normal(key, (size,)), {"scale": jnp.logspace(-level, level, size)}


def scaled_start(key, level):
    x, memory = decades(key, level)
    return x * memory["scale"], {}


def layers(factors):
    """Start three layers, each times a power of the level."""

    def start(key, level):
        keys = jax.random.split(key, 3)
        return [float(level) ** f * jax.random.normal(k, (FOLLOWED,)) for k, f in zip(keys, factors, strict=True)], {}

    return start


def layer_loss(factors):
    """Return the mean square of all layers, each times a power of the level."""
    return lambda x, memory, batch: (
        sum(memory["level"] ** f * jnp.mean(p**2) for p, f in zip(x, factors, strict=True)) / 3
    )


def conditioned(x, memory, batch):
    return jnp.mean(memory["scale"] * x**2)


def square(x, memory, loss):
    """The mean square, which is not what is trained on."""
    return jnp.mean(x**2)


def logarithm(x, memory, batch):
    return jnp.mean(jnp.log1p(x**2))


def bent(x, memory, batch):
    """A parabola on the left of 0, a line on the right."""
    return jnp.mean(jnp.where(x < 0, x**2, 2 * x))


def vanishing(x, memory, batch):
    """exp(-s |x|): largest at 0, where LightBench wants it."""
    return jnp.mean(jnp.exp(memory["level"] * jnp.abs(x)))


def scaled(power):
    return lambda x, memory, batch: jnp.sum(memory["scale"] * power(x))


def mean_square(x, memory, batch):
    return jnp.sum((x - memory["target"]) ** 2) / memory["size"]


def masked_start(key, level, size=2**16):
    """Follow those elements that do not start, and stay, at 0."""
    count = max(1, round(size * level))
    return jax.random.normal(key, (min(count, FOLLOWED),)), {"share": jnp.float32(count / size)}


def mean_of_all(x, memory, batch):
    """The mean of 2**16 squares, all others being 0."""
    return jnp.sum(x**2) / 2**16


def share_of_square(x, memory, loss):
    return memory["share"] * jnp.mean(x**2)


def waves(x, memory, batch):
    """A square with standing waves."""
    wave = jnp.sin(10 * x) * jnp.cos(0.1 * (memory["step"] + 1))
    return jnp.mean(x**2 + memory["level"] * wave)


def swinging(x, memory, batch):
    """A square plus a slope that swings."""
    swing = jnp.sin((memory["step"] + 1) * (np.pi * 1.1) / memory["level"])
    return jnp.mean(x**2) + swing * jnp.mean(x)


def moving(x, memory, batch):
    """A square around a target that swings."""
    phase = jnp.asarray(np.linspace(0, 2 * np.pi, FOLLOWED), jnp.float32)
    return jnp.mean((x - jnp.sin(phase + (memory["step"] + 1) * 1.1 / memory["level"])) ** 2)


# Elements that interact


def largest(x, memory, batch):
    """The largest square: only one element has a gradient."""
    return jnp.max(x**2)


def norm(x, memory, batch):
    """The distance, whose gradient has length 1 everywhere; LightBench adds former distances, without gradients."""
    squares = jnp.sum((x - memory["target"]) ** 2)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)  # PyTorch's gradient at 0 is 0


def rounded(x, bins):
    """Round to a grid of so many bins between plus and minus the largest size."""
    grid = jnp.max(jnp.abs(x)) / (bins / 2)
    return jnp.round(x / grid) * grid


def rounded_gradient(x, memory, batch):
    return jnp.mean(x * jax.lax.stop_gradient(rounded(x, memory["level"])))


def rounded_weights(x, memory, batch):
    """The square of rounded weights: rounding has derivative 0, so this has no gradient."""
    grid = jax.lax.stop_gradient(jnp.max(jnp.abs(x))) / (memory["level"] / 2)
    return jnp.mean((jnp.round(x / grid) * grid) ** 2)


def minimax(x, memory, batch):
    """(s - c)^2 with s = |p + q|^2 / 2 and a random c: nothing depends on p - q."""
    p, q = jnp.split(x, 2)
    n = x.size / 2
    c = batch["z"][0] * jnp.sqrt((n + 1) * (2 * n + 1) / (96 * n))  # the mean of 16 x n cumulative sums
    return (p @ q + (p @ p + q @ q) / 2 - c) ** 2


def cumulative(x, memory, batch):
    """Learn cumulative sums with a matrix: the solution has ones on and above the diagonal."""
    inputs = batch["z"].astype(jnp.float32).reshape(16, -1)
    return jnp.mean((inputs @ x - jnp.cumsum(inputs, 1)) ** 2)


def beyond_the_sign(x, memory, loss):
    """LightBench adds the solution where it should subtract it."""
    return rms(x + jnp.triu(jnp.ones_like(x)))


def non_markovian_start(key, level):
    x, target = jax.random.normal(key, (2, 256))
    return x, {"target": target}


def constrained(penalty):
    """(x - 2)^2 with a penalty on x > 1."""
    return lambda x, memory, batch: jnp.mean((x - 2) ** 2 + memory["level"] * penalty(x))


def over(x):
    return jnp.maximum(x - 1, 0)


def barrier(x):
    """The logarithm of |1 - x|. That of 1 - x, as in LightBench, ends runs that step over 1; gradients are equal."""
    return jnp.log(jnp.abs(1 - x))


def off_by(x, memory, loss):
    return jnp.max(jnp.abs(x - 1))


# Gradients that are noisy, masked or late


def gaussian(size):
    """Draw normal numbers in half precision, which keeps 50,000 batches small."""

    def noise(rng, steps, level):
        count = size(level) if callable(size) else size
        return {"z": rng.standard_normal((steps, count), np.float32).astype(np.float16)}

    return noise


def uniform(size=None):
    """Draw shares, as many as the level says unless given."""

    def noise(rng, steps, level):
        return {"u": rng.random((steps, min(size or int(level), FOLLOWED)), np.float32).astype(np.float16)}

    return noise


def cauchy(rng, steps, level):
    return {"z": np.clip(rng.standard_cauchy((steps, FOLLOWED)), -6e4, 6e4).astype(np.float16)}


def walk(rng, steps, level):
    """Draw random walks over the elements, of unit variance at the end."""
    z = rng.standard_normal((steps, FOLLOWED), np.float32) / np.sqrt(FOLLOWED)
    return {"z": np.cumsum(z, 1, out=z).astype(np.float16)}


def batch_noise(rng, steps, level):
    return gaussian(FOLLOWED)(rng, steps, level) | {"u": rng.random(steps, np.float32)}


def batch_size(x, memory, batch):
    """A square around noise as large as x, over the root of a batch size drawn anew for each step."""
    z = batch["z"].astype(jnp.float32)
    root = memory["level"] ** (batch["u"] / 4)
    noise = z * jax.lax.stop_gradient(jnp.linalg.norm(x)) / (jnp.linalg.norm(z) + 1e-6) / root
    return jnp.sum((x + noise) ** 2) / 1024


def noisy(x, memory, batch):
    return jnp.sum((x + batch["z"].astype(jnp.float32) / memory["level"]) ** 2) / 4096


def walking(x, memory, batch):
    """Noise that is a random walk over the steps, over the root of their number."""
    total = memory["total"] + batch["z"].astype(jnp.float32)
    return jnp.sum((x + total / jnp.sqrt(memory["step"] + 1) / memory["level"]) ** 2) / 4096


def walked(memory, x, batch):
    return {"total": memory["total"] + batch["z"].astype(jnp.float32)}


def flipped(x, memory, batch):
    """A mean of squares, each negative with a probability of 1/(n+1), 2/(n+1), ...: over a half for half of them."""
    return jnp.sum(jnp.where(batch["u"] < memory["share"], -(x**2), x**2)) / memory["size"]


def outliers(x, memory, batch):
    return jnp.mean(jnp.where(batch["u"] < share(jnp.arange(128.0), 128), memory["level"], 1) * x**2)


def mask(memory, batch):
    return (batch["u"] < memory["level"]).astype(jnp.float32)


def masked(memory, x, batch):
    return {"mask": mask(memory, batch)}


def sparse(x, memory, batch):
    """A mean of 2**16 squares of which only those in this step's mask, or the last one's, count."""
    return jnp.sum(jnp.maximum(mask(memory, batch), memory["mask"]) * x**2) / 2**16


def expected_loss(x, memory, loss):
    """The loss in the mean over masks."""
    return jnp.mean(x**2) * (1 - (1 - memory["level"]) ** 2)


def late_start(key, level, size=16):
    x = jax.random.normal(key, (int(level), size))
    return x, {"old": x, "period": jnp.arange(1.0, level + 1)[:, None]}


def old(memory, x):
    """Return each row as it was when the gradient due was taken."""
    return jnp.where(memory["step"] % memory["period"] == 0, x, memory["old"])


def aged(memory, x, batch):
    return {"old": old(memory, x)}


def late(x, memory, batch):
    """Row k has a gradient at the steps that are multiples of k: the one from k - 1 steps before."""
    then = jax.lax.stop_gradient(old(memory, x))
    value = then**2 + 2 * then * (x - jax.lax.stop_gradient(x))
    due = (memory["step"] + 1) % memory["period"] == 0
    return jnp.sum(jnp.where(due, value, 0)) / 256 / memory["level"]


def late_score(x, memory, loss):
    return loss * 256 / x.shape[1]
