"""No page, docstring, comment or message has a phrase that readers would have to translate.

Each phrase was in the pages once. A row has a regular expression, a text with it, and one to write instead.
"""

import ast
import io
import pathlib
import re
import tokenize

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
CODE = [path for folder in ("rmsprop_optax", "docs", "examples") for path in (ROOT / folder).rglob("*.py")]
THINGS = (
    r"(arrays?|bools?|codecs?|dictionary|floating-point|integers?|mapping|masks?|numbers?|optimizers?|transformation)"
)
PHRASES = {
    rf"(?<!\bthere )\b(is|are|that|was|were) no {THINGS}\b": (
        "`centered` is no bool",
        "`centered` is not a bool; there is no number for it",
    ),
    r"\bnone means none\b": ("None means none", "With None there is no buffer"),
    r"\bnumber that is none\b": ("A number that is none", "`learning_rate` is not a number"),
    r"\bat hand\b": ("No GPU was at hand", "We had no GPU"),
    r"\bupright\b": ("the dashed upright", "the dashed vertical line"),
    r"\btwice of\b": ("with twice of it", "at twice it"),
    r"\banother (\w+ ){1,3}than\b": (
        "takes another path in PyTorch than there",
        "follows another path; it is larger than",
    ),
    r"\bone's own\b": ("a rate of one's own", "a rate of its own"),
    r"\b(that|which|returns?) (is|are) a value\b": (
        "A transformation that is a value",
        "It is a value between 0 and 1",
    ),
    r"\b(optimizer|it|and) is a value\b[^ ]": ("and is a value: it hashes", "it is a value of `eps`"),
    r"(^|[.:|] )(Asked|Found|Said) (of|in|for|by|to)\b": ("Asked of it: at most 0.7", "What it was asked for: 0.7"),
    r"\b(their|its) number is the\b": ("Runs; their number is the leading axis", "Every field has an axis of runs"),
    r"\bcounts? as its end\b": ("What lies beyond counts as its end", "Values beyond it take its nearest end"),
    r"\bwhere (each|its) array (goes on )?is\b": (
        "where each array goes on is where its array is",
        "each restored array takes the sharding of the array that it replaces",
    ),
    r"\bmakes? differently\b": ("What frameworks make differently", "Where frameworks differ"),
    r"\bhere in the middle\b": ("moves a run here in the middle", "moves a run in mid-training"),
    r"\bwhat trained\b": ("What trained agents", "Published settings for agents"),
    r"\bto the bit\b": ("equal to the bit", "equal bit for bit"),
    r"\banew\b": ("the table is made anew", "the table is made again"),
    r"\bcarr(y|ies) on\b": ("the transformation that carries on", "the new optimizer"),
    r"\bmakes? (numbers|(the )?parameters|a tensor|a variance) of\b": (
        "the function that makes parameters of weights",
        "the function that converts weights to parameters",
    ),
    r"\b(that|which) are none\b": ("numbers in it that are none", "entries that are not numbers"),
    r"\bbut for\b": ("no collective, but for the gather", "no collective, except for the gather"),
    r"\b(fences?|moved_by|stock|carried)\b": ("is carried over", "goes on"),
}


def prose_of(path):
    """Return the paragraphs of a page, or the strings and comments of code, each in one line and with its number."""
    text = path.read_text()
    if path.suffix == ".md":
        paragraphs = re.finditer(r"(?:.+\n?)+", text)
        found = [(text.count("\n", 0, paragraph.start()) + 1, paragraph[0]) for paragraph in paragraphs]
    else:
        found = [(node.lineno, string) for node in ast.walk(ast.parse(text)) if (string := string_of(node))]
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        found += [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    return [(line, re.sub(r"\s+#? ?", " ", string)) for line, string in found]


def string_of(node):
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@pytest.mark.parametrize("path", [*PAGES, *CODE], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_sentence_has_to_be_translated(path):
    found = {
        f"{path.relative_to(ROOT)}:{line}: {match[0].strip()!r} in {string[max(0, match.start() - 60) :][:120]!r}"
        for line, string in prose_of(path)
        for phrase in PHRASES
        for match in re.finditer(phrase, string, re.IGNORECASE | re.MULTILINE)
    }
    assert not found, "\n".join(sorted(found))


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_is_found_and_what_to_write_instead_is_not(phrase):
    bad, good = PHRASES[phrase]
    assert re.search(phrase, bad, re.IGNORECASE | re.MULTILINE)
    assert not re.search(phrase, good, re.IGNORECASE | re.MULTILINE)


PACKAGE = sorted((ROOT / "rmsprop_optax").rglob("*.py"))


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_docstring_points_to_a_file_that_an_installed_package_lacks(path):
    assert not [line for line, string in prose_of(path) if re.search(r"\b(docs|tests|examples)/", string)]
