r"""A transformer on all devices of several processes: split over them, saved while it trains, resumed on any number.

A character model of Python's manual, which ships with CPython. Parameters and optimizer state are split over all
devices (fully sharded data parallelism): XLA gathers a layer's weights where they are used, and each device updates its
own part. Checkpoints hold whole arrays, so a run continues from the newest with any number of processes or devices.
They are in --folder, which all processes must see. The text of a step follows from its number: nothing else is saved.

One process, with the devices it has; 40 seconds of processor time:

    python examples/multi_host.py

Slurm, with a task for each GPU, as JAX expects: it asks Slurm for the others and takes the GPU of its number on the
node. A task that dies ends all of them:

    srun --ntasks-per-node=8 --gpus-per-node=8 --kill-on-bad-exit=1 \
        python examples/multi_host.py --distributed --folder /scratch/run

A TPU pod, with a process on each host, which JAX asks for the others:

    gcloud compute tpus tpu-vm ssh NAME --worker=all \
        --command="python examples/multi_host.py --distributed --folder gs://bucket/run"

By hand, here two processes on one machine's CPU, with two devices each. Without the second variable, eager reductions
of several CPU processes can wait for each other for ever:

    export JAX_PLATFORMS=cpu JAX_CPU_ENABLE_ASYNC_DISPATCH=false XLA_FLAGS=--xla_force_host_platform_device_count=2
    for i in 0 1; do
        python examples/multi_host.py --coordinator localhost:9911 --processes 2 --process $i &
    done; wait
"""

import argparse
import os
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import RmsByte, RmsNibble, compressed
from rmsprop_optax.sharding import state_shardings

TEXT = "\n\n".join(text for _, text in sorted(topics.items()))
CHARACTERS = sorted(set(TEXT))
CODES = np.searchsorted(CHARACTERS, list(TEXT)).astype(np.int32)


def batch(step, args, rows):
    """Return the text of a step; each process reads the rows of its own devices."""
    starts = np.random.default_rng([args.seed, step]).integers(len(CODES) - args.length, size=(args.batch, 1))
    columns = np.arange(args.length + 1)
    return jax.make_array_from_callback(
        (args.batch, len(columns)), rows, lambda index: CODES[starts[index[0]] + columns[index[1]]]
    )


def init(key, args):
    width, layers = args.width, args.layers
    shapes = {
        "embed": (len(CHARACTERS), width),
        "position": (args.length, width),
        "layers": {
            "qkv": (layers, width, 3 * width),
            "mix": (layers, width, width),
            "up": (layers, width, 4 * width),
            "down": (layers, 4 * width, width),
        },
        "out": (width, len(CHARACTERS)),
    }
    shapes, tree = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    keys = jax.random.split(key, len(shapes))
    return tree.unflatten([jax.random.normal(k, s) / s[-2] ** 0.5 for k, s in zip(keys, shapes, strict=True)])


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def loss_fn(params, text, heads, rows):
    """Return the mean surprise, in nats, of each next character; text has shape (batch, length + 1)."""

    def layer(x, weights):
        q, k, v = (y.reshape(*y.shape[:2], heads, -1) for y in jnp.split(norm(x) @ weights["qkv"], 3, axis=-1))
        x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape) @ weights["mix"]
        x = x + jax.nn.gelu(norm(x) @ weights["up"]) @ weights["down"]
        return jax.lax.with_sharding_constraint(x, rows), None  # so that weights are gathered, not activations

    x = jax.lax.with_sharding_constraint(params["embed"][text[:, :-1]] + params["position"], rows)
    x, _ = jax.lax.scan(layer, x, params["layers"])
    logits = norm(x) @ params["out"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:]).mean()


def split(shape, mesh):
    """Return the sharding of a parameter: the longest axis that the devices divide is split over them."""
    axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
    longest = max(axes, key=lambda axis: shape[axis], default=None)
    return NamedSharding(mesh, P(*("data" if axis == longest else None for axis in range(len(shape)))))


def optimizer(args):
    schedule = optax.cosine_decay_schedule(args.learning_rate, args.steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), rmsprop(schedule, decay=0.95))
    codecs = {"byte": RmsByte(), "nibble": RmsNibble()}
    return tx if args.state == "plain" else compressed(tx, nu=codecs[args.state])


def train(args):
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, P("data"))
    tx = optimizer(args)

    def begin():
        params = init(jax.random.key(args.seed), args)
        return {"params": params, "state": tx.init(params)}

    shapes = jax.eval_shape(begin)  # nothing is computed, so that a run that is resumed is not made twice
    homes = jax.tree.map(lambda x: split(x.shape, mesh), shapes["params"])
    layout = {"params": homes, "state": state_shardings(tx, shapes["params"], homes)}

    def step(run, text):
        loss, grads = jax.value_and_grad(loss_fn)(run["params"], text, args.heads, rows)
        updates, state = tx.update(grads, run["state"], run["params"])
        return {"params": optax.apply_updates(run["params"], updates), "state": state}, loss

    step = jax.jit(step, donate_argnums=0, out_shardings=(layout, NamedSharding(mesh, P())))

    options = ocp.CheckpointManagerOptions(save_interval_steps=args.save_every, max_to_keep=args.keep)
    folder = args.folder if "://" in args.folder else os.path.abspath(args.folder)
    with ocp.CheckpointManager(folder, options=options) as manager:  # saves while training goes on; leaving it waits
        first = manager.latest_step() or 0
        if first:
            target = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layout)
            run = manager.restore(first, args=ocp.args.StandardRestore(target))
        else:
            run = jax.jit(begin, out_shardings=layout)()

        loss = None
        bar = tqdm(range(first, args.steps), initial=first, total=args.steps, disable=jax.process_index() != 0)
        for i in bar:
            run, loss = step(run, batch(i, args, rows))
            manager.save(i + 1, args=ocp.args.StandardSave(run), force=i + 1 == args.steps)
            if i % 20 == 0:
                bar.set_postfix(loss=f"{loss:.2f}")

    if jax.process_index() == 0:
        devices = f"{jax.device_count()} devices of {jax.process_count()} processes"
        last = "nothing left to do" if loss is None else f"loss {loss:.5f} nats a character"
        print(f"steps {first} to {args.steps} on {devices}: {last}; checkpoints in {folder}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument(
        "--state", choices=["plain", "byte", "nibble"], default="plain", help="4 bytes a parameter, 1, or half of one"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=16, help="rows of text, a multiple of the number of devices")
    parser.add_argument("--length", type=int, default=64, help="characters in a row")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="checkpoints", help="where checkpoints are, the same for all processes")
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--keep", type=int, default=2, help="how many of the newest checkpoints to keep")
    parser.add_argument("--distributed", action="store_true", help="ask Slurm or the TPU pod for the other processes")
    parser.add_argument("--coordinator", help="host:port of process 0, where there is no cluster to ask")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int, help="which of them this is, from 0")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.width, args.length = 10, 32, 32

    if args.distributed or args.coordinator:
        jax.distributed.initialize(args.coordinator, args.processes, args.process)  # before anything asks for devices
    if args.batch % jax.device_count():
        parser.error(f"--batch must be a multiple of the {jax.device_count()} devices, got {args.batch}")
    train(args)


if __name__ == "__main__":
    main()
