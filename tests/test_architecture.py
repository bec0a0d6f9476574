"""The package is a short spine with satellites: which file may import which, how long files are, what import loads.

docs/design.md shows the files and the imports, and is read here. No test imports a test: what two of them need is in
tests/kit.
"""

import ast
import collections
import graphlib
import importlib
import inspect
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import rmsprop_optax
from rmsprop_optax import dialects

TESTS = pathlib.Path(__file__).parent
PACKAGE = TESTS.parent / "rmsprop_optax"
PAGE = (TESTS.parent / "docs" / "design.md").read_text()
LAZY = {"checkpoint/sb3": {"torch"}, "moments": {"jax"}, "plots": {"matplotlib"}, "sweep/sweeping": {"tqdm"}}


def name_of(path):
    """Name a file as docs/design.md does: `dialects/torch`; a folder is its `__init__.py`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "/".join(parts[:-1] if parts[-1] == "__init__" else parts) or PACKAGE.name


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path):
    """Return the files of this package, and the other packages, that a file imports at its top and in functions."""
    ours, top, lazy = set(), set(), set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            package, *folders = module.split(".")
            if package == PACKAGE.name:
                files = ["/".join([*folders, alias.name]) for alias in node.names]
                ours |= {file if file in FILES else "/".join(folders) for file in files}
            else:
                (top if node in tree.body else lazy).add(package)
    return ours, top, lazy


def block(kind):
    """Return the lines of a block of docs/design.md."""
    return re.search(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1].splitlines()


def shown(name):
    """Name a file on the page, where the files of frameworks stand together."""
    row = dialects.ROWS.get(name.removeprefix("dialects/")) if name.startswith("dialects/") else None
    return "dialects/FRAMEWORK" if row is not None and row.function else name


def arrows():
    """Return a line for each file, or group of files, and what it imports."""
    found = collections.defaultdict(set)
    for name, path in FILES.items():
        found[shown(name)] |= {shown(other) for other in imports(path)[0]}
    return {" ".join([f"{name}:", *sorted(others)]) for name, others in found.items()}


def tree_on_the_page():
    """Return the files of the tree, each with what is said about it."""
    said, folders = {}, []
    for line in block("tree"):
        indent, name, text = re.fullmatch(r"( *)(\S+)(.*)", line).groups()
        folders = [*folders[: len(indent) // 2], name.rstrip("/")]
        said["/".join(folders[1:]).removesuffix(".py") or PACKAGE.name] = text.strip()
    return said


def test_the_page_s_tree_has_every_file_and_says_what_it_is_for():
    said = tree_on_the_page()
    files = {shown(name) for name in FILES}
    missing, gone = sorted(files - said.keys()), sorted(said.keys() - files)
    assert (missing, gone) == ([], []), f"the tree in docs/design.md lacks {missing} and has {gone}, which don't exist"
    assert [name for name, text in said.items() if not text] == []


def test_the_page_s_arrows_are_the_imports_of_the_code():
    here, there = arrows(), set(block("arrows"))
    wrong, right = "\n".join(sorted(there - here)), "\n".join(sorted(here - there))
    assert here == there, f"docs/design.md has the arrows\n{wrong}\nand the code has\n{right}"


def test_imports_go_one_way():
    graph = {name: imports(path)[0] for name, path in FILES.items()}
    assert {*graphlib.TopologicalSorter(graph).static_order()} == {*FILES}  # raises where there is a circle


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_few_other_packages(name):
    _, top, lazy = imports(FILES[name])
    assert top - set(sys.stdlib_module_names) <= {"jax", "optax", "chex", "numpy"}
    assert lazy <= LAZY.get(name, set())


PUBLIC = [name for name in FILES if not re.search("(^|/)_", name)]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_file_lists_its_names_in_order(name):
    module = (
        rmsprop_optax if name == PACKAGE.name else importlib.import_module(f".{name.replace('/', '.')}", PACKAGE.name)
    )
    assert module.__all__ == sorted(module.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert [n for n in module.__all__ if not hasattr(module, n)] == []


def test_what_is_at_the_top_is_public_or_has_an_underscore():
    exported = [getattr(rmsprop_optax, name) for name in rmsprop_optax.__all__]
    homes = {(thing.__name__ if inspect.ismodule(thing) else thing.__module__).split(".")[1] for thing in exported}
    top = {name.partition("/")[0] for name in PUBLIC} - {PACKAGE.name}
    assert top - homes == {"moments"}  # the names on which all parts agree


@pytest.mark.parametrize("name", FILES)
def test_files_and_functions_stay_short(name):
    source = FILES[name].read_text()
    assert len(source.splitlines()) <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[ast.get_docstring(node) is not None :] or node.body
            lines = source.splitlines()[first[0].lineno - 1 : node.end_lineno]
            code = [line for line in lines if line.strip() and not line.strip().startswith("#")]
            assert len(code) <= 40, node.name


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_no_test_imports_a_test(path):
    _, top, lazy = imports(path)
    assert not (top | lazy) & {other.stem for other in TESTS.rglob("test_*.py")}


def test_importing_the_package_loads_no_framework_and_no_plotting():
    heavy = "{'matplotlib', 'torch', 'flax', 'tensorflow', 'keras', 'orbax', 'sklearn', 'tqdm'}"
    code = f"import sys, rmsprop_optax; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_leaves_the_devices_alone():
    code = "import jax, rmsprop_optax; jax.config.update('jax_num_cpu_devices', 3); assert jax.device_count('cpu') == 3"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_the_version_stands_in_one_place_and_is_the_newest_of_the_changes():
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "rmsprop_optax/__init__.py"
    newest = re.search(r"^## (\S+)", (TESTS.parent / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert rmsprop_optax.__version__ == newest
