"""What examples share: their options, and where what they found goes: into figures/, or with --record into docs."""

import argparse
import json
import os
import pathlib
import sys

import numpy as np

sys.path.append(str(pathlib.Path(__file__).parents[2] / "docs"))
import evidence
import page_tables

DOCS = evidence.PAGE.parent
table = page_tables.table


def parser(description):
    """Return a parser of the two options; an example may add its own."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    made.add_argument("--record", action="store_true", help="write what the docs show into docs")
    return made


def figures(record):
    """Return the folder for figures."""
    folder = DOCS / "figures" if record else pathlib.Path("figures")
    folder.mkdir(exist_ok=True)
    return folder


def draw(figure, name, record):
    """Write a figure, and say where."""
    path = figures(record) / f"{name}.png"
    figure.savefig(path, dpi=150)
    print(f"wrote {path}")


def write(example, columns, rows, *, machine=None, **more):
    """Write an example's results for docs/evidence.md; the machine is this one unless it is described."""
    machine = machine or f"{os.cpu_count()} CPU cores"
    evidence.write(example, f"python examples/{example}.py --record", machine, columns, rows, **more)


def with_tables(page, tables):
    """Return a page with its tables rewritten, which stand alone between their markers."""
    return page_tables.page(page, {name: f"\n{made}\n" for name, made in tables.items()})


def write_page(example, found, tables):
    """Write an example's results beside its page, and rewrite the page's tables."""
    (DOCS / f"{example}.json").write_text(json.dumps(found, indent=1) + "\n")
    rewrite(example, tables)


def rewrite(example, tables):
    """Rewrite the tables of an example's page."""
    page = DOCS / f"{example}.md"
    page.write_text(with_tables(page.read_text(), tables))


def spread(values, scale=1, digits=1):
    """Return the mean and the standard deviation over seeds."""
    return f"{scale * np.mean(values):.{digits}f} ± {scale * np.std(values, ddof=1):.{digits}f}"


def reached(steps, seeds):
    """Return the spread of the steps to a target, or how many of the seeds got there."""
    return spread(steps, digits=0) if len(steps) == seeds else f"{len(steps)} of {seeds} seeds"
