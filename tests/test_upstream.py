"""optax's own tests of rmsprop pass with ours in its place: pytest -m upstream, two minutes."""

import os
import pathlib
import subprocess
import sys

import optax_suite
import pytest


@pytest.mark.upstream
def test_optax_s_own_tests_pass():
    here = pathlib.Path(__file__).parent
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"PYTHONPATH": str(here)}
    command = [sys.executable, "-m", "pytest", "-p", "optax_suite", "-W", "default", "-q", "-c", os.devnull]
    done = subprocess.run([*command, *optax_suite.files()], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout
