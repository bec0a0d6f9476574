"""What a sweep costs: 64 learning rates x 300 steps of a digits MLP, compared with the same runs one by one.

    python tests/benchmarks/sweep.py

Each method trains 64-64-10 perceptrons with RMSprop on the same batches of 64. The methods take turns, so that other
load on the machine affects all of them; the table has medians of wall-clock time and of processor time. The two methods
that loop over steps in Python are slow and are timed once.
"""

import argparse
import functools
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from tqdm import tqdm

from rmsprop_optax import rmsprop, sweep

RATES, STEPS = np.geomspace(1e-4, 1e-1, 64), 300
IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES / 16).astype(np.float32)
CHOSEN = np.random.default_rng(0).integers(len(IMAGES), size=(STEPS, 64)).astype(np.int32)
X, Y = jnp.asarray(IMAGES), jnp.asarray(LABELS, jnp.int32)
TRACES = []


def start():
    rng = np.random.default_rng(0)
    weights = {"hidden": rng.normal(size=(64, 64)) / 8, "out": rng.normal(size=(64, 10)) / 8}
    biases = {"hidden_bias": np.zeros(64), "out_bias": np.zeros(10)}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), weights | biases)


def loss_fn(params, chosen):
    TRACES.append(1)
    hidden = jax.nn.relu(X[chosen] @ params["hidden"] + params["hidden_bias"])
    logits = hidden @ params["out"] + params["out_bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, Y[chosen]).mean()


@jax.jit
def one_run(rate, params, batches):
    """A whole run in one program, as one writes it who knows how."""

    def step(carry, batch):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = rmsprop(rate).update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    return jax.lax.scan(step, (params, rmsprop(rate).init(params)), batches)[1]


def in_a_row():
    params, batches = start(), jnp.asarray(CHOSEN)
    return np.stack([np.asarray(one_run(jnp.float32(rate), params, batches)) for rate in RATES])


def swept(at_once=None):
    return sweep.learning_rates(rmsprop, loss_fn, start(), CHOSEN, RATES, diverged_above=np.inf, at_once=at_once).losses


@functools.partial(jax.jit, donate_argnums=(1, 2))
def one_step(rate, params, state, batch):
    loss, grads = jax.value_and_grad(loss_fn)(params, batch)
    updates, state = rmsprop(rate).update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


def step_by_step():
    losses = []
    for rate in RATES:
        params, rate = start(), jnp.float32(rate)
        state = rmsprop(rate).init(params)
        for batch in CHOSEN:
            params, state, loss = one_step(rate, params, state, batch)
            losses.append(loss)
    return np.asarray(jax.block_until_ready(losses)).reshape(len(RATES), STEPS)


def with_torch():
    """The same in PyTorch, in a loop over rates and steps; its alpha is decay, its eps stands outside the root."""
    import torch

    torch.set_num_threads(1)  # tensors this small are faster so

    images, labels = torch.from_numpy(IMAGES), torch.from_numpy(LABELS)
    weights, losses = start(), []
    for rate in RATES:
        params = {name: torch.tensor(np.asarray(x), requires_grad=True) for name, x in weights.items()}
        optimizer = torch.optim.RMSprop(params.values(), lr=float(rate), alpha=0.9, eps=1e-8)
        for batch in CHOSEN:
            optimizer.zero_grad()
            hidden = torch.relu(images[batch] @ params["hidden"] + params["hidden_bias"])
            logits = hidden @ params["out"] + params["out_bias"]
            loss = torch.nn.functional.cross_entropy(logits, labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return np.reshape(losses, (len(RATES), STEPS))


WAYS = {
    "64 jitted runs in a row": in_a_row,
    "sweep, default: one at once": swept,
    "sweep, 8 at once": functools.partial(swept, 8),
    "sweep, all 64 at once": functools.partial(swept, 64),
    "a loop over a jitted step": step_by_step,
    "a loop over PyTorch": with_torch,
}
SLOW = ("a loop over a jitted step", "a loop over PyTorch")


def timed(way):
    """Return the wall-clock seconds, the processor seconds and the losses."""
    wall, processor = time.perf_counter(), time.process_time()
    losses = way()
    return time.perf_counter() - wall, time.process_time() - processor, losses


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-torch", action="store_true")
    args = parser.parse_args()

    ways = [name for name in WAYS if not args.no_torch or "PyTorch" not in name]
    rounds = [ways, ways, *[[name for name in ways if name not in SLOW]] * (args.repeats - 1)]  # the first compiles
    losses, times, traces = {}, {name: [] for name in ways}, {}
    with tqdm(total=sum(map(len, rounds)), unit="pass") as bar:
        for names in rounds:
            for name in names:
                TRACES.clear()
                *seconds, losses[name] = timed(WAYS[name])
                times[name].append(seconds)
                traces.setdefault(name, []).append(len(TRACES))
                bar.update()

    reference = losses["64 jitted runs in a row"]
    for name, found in losses.items():  # early on, before rounding is amplified
        np.testing.assert_allclose(found[:32, :20], reference[:32, :20], rtol=1e-2, err_msg=name)
        assert not any(traces[name][1:]), f"{name} compiled again"
    device = jax.devices()[0].device_kind
    print(f"{device}, jax {jax.__version__}, Python {platform.python_version()}: {len(RATES)} rates x {STEPS} steps")
    print("| method | first call, s | later calls, s | processor, s | relative to 64 in a row | processor, relative |")
    print("|---" * 6 + "|")
    base = np.array(times["64 jitted runs in a row"])
    for name, seconds in times.items():
        first, later = seconds[0], np.array(seconds[1:])
        wall, processor = np.median(later, 0)
        ratios = np.median(later / base[1 : 1 + len(later)], 0)
        print(f"| {name} | {first[0]:.2f} | {wall:.2f} | {processor:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
