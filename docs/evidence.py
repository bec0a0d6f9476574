"""Write the tables of evidence.md from the files that the programs wrote: python docs/evidence.py.

A file evidence/NAME.json becomes the table between the comments `<!-- NAME -->` and `<!-- /NAME -->` of the page. The
line under it says where its figures come from: the command, the day, the machine and the versions.
"""

import argparse
import datetime
import importlib.metadata
import json
import pathlib
import platform
import re

import page_tables

PAGE = pathlib.Path(__file__).with_suffix(".md")
FOLDER = PAGE.parent / "evidence"
KEYS = ("command", "date", "versions", "machine", "columns", "rows")


def results(folder=FOLDER):
    """Return the contents of each file of results by its name, without the ending."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def page(text, found):
    """Return the page with the table of each file, and where it comes from."""
    return page_tables.page(text, {name: section(result) for name, result in found.items()})


def section(result):
    """Return a table and the line on how it was made."""
    rows = [[cell(value) for value in row] for row in result["rows"]]
    return "\n" + page_tables.table(result["columns"], rows) + "\n" + source(result) + "\n"


def cell(value):
    """Return a cell of a table: a number has three digits."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("|", r"\|")


def source(result):
    """Return a line with the command, the day, the machine and the versions."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"`{result['command']}`, {result['date']}, {result['machine']}; {versions}.\n"


def read(name):
    """Return what a file has; nothing if there is none."""
    return results().get(name, {})


def write(name, command, machine, columns, rows, *, versions=None, **more):
    """Write a file of results: each row has a cell for each column, and `more` is what the table does not show.

    `versions` has those of other packages than jax and optax.
    """
    known = {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in ("jax", "optax")}
    whole = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "versions": known | (versions or {}),
        "machine": machine,
        "columns": columns,
        "rows": rows,
    } | more
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(in_lines(whole) + "\n")


def in_lines(found):
    """Return JSON that has each innermost list and dictionary in a line."""
    text = json.dumps(found, indent=1)
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: re.sub(r"\n\s*", " ", match[0]), text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=PAGE, help="where to write (default: beside this file)")
    out = parser.parse_args().out
    out.write_text(page(PAGE.read_text(), results()))
    print(f"wrote {out}")
