"""Run every client and write docs/evidence/clients.json: HAIKU_SOURCE=dm-haiku python tests/clients/record.py."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
CLIENTS = {
    "netket": "NetKet",
    "numpyro": "NumPyro",
    "optimistix": "Optimistix",
    "jaxopt": "JAXopt",
    "flowjax": "FlowJAX",
    "blackjax": "BlackJAX",
    "jaxley": "Jaxley",
    "dm-haiku": "Haiku's IMPALA",
}
DIFFERENCES = ("ours from optax's", "optax's from float64", "ours from float64")


def missing(name):
    """Return what a client needs and does not find."""
    packages = ["haiku", "rlax", "dm_env"] if name == "dm-haiku" else [name]
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    return absent + ["HAIKU_SOURCE"] * (name == "dm-haiku" and "HAIKU_SOURCE" not in os.environ)


def run(name):
    """Compare the two in a client's program, in a process of its own."""
    kept = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    command = [sys.executable, str(ROOT / "tests" / "clients" / "comparing.py"), name]
    environment = kept | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def main():
    sys.path.insert(0, str(ROOT / "docs"))
    import evidence

    rows, raw = [], []
    for name, title in CLIENTS.items():
        if missing(name):
            sys.exit(f"{title} needs {' '.join(missing(name))}")
        found = run(name)
        print(found)
        raw.append(found)
        rows.append([f"{title} {found['version']}", *row(found)])
    columns = ["client", "what ran", "dtype", "leaves", "steps", *DIFFERENCES, "time"]
    command = "HAIKU_SOURCE=dm-haiku python tests/clients/record.py"
    evidence.write("clients", command, "two CPU cores", columns, rows, clients=raw)


def row(found):
    """Return the cells of a client."""
    away = [found["differences"].get(name) for name in DIFFERENCES]
    return [
        found["what"].rstrip("."),
        ", ".join(found["dtypes"]),
        found["leaves"],
        found["steps"],
        *away,
        found["ratio"],
    ]


if __name__ == "__main__":
    main()
