"""Eight virtual devices for every test, and today's names in the oldest jax we support."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

collect_ignore_glob = ["benchmarks/*.py", "carried/*.py", "golden/*.py"]  # scripts, whose doctests nobody wrote

if not hasattr(jax, "enable_x64"):  # before jax 0.8
    from jax.experimental import enable_x64

    jax.enable_x64 = enable_x64
    jax.set_mesh = jax.sharding.use_mesh
