"""On an H100 and a TPU v5e: one kernel a leaf, no temporary of a leaf's size, no collective under sharding.

Codes that count from scales, "nibble", need more: several kernels, two moments in memory, collectives of scales.

pytest -m ahead_of_time tests/ahead_of_time
"""

import functools
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys

import compiled
import pytest

pytestmark = pytest.mark.ahead_of_time
COMPILER = {"h100": "jax_plugins.xla_cuda12", "v5e": "libtpu"}
SCRIPT = pathlib.Path(__file__).parent / "compiled.py"


@functools.cache
def found(target):
    """Compile everything for a target, in a process of its own, and return what the compiler made of it."""
    lines = printed(target, SCRIPT, target)
    assert {line["devices"] for line in lines} == {1, 4}
    return lines


def printed(target, *command):
    """Run a script if the compiler for its target is there, and return the JSON objects that it prints."""
    try:
        missing = importlib.util.find_spec(COMPILER[target]) is None
    except ModuleNotFoundError:
        missing = True
    if missing:
        pytest.skip(f"{COMPILER[target]} is not installed: README.md beside this file says how")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("target", COMPILER)
def test_no_collective_under_sharding(target):
    for line in found(target):
        scaled = "nibble" in line["case"] and line["devices"] > 1
        assert line["collectives"] == (["all-reduce"] if scaled else []), line


@pytest.mark.parametrize("target", COMPILER)
def test_no_temporary_of_a_leaf_s_size(target):
    for line in found(target):
        if "nibble" not in line["case"] and (target == "h100" or "weights" not in line["case"]):
            assert line["temporary bytes"] < line["smallest leaf's bytes"] / 8, line


def test_low_halves_need_no_more_temporaries_on_a_tpu_than_they_keep():
    """XLA splits the update there; a float32 copy of the weights would be 4 bytes a parameter."""
    size = sum(math.prod(shape) for shape in compiled.SHAPES.values())
    for line in found("v5e"):
        if "byte" in line["case"] and "weights" in line["case"]:
            low_bits = int(line["case"].split("+")[1])
            low_bytes = low_bits / 8 * size / line["devices"]
            assert line["temporary bytes"] <= 1.01 * low_bytes + line["smallest leaf's bytes"] / 8, line


def test_one_kernel_a_leaf_on_the_gpu():
    for line in found("h100"):
        if "nibble" not in line["case"]:
            assert line["kernels a leaf"] == 1, line


def test_what_else_runs_on_the_gpu_is_no_larger_than_an_axis():
    """A few numbers of the step, and the multiples of an axis's stride."""
    for line in found("h100"):
        if "nibble" not in line["case"]:
            assert line["smaller kernels"] <= 5 * 3, line
            assert line["largest small kernel"] <= 8192, line


@pytest.mark.parametrize("target", COMPILER)
def test_scales_keep_the_moments_of_two_leaves_in_memory_and_not_of_all(target):
    """4 bytes an element of two moments, and a byte of what is unpacked, whatever the number of leaves and devices."""
    largest = max(math.prod(shape) for shape in compiled.SHAPES.values())
    for line in found(target):
        if line["case"] in ("nibble", "nibble, bfloat16 weights + 8"):
            assert line["temporary bytes"] <= 9.1 * largest / line["devices"], line


def test_a_state_streamed_from_the_host_takes_no_more_of_a_tpu_with_more_leaves():
    lines = {(line["case"], line["leaves"]): line for line in printed("v5e", SCRIPT.parent / "offloaded.py")}
    for case in ("float32", "momentum"):
        few, many = lines[case, 8]["streamed MiB"], lines[case, 16]["streamed MiB"]
        assert many < 1.05 * few, lines
        assert many < 0.3 * lines[case, 16]["state MiB"], lines
        assert lines[case, 16]["at once MiB"] > lines[case, 16]["state MiB"], lines


AT_SCALE = SCRIPT.with_name("at_scale.py")


@pytest.mark.parametrize(("pod", "target"), [("h100", "h100"), ("v5e", "v5e"), ("v5p", "v5e")])
@pytest.mark.parametrize("case", ["RMSprop, float32", "RMSprop, one byte"])
def test_a_step_of_8_billion_parameters_moves_little_more_than_it_must(case, pod, target):
    (line,) = printed(target, AT_SCALE, pod, "--case", case)
    assert line["collectives"] == []
    assert line["traffic bytes"] <= (1.0 if "float32" in case else 1.15) * line["least traffic bytes"]
    if "float32" in case:
        assert line["temporary bytes"] < 1e5
