"""The site has every page and every public name; `.ci/site` builds it."""

import pathlib
import re
import types

import pytest

import rmsprop_optax

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))
REFERENCE = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))


def in_index():
    trees = re.findall(
        r"^```\{toctree\}\n(?::[^\n]*\n)*\n?(.*?)^```", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return "\n".join(trees).split()


def missing_from(reference):
    """Return the public names that no directive of these pages documents; `automodule` takes all of `__all__`."""
    found = set(re.findall(r"^\.\. auto(?:function|class|module):: ([\w.]+)", reference, re.MULTILINE))
    public = {name: getattr(rmsprop_optax, name) for name in rmsprop_optax.__all__}
    return [
        n for n, thing in public.items() if ("rmsprop_optax." * isinstance(thing, types.ModuleType) + n) not in found
    ]


def test_every_public_name_is_in_the_reference():
    assert missing_from(REFERENCE) == []


@pytest.mark.parametrize("name", rmsprop_optax.__all__)
def test_a_public_name_that_is_left_out_of_the_reference_is_found(name):
    less = re.sub(rf"^\.\. auto\w+:: (rmsprop_optax\.)?{name}$", "", REFERENCE, flags=re.MULTILINE)
    assert missing_from(less) == [name]


def test_every_page_is_in_the_index_once():
    assert sorted([*in_index(), "index"]) == PAGES


def slug_of(heading):
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_the_headings_that_a_page_links_to_exist(page):
    path = DOCS / f"{page}.md"
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
        text = (path.parent / target).read_text() if target else path.read_text()
        assert heading in [slug_of(line) for line in re.findall(r"^#+ .*", text, re.MULTILINE)]


TASKS = [
    "quickstart.md#train-with-it",
    "quickstart.md#put-it-in-a-chain",
    "quickstart.md#with-flax",
    "sweep.md#sweep",
    "sweep.md#in-flax-nnx",
    "dialects.md#porting-from-pytorch",
    "dialects.md#porting-from-tensorflow-1",
    "checkpoints.md#from-pytorch",
    "scaling.md#fsdp-with-one-byte-a-parameter",
    "memory.md#half-a-byte",
    "scaling.md#several-processes",
    "reinforcement_learning.md#actor-critic",
]


@pytest.mark.parametrize("task", TASKS)
def test_what_people_come_for_is_a_section_with_code_that_a_test_runs(task):
    """test_docs.py runs the blocks of each page from its first, and each example."""
    assert f"]({task})" in (DOCS / "index.md").read_text()
    page, slug = task.split("#")
    sections = re.split(r"^(#+ .*)$", (DOCS / page).read_text(), flags=re.MULTILINE)[1:]
    text = dict(zip(map(slug_of, sections[::2]), sections[1::2], strict=True))[slug]
    assert "\n```python\n" in text or re.search(r"\]\(\.\./examples/\w+\.py\)", text)


def test_no_equation_escapes_an_underscore_in_text():
    """MathJax would show the backslash."""
    sources = [*(ROOT / "rmsprop_optax").rglob("*.py"), *DOCS.rglob("*.md")]
    assert not [path.name for path in sources if re.search(r"\\text\{[^}]*\\_", path.read_text())]


def test_ci_builds_the_site_with_warnings_as_errors():
    assert "\n.ci/site\n" in (ROOT / ".ci" / "run").read_text()
    assert "--fail-on-warning" in (ROOT / ".ci" / "site").read_text()


def test_the_configuration_is_short():
    assert len((DOCS / "conf.py").read_text().splitlines()) < 60
