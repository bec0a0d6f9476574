"""Other people's tests of RMSprop, run on ours: python tests/suites.py writes docs/evidence/suites.json.

Each suite runs in a process of its own. A plugin of pytest puts ours in the place of the author's before the tests are
imported. The tests of PyTorch are not in its wheel: TORCH_TESTS names the folder `test` of a copy of its source.
"""

import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from typing import NamedTuple

HERE = pathlib.Path(__file__).parent


class Suite(NamedTuple):
    """One author's tests: what they are, the plugin that puts ours in their place, and what must be installed."""

    title: str
    plugin: str | None
    needs: tuple[str, ...]
    tests: int  # at least so many: fewer mean that the plugin left out too much
    environment: tuple = ()


SUITES = {
    "optax": Suite("optax: alias, contrib, sharding, float64", "optax_suite", ("optax",), 50),
    "keras": Suite("Keras: rmsprop_test.py", "keras_suite", ("keras",), 6, (("KERAS_BACKEND", "jax"),)),
    "torch": Suite("PyTorch: test_optim.py", "torch_suite", ("torch", "expecttest"), 40),
    "torch settings": Suite("PyTorch: each setting of its OptimizerInfo", None, ("torch", "expecttest"), 9),
}


class Outcome(NamedTuple):
    """How many tests passed, and why each of the others failed or was skipped."""

    passed: int
    failed: dict
    skipped: dict


def missing(name):
    """Return what a suite needs and does not find."""
    absent = [package for package in SUITES[name].needs if importlib.util.find_spec(package) is None]
    return absent + ["TORCH_TESTS"] * (name == "torch" and "TORCH_TESTS" not in os.environ)


def files(name):
    """Return the files of a suite."""
    if SUITES[name].plugin is None:
        return [str(HERE / "test_peers.py"), "-m", "upstream", "-o", "markers=upstream"]
    script = [sys.executable, str(HERE / f"{SUITES[name].plugin}.py")]
    return subprocess.run(script, env=environment(name), capture_output=True, text=True, check=True).stdout.split()


def environment(name):
    kept = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    return kept | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])} | dict(SUITES[name].environment)


def run(name):
    """Run a suite, and return its outcome."""
    plugin = SUITES[name].plugin
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-W", "default", "-q", "-c", os.devnull, f"--junitxml={report}"]
        command += ["-p", plugin] if plugin else []
        done = subprocess.run([*command, *files(name)], env=environment(name), capture_output=True, text=True)
        assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
        return outcome(ET.parse(report))


def outcome(report):
    """Return the outcome of a report in JUnit's format."""
    passed, failed, skipped = 0, {}, {}
    for case in report.iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            failed[name] = bad.get("message")
        elif case.find("skipped") is not None:
            skipped[name] = case.find("skipped").get("message")
        else:
            passed += 1
    return Outcome(passed, failed, skipped)


def main():
    sys.path.insert(0, str(HERE.parent / "docs"))
    import evidence

    rows, raw, versions = [], {}, {}
    for name, suite in SUITES.items():
        if missing(name):
            sys.exit(f"the suite of {name} needs {' '.join(missing(name))}")
        found = run(name)
        print(name, found.passed, "passed", found.failed, found.skipped)
        rows.append([suite.title, found.passed, len(found.failed), len(found.skipped), reasons(found)])
        raw[name] = found._asdict()
        versions |= {package: importlib.metadata.version(package) for package in suite.needs}
    source = pathlib.Path(os.environ["TORCH_TESTS"]).parent / "version.txt"
    versions |= {"test_optim.py": source.read_text().strip()}
    columns = ["tests of", "passed", "failed", "skipped", "why skipped"]
    command = "TORCH_TESTS=pytorch/test python tests/suites.py"
    evidence.write("suites", command, "two CPU cores", columns, rows, versions=versions, outcomes=raw)


def reasons(found):
    """Return why tests failed or were skipped, each reason once."""
    counts = {}
    for why in [*found.failed.values(), *found.skipped.values()]:
        counts[why] = counts.get(why, 0) + 1
    return "; ".join(f"{count}: {why}" for why, count in counts.items()) or None


if __name__ == "__main__":
    main()
