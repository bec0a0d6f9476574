"""Compile a step whose state waits in the host's memory for four TPU v5e that are not there: python offloaded.py.

Prints one JSON object a line: for each optimizer and number of leaves the mebibytes on a device that the state would
take there, and those of the temporaries of a step that has all of it on the device at once and of one that streams it,
a leaf at a time. README.md beside this file says what to install.
"""

import json

import compiled


def layouts(tx, params):
    """Return the shardings of each leaf's state on the devices and, but for its counters, on the host."""
    import jax

    from rmsprop_optax.sharding import state_shardings

    def on_host(p):
        return state_shardings(tx, p, p.sharding.with_memory_kind("pinned_host"))

    return jax.tree.map(lambda p: state_shardings(tx, p), params), jax.tree.map(on_host, params)


def measure(tx, dtype, devices, leaves, streamed):
    """Compile a step with the state on the host, and count."""
    import jax
    import numpy as np
    import optax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    home = NamedSharding(Mesh(np.array(devices), ("fsdp",)), PartitionSpec("fsdp"))
    params = {f"leaf {i}": jax.ShapeDtypeStruct((4096, 4096), dtype, sharding=home) for i in range(leaves)}
    here, there = layouts(tx, params)
    states = {
        key: jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), jax.eval_shape(tx.init, p), there[key]
        )
        for key, p in params.items()
    }

    def step(params, states, grads):
        params, states, gone = dict(params), dict(states), None
        for key in params:
            if streamed:
                states[key], gone = jax.lax.optimization_barrier((states[key], gone))
            updates, state = tx.update(grads[key], jax.device_put(states[key], here[key]), params[key])
            params[key] = optax.apply_updates(params[key], updates)
            states[key] = gone = jax.device_put(state, there[key])
        return params, states

    homes = jax.tree.map(lambda p: p.sharding, params)
    run = jax.jit(step, donate_argnums=(0, 1), out_shardings=(homes, there))
    memory = run.lower(params, states, params).compile().memory_analysis()
    return memory.host_argument_size_in_bytes / 2**20, memory.temp_size_in_bytes / 2**20


def main():
    compiled.prepare("v5e")
    devices = compiled.devices_of("v5e", 4)
    from rmsprop_optax import rmsprop

    cases = compiled.cases()
    cases["momentum"] = rmsprop(1e-3, momentum=0.9), cases["float32"][1]
    for name in ("float32", "momentum", "byte", "byte, bfloat16 weights + 8"):
        for leaves in (8, 16):
            line = {"case": name, "leaves": leaves}
            for streamed in (False, True):
                line["state MiB"], line["streamed MiB" if streamed else "at once MiB"] = measure(
                    *cases[name], devices, leaves, streamed
                )
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
