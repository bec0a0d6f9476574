"""Compile one training step's update for hardware that is not there, and say what the compiler made of it.

    python tests/ahead_of_time/compiled.py h100
    python tests/ahead_of_time/compiled.py v5e

Prints one JSON object a line, for each case on one device and with its parameters sharded over four: how many kernels
write an array as large as a leaf and how many write less, the bytes of temporaries, and the collectives. README.md
beside this file says what to install.
"""

import argparse
import json
import math
import os
import pathlib
import re
import site

FOLDER = pathlib.Path(__file__).parent
SHAPES = {"a": (4096, 4096), "b": (2048, 8192), "c": (12, 512, 2048)}
SPECS = {"a": ("fsdp", None), "b": (None, "fsdp"), "c": ("fsdp", None, None)}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
    "partition-id-exchange",
)
NO_KERNEL = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "partition-id", "after-all"}


def prepare(target):
    """Set what the compilers read from the environment before jax is imported."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if target == "v5e":
        os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
        os.environ |= {"TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
        return
    nvcc = pathlib.Path(site.getsitepackages()[0]) / "nvidia" / "cuda_nvcc"
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    os.environ["XLA_FLAGS"] = f"--xla_gpu_cuda_data_dir={nvcc} --xla_gpu_autotune_level=0"
    os.environ["PATH"] = f"{nvcc / 'bin'}:{os.environ['PATH']}"


def devices_of(target, number):
    from jax.experimental import topologies

    if target == "v5e":
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[:number]
    config = "".join(line for line in (FOLDER / "h100.txtpb").open() if not line.startswith("#"))
    cards = topologies.get_topology_desc("h100", platform="cuda", topology=f"1x1x{number}", target_config=config)
    return cards.devices


def cases():
    """Name what is compiled: the transformation, and whether parameters and gradients are bfloat16."""
    import jax.numpy as jnp
    import optax

    from rmsprop_optax import rmsprop
    from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble, SignedByte, compressed, with_master_weights

    byte = compressed(rmsprop(1e-3), nu=RmsByte())
    nibble = compressed(rmsprop(1e-3), nu=RmsNibble())
    mean = SignedByte(relative_to="nu")
    return {
        "optax.rmsprop": (optax.rmsprop(1e-3), jnp.float32),
        "float32": (rmsprop(1e-3), jnp.float32),
        "byte": (byte, jnp.float32),
        "bfloat16": (compressed(rmsprop(1e-3), nu=BFloat16()), jnp.float32),
        "byte, momentum byte": (
            compressed(rmsprop(1e-3, momentum=0.9, lr_in_momentum=False), nu=RmsByte(), trace=SignedByte(1.0)),
            jnp.float32,
        ),
        "byte, centered": (compressed(rmsprop(1e-3, centered=True), variance=RmsByte(), mu=mean), jnp.float32),
        "adam in bytes": (compressed(optax.adam(1e-3), nu=RmsByte(), mu=mean), jnp.float32),
        "byte, bfloat16 weights + 16": (with_master_weights(byte), jnp.bfloat16),
        "byte, bfloat16 weights + 8": (with_master_weights(byte, low_bits=8), jnp.bfloat16),
        "byte, bfloat16 weights + 0": (with_master_weights(byte, low_bits=0), jnp.bfloat16),
        "nibble": (nibble, jnp.float32),
        "nibble, centered": (compressed(rmsprop(1e-3, centered=True), variance=RmsNibble(), mu=mean), jnp.float32),
        "nibble, bfloat16 weights + 8": (with_master_weights(nibble, low_bits=8), jnp.bfloat16),
    }


def measure(tx, dtype, devices):
    """Compile an update for the devices, one or four, and count."""
    import jax
    import optax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

    from rmsprop_optax.sharding import state_shardings

    def place(name):
        if len(devices) == 1:
            return SingleDeviceSharding(devices[0])
        import numpy as np

        return NamedSharding(Mesh(np.array(devices), ("fsdp",)), PartitionSpec(*SPECS[name]))

    params = {name: jax.ShapeDtypeStruct(shape, dtype, sharding=place(name)) for name, shape in SHAPES.items()}
    shapes = jax.eval_shape(tx.init, params)
    alone = jax.tree.map(lambda x: SingleDeviceSharding(devices[0]), shapes)
    layout = alone if len(devices) == 1 else state_shardings(tx, params)
    state = jax.tree.map(lambda x, home: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home), shapes, layout)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()
    text = compiled.as_text()
    large, small, largest = kernels(text, min(math.prod(shape) for shape in SHAPES.values()) // len(devices))
    return {
        "devices": len(devices),
        "kernels a leaf": large / len(SHAPES),
        "smaller kernels": small,
        "largest small kernel": largest,
        "temporary bytes": compiled.memory_analysis().temp_size_in_bytes,
        "smallest leaf's bytes": min(math.prod(shape) for shape in SHAPES.values()) // len(devices),
        "collectives": [name for name in COLLECTIVES if name in text],
    }


def kernels(text, leaf):
    """Count the entry computation's instructions that write as much as a leaf, those that write less, and how much."""
    entry = re.search(r"^ENTRY .*?\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)[1]
    large = small = largest = 0
    for line in entry.splitlines():
        match = re.match(r"\s*(?:ROOT )?%\S+ = (.*?) ([a-z][\w-]*)\(", line)
        if match and match[2] not in NO_KERNEL:
            sizes = [
                math.prod(map(int, filter(None, dims.split(",")))) for dims in re.findall(r"\w+\[([\d,]*)\]", match[1])
            ]
            large += max(sizes) >= leaf
            small += max(sizes) < leaf
            largest = max(largest, *(size for size in sizes if max(sizes) < leaf), 0)
    return large, small, largest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("h100", "v5e"))
    args = parser.parse_args()
    prepare(args.target)
    for number in (1, 4):
        devices = devices_of(args.target, number)
        for name, (tx, dtype) in cases().items():
            print(json.dumps({"target": args.target, "case": name} | measure(tx, dtype, devices)), flush=True)


if __name__ == "__main__":
    main()
