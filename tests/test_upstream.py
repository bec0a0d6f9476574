"""The tests that optax and Keras wrote for their own rmsprop pass with ours in its place: pytest -m upstream."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import optax_suite
import pytest

HERE = pathlib.Path(__file__).parent


def run(suite, files, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    kept |= {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])} | environment
    command = [sys.executable, "-m", "pytest", "-p", suite, "-W", "default", "-q", "-c", os.devnull, *files]
    done = subprocess.run(command, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.upstream
def test_optax_s_own_tests_pass():
    assert "passed" in run("optax_suite", optax_suite.files())


@pytest.mark.upstream
def test_keras_s_own_tests_pass():
    found = importlib.util.find_spec("keras")
    if found is None:
        pytest.skip("pip install keras")
    file = pathlib.Path(found.origin).parent / "src" / "optimizers" / "rmsprop_test.py"
    assert "6 passed" in run("keras_suite", [str(file)], KERAS_BACKEND="jax")
