"""Save a state that `init` made eagerly, and what `restore` makes of it, in several processes.

Counters are what fails there: one that is an array of its process alone can't be saved by several.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rmsprop_optax import checkpoint, compression, rmsprop


def transformations():
    plain = rmsprop(optax.constant_schedule(0.1), momentum=0.9, bias_correction=True)
    return {"plain": plain, "byte": compression.compressed(plain, nu=compression.RmsByte())}


def main(args):
    jax.distributed.initialize(args.coordinator, args.processes, args.process)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))
    whole = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
    params = {"w": jax.make_array_from_callback(whole.shape, split, lambda index: whole[index])}
    for name, tx in transformations().items():
        with ocp.StandardCheckpointer() as checkpointer:
            first, second = (args.folder / name / part for part in ("first", "second"))
            _, state = jax.jit(tx.update)(params, tx.init(params), params)
            checkpointer.save(first / "made", tx.init(params))
            checkpointer.save(first / "stepped", state)
            checkpointer.wait_until_finished()
            target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
            restored = checkpoint.restore(tx.init(params), checkpointer.restore(first / "stepped", target))
            checkpointer.save(second, restored)
            checkpointer.wait_until_finished()
            equal = jax.jit(lambda x, y: jax.tree.reduce(jnp.logical_and, jax.tree.map(jnp.array_equal, x, y)))
            assert equal(checkpointer.restore(second, target), state), name
    print("saved")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    main(parser.parse_args())
