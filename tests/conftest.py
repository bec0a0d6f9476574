"""Eight devices, compiled programs that outlast a run, the same examples each time, today's names in the oldest jax."""

import importlib.metadata
import os
import pathlib
import platform
import shutil
import sys

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # set here, it is that of the other processes and runs, too
    versions = (importlib.metadata.version(name) for name in ("jax", "jaxlib"))
    folder = pathlib.Path(__file__).parent.parent / ".cache" / "jax" / "-".join([*versions, platform.node()])
    if folder.exists() and sum(file.stat().st_size for file in folder.iterdir()) > 1e9:
        shutil.rmtree(folder)  # jax removes nothing
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("same", derandomize=True, max_examples=40, deadline=None)
hypothesis.settings.register_profile("search", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("same")


@pytest.fixture
def benchmark_modules(monkeypatch):
    """Let a test import the benchmarks, under names that other tests may need."""
    folder = pathlib.Path(__file__).parent / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    yield
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


def pytest_configure(config):
    """Let an entry that an interrupted run left half written be a program to compile, and no error."""
    config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache:UserWarning")


collect_ignore_glob = [
    "benchmarks/*.py",
    "recorded/*/*.py",
    "keras_suite.py",
    "torch_suite.py",
]  # scripts, whose doctests nobody wrote

if not hasattr(jax, "enable_x64"):  # before jax 0.8
    from jax.experimental import enable_x64

    jax.enable_x64 = enable_x64
    jax.set_mesh = jax.sharding.use_mesh
