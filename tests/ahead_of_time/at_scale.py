"""Compile the update of an 8-billion-parameter transformer for pods that are not there, by shapes alone.

    python tests/ahead_of_time/at_scale.py v5e
    python tests/ahead_of_time/at_scale.py v5p
    python tests/ahead_of_time/at_scale.py h100
    python tests/ahead_of_time/at_scale.py tables

The first three print one JSON object a line, for each optimizer: bytes of parameters and state on a device, bytes of
temporaries, bytes that a step reads from and writes to the device's memory, and collectives; at_scale.jsonl
beside this file has them. `tables` needs no compiler: it prints the tables of docs/scaling.md, of these results and of
the bytes of parameters and state of 8, 70 and 405 billion parameters. README.md beside this file says what to install.
"""

import argparse
import json
import math
import os
import pathlib
import re
from typing import Any, NamedTuple

import compiled

GIB, MIB = 2**30, 2**20
RESULTS = pathlib.Path(__file__).parent / "at_scale.jsonl"
MESHES = {"v5e": ("v5e:16x16", (32, 8)), "v5p": ("v5p:8x8x16", (128, 8)), "h100": ("1x1x8", (8, 1))}


class Model(NamedTuple):
    """The sizes of a decoder of the Llama 3 family (arXiv 2407.21783, table 3; the vocabulary has 128,256 tokens)."""

    layers: int
    width: int
    hidden: int
    keys: int = 1024  # 8 heads of 128
    tokens: int = 128_256


MODELS = {"8B": Model(32, 4096, 14_336), "70B": Model(80, 8192, 28_672), "405B": Model(126, 16_384, 53_248)}


def shapes(model):
    """Return the shape and the axes of each parameter, by its path."""
    rows, columns, vector = ("fsdp", "tensor"), ("tensor", "fsdp"), (None,)
    layer = {
        "query": ((model.width, model.width), rows),
        "key": ((model.width, model.keys), rows),
        "value": ((model.width, model.keys), rows),
        "out": ((model.width, model.width), columns),
        "gate": ((model.width, model.hidden), rows),
        "up": ((model.width, model.hidden), rows),
        "down": ((model.hidden, model.width), columns),
        "norm_before_attention": ((model.width,), vector),
        "norm_before_mlp": ((model.width,), vector),
    }
    whole = {
        "embedding": ((model.tokens, model.width), columns),
        "norm": ((model.width,), vector),
        "head": ((model.width, model.tokens), rows),
    }
    return whole | {f"layer_{i}": layer for i in range(model.layers)}


def parameters(model, dtype, mesh=None):
    """Return the parameters as shapes, with shardings if there is a mesh."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    def leaf(one):
        sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec(*one[1]))
        return jax.ShapeDtypeStruct(one[0], dtype, sharding=sharding)

    return jax.tree.map(leaf, shapes(model), is_leaf=lambda node: isinstance(node, tuple))


def cases():
    """Name the optimizers of the tables: the transformation, and the dtype of parameters and gradients."""
    import jax.numpy as jnp
    import optax

    from rmsprop_optax import rmsprop
    from rmsprop_optax.compression import BFloat16, RmsByte, compressed, with_master_weights

    byte = compressed(rmsprop(1e-3), nu=RmsByte())
    f32, bf16 = jnp.float32, jnp.bfloat16
    return {
        "optax.rmsprop": (optax.rmsprop(1e-3), f32),
        "AdamW": (optax.adamw(1e-3), f32),
        "RMSprop, float32": (rmsprop(1e-3), f32),
        "RMSprop, bfloat16": (compressed(rmsprop(1e-3), nu=BFloat16()), f32),
        "RMSprop, one byte": (byte, f32),
        "AdamW, bfloat16 weights": (optax.adamw(1e-3), bf16),
        "RMSprop, float32, bfloat16 weights": (rmsprop(1e-3), bf16),
        "RMSprop, one byte, bfloat16 weights": (byte, bf16),
        "RMSprop, one byte, bfloat16 weights + 16 bits": (with_master_weights(byte), bf16),
        "RMSprop, one byte, bfloat16 weights + 8 bits": (with_master_weights(byte, low_bits=8), bf16),
    }


def measure(tx, dtype, mesh) -> dict[str, Any]:
    """Compile an update of the 8-billion-parameter model, and count."""
    import jax
    import optax

    from rmsprop_optax import sharding

    params = parameters(MODELS["8B"], dtype, mesh)
    state = jax.tree.map(
        lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at),
        jax.eval_shape(tx.init, params),
        sharding.state_shardings(tx, params),
    )

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    program = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()
    memory, text = program.memory_analysis(), program.as_text()
    per_device = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(state))
    return {
        "devices": mesh.size,
        "state bytes": per_device,
        "parameter and state bytes": memory.alias_size_in_bytes,
        "temporary bytes": memory.temp_size_in_bytes,
        "traffic bytes": traffic(text),
        "least traffic bytes": least(params, state),
        "collectives": [name for name in compiled.COLLECTIVES if name in text],
    }


def traffic(text) -> int:
    """Return the bytes that a compiled program reads from and writes to a device's memory, off the chip."""
    entry = re.search(r"^ENTRY .*?\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)[1]
    results, total = {}, 0
    for line in entry.splitlines():
        match = re.match(r"\s*(?:ROOT )?(%\S+) = (.*?) ([a-z][\w-]*)\(([^)]*)\)", line)
        name, form, operation, operands = match.groups()
        results[name] = result = arrays(form)
        if operation in (
            "copy-start",
            "slice-start",
        ):  # (to, from, ...) and ((from), to, ...); as much is read as written
            to, source = result[:2] if operation == "copy-start" else result[1::-1]
            total += to.bytes * (to.in_memory + source.in_memory)
        elif operation not in compiled.NO_KERNEL and not operation.endswith("-done"):
            read = [array for operand in set(re.findall(r"%[\w.-]+", operands)) for array in results[operand]]
            total += sum(array.bytes * array.in_memory for array in (*result, *read))
    return total


class Array(NamedTuple):
    bytes: int
    in_memory: bool  # and not on the chip


def arrays(form):
    """Return the arrays of a type as XLA writes it, such as `(u8[512,8192]{1,0:T(32,128)S(1)}, f32[])`."""
    found = re.findall(r"[a-z]+(\d*)\[([\d,]*)\](?:\{([^}]*)\})?", form)
    return [
        Array(int(bits or 8) * math.prod(map(int, filter(None, sizes.split(",")))) // 8, "S(1)" not in layout)
        for bits, sizes, layout in found
    ]


def least(params, state):
    """Return the bytes that a step cannot do without: the gradients once, parameters and state in and out."""
    import jax

    def shard(tree):
        return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))

    return 3 * shard(params) + 2 * shard(state)


def table_of_results():
    """Return rows of Markdown: for each target and optimizer of the committed results, MiB on a device."""
    lines = ["| MiB on a device | state | parameters and state | temporaries | traffic of a step | over the least |"]
    lines.append("|---|---|---|---|---|---|")
    for line in map(json.loads, RESULTS.read_text().splitlines()):
        assert line["collectives"] == []
        numbers = [line[f"{key} bytes"] / MIB for key in ("state", "parameter and state", "temporary", "traffic")]
        over = line["traffic bytes"] / line["least traffic bytes"]
        name = f"{line['target']} x {line['devices']}, {line['case']}"
        lines.append(f"| {name} | " + " | ".join(f"{n:,.0f}" for n in numbers) + f" | {over:.2f} |")
    return "\n".join(lines)


def table_of_models():
    """Return rows of Markdown: bytes a parameter, and GiB of parameters and state for each model."""
    import jax

    lines = ["| | bytes a parameter | " + " | ".join(f"{name}, GiB" for name in MODELS) + " |"]
    lines.append("|---|---|" + "---|" * len(MODELS))
    for name, (tx, dtype) in cases().items():
        counted = []
        for model in MODELS.values():
            params = parameters(model, dtype)
            both = params, jax.eval_shape(tx.init, params)
            size = sum(x.size for x in jax.tree.leaves(params))
            counted.append((size, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(both))))
        size, first = counted[0]
        lines.append(f"| {name} | {first / size:.2f} | " + " | ".join(f"{n / GIB:,.0f}" for _, n in counted) + " |")
    return "\n".join(lines)


def mesh_of(target):
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh

    topology, form = MESHES[target]
    if target == "h100":
        devices = compiled.devices_of("h100", 8)
    else:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    assert len(devices) == math.prod(form), jax.devices()
    return Mesh(np.array(devices).reshape(form), ("fsdp", "tensor"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=(*MESHES, "tables"))
    parser.add_argument("--case", help="one of the optimizers by name; all of them if left out")
    args = parser.parse_args()
    compiled.prepare("h100" if args.target == "h100" else "v5e")
    if args.target == "tables":
        print(table_of_models(), table_of_results(), sep="\n\n")
        return
    if args.target == "v5p":
        os.environ["TPU_ACCELERATOR_TYPE"] = "v5p-2048"
    mesh = mesh_of(args.target)
    for name, (tx, dtype) in cases().items():
        if args.case in (None, name):
            print(json.dumps({"target": args.target, "case": name} | measure(tx, dtype, mesh)), flush=True)


if __name__ == "__main__":
    main()
