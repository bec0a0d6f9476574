"""Tables of a page, each between two comments, written from data."""

import re


def page(text, tables):
    """Return the page with its tables rewritten."""
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        text, count = re.subn(f"{start}.*?{end}", lambda _, t=table, s=start, e=end: s + t + e, text, flags=re.DOTALL)
        assert count == 1, name
    return text


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
