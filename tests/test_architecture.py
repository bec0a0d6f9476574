"""The package is a short spine with satellites: which file may import which, how long files are, what import loads."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "rmsprop_optax"
FILES = {path.stem: path for path in PACKAGE.glob("*.py")}
ARROWS = {
    "__init__": {"alias", "compression", "transform", "plots"},
    "alias": {"checks", "transform", "value"},
    "transform": {"checks", "value"},
    "compression": {"codecs", "master_weights", "value"},
    "master_weights": {"checks", "codecs", "value"},
    "codecs": set(),
    "checks": set(),
    "value": set(),
    "plots": set(),
}


def imports(path):
    """Return this package's modules and the other packages that a file imports: at its top, and inside functions."""
    ours, top, lazy = set(), set(), set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if module == "rmsprop_optax":
                ours |= {alias.name for alias in node.names}
            elif module.startswith("rmsprop_optax."):
                ours.add(module.split(".")[1])
            else:
                (top if node in tree.body else lazy).add(module.split(".")[0])
    return ours, top, lazy


def test_every_file_is_on_the_map():
    assert set(FILES) == set(ARROWS)


@pytest.mark.parametrize("name", FILES)
def test_imports_follow_the_arrows(name):
    ours, top, lazy = imports(FILES[name])
    assert ours <= ARROWS[name]
    assert top - set(sys.stdlib_module_names) <= {"jax", "optax", "chex", "numpy"}
    assert lazy <= ({"matplotlib"} if name == "plots" else set())


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


def test_importing_the_package_loads_no_framework_and_no_plotting():
    heavy = "{'matplotlib', 'torch', 'flax', 'tensorflow', 'keras', 'orbax', 'sklearn', 'tqdm'}"
    code = f"import sys, rmsprop_optax; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True)
