"""The files of docs/evidence: what was measured, with the command, the day, the machine and the versions."""

import datetime
import json
import pathlib
import platform

import jax
import optax

FOLDER = pathlib.Path(__file__).parents[2] / "docs" / "evidence"


def read(name):
    """Return what a file has; nothing if there is none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(name, command, machine, columns, rows, **more):
    """Write a file: each row has a cell for each column, and `more` is what the table does not show."""
    found = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "optax": optax.__version__},
        "machine": machine,
        "columns": columns,
        "rows": rows,
    }
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(found | more, indent=1) + "\n")
    return found | more
