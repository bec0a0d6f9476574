"""The tables of docs/memory.md, and of compiling in docs/performance.md, are those that the benchmarks measured."""

import json
import pathlib
import re
import sys

import pytest

from rmsprop_optax import compression

ROOT = pathlib.Path(__file__).parent.parent
BENCHMARKS = ROOT / "tests" / "benchmarks"


@pytest.fixture
def benchmark_modules(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("part", ["bytes", "streams", "fewer_bits", "training", "time"])
def test_the_page_shows_what_was_measured(part, benchmark_modules):
    import tables

    page = (ROOT / "docs" / "memory.md").read_text()
    made = tables.TABLES[part](json.loads((BENCHMARKS / "results" / f"{part}.json").read_text()))
    assert made
    for table in made:
        assert f"\n\n{table}\n\n" in page


def test_the_page_of_steps_shows_what_compiling_took(benchmark_modules):
    import tables

    (table,) = tables.compiling(json.loads((BENCHMARKS / "results" / "compile.json").read_text()))
    assert f"\n\n{table}\n\n" in (ROOT / "docs" / "performance.md").read_text()


def test_the_page_says_what_each_public_codec_is_for():
    page = (ROOT / "docs" / "memory.md").read_text()
    table = page.partition("| what | codec | bytes |")[2].partition("\n\n")[0]
    public = {name for name in compression.__all__ if hasattr(getattr(compression, name), "encode")}
    assert set(re.findall(r"`(\w+)\(", table)) - {"rmsprop"} == public - {"Codec"}


def test_bytes_counted_now_are_those_of_the_page(benchmark_modules):
    import storage

    measured = json.loads((BENCHMARKS / "results" / "bytes.json").read_text())["rows"]
    for name, (tx, low) in storage.ours().items():
        assert storage._row(*storage._arrays(tx, low)) == measured[name], name


def test_the_codes_written_anew_are_the_libraries_own(benchmark_modules):
    import codes
    import jax.numpy as jnp
    import numpy as np

    nu = np.random.default_rng(0).lognormal(sigma=4, size=(64, 32)).astype(np.float32) * 1e-6
    flash = pytest.importorskip("flashoptim_jax.quantization")
    theirs = flash.dequantize_variance(flash.quantize_variance(jnp.asarray(nu)))
    np.testing.assert_allclose(codes.CODES["FlashOptim"].through(jnp.asarray(nu), 0, 0), theirs, rtol=1e-5)
    functional = pytest.importorskip("bitsandbytes.functional")
    shipped = functional.create_dynamic_map(signed=True).numpy()
    np.testing.assert_allclose(codes.dynamic_map(), shipped[shipped >= 0], rtol=1e-6)
