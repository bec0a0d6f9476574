"""The package is a short spine with satellites: which file may import which, how long files are, what import loads.

And no test imports a test: what two of them need is in tests/kit.
"""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
PACKAGE = TESTS.parent / "rmsprop_optax"
FILES = {path.relative_to(PACKAGE).as_posix().removesuffix(".py"): path for path in PACKAGE.rglob("*.py")}
ARROWS = {
    "__init__": {
        "alias",
        "checkpoint",
        "compression",
        "diagnostics",
        "dialects",
        "plots",
        "recipes",
        "sweep",
        "transform",
    },
    "alias": {"_checks", "transform", "_value"},
    "transform": {"_checks", "placement", "_value"},
    "dialects/__init__": {
        "dialects.others",
        "dialects.papers",
        "dialects.pytorch",
        "dialects.rows",
        "dialects.tensorflow",
    },
    "dialects/pytorch": {"_checks", "_value", "dialects.assemble"},
    "dialects/tensorflow": {"_checks", "_value", "dialects.assemble"},
    "dialects/others": {"_checks", "_value", "dialects.assemble"},
    "dialects/papers": {"_value", "dialects.assemble"},
    "dialects/assemble": {"alias", "_checks", "transform", "dialects.rows"},
    "dialects/rows": {"alias"},
    "checkpoint/__init__": {
        "checkpoint.adapting",
        "checkpoint.pytorch",
        "checkpoint.restoring",
        "checkpoint.stock",
        "checkpoint.tensorflow",
    },
    "checkpoint/adapting": {"_checks", "checkpoint.restoring", "checkpoint.states", "checkpoint.variance"},
    "checkpoint/stock": {"_checks", "checkpoint.restoring", "checkpoint.states", "checkpoint.variance"},
    "checkpoint/restoring": {"_checks", "checkpoint.states"},
    "checkpoint/pytorch": {
        "checkpoint.conversion",
        "checkpoint.hyperparameters",
        "checkpoint.restoring",
        "checkpoint.states",
        "checkpoint.variance",
        "dialects.rows",
    },
    "checkpoint/tensorflow": {
        "checkpoint.conversion",
        "checkpoint.hyperparameters",
        "checkpoint.restoring",
        "checkpoint.variance",
        "dialects.rows",
    },
    "checkpoint/conversion": {"checkpoint.states"},
    "checkpoint/hyperparameters": {"dialects.rows"},
    "checkpoint/states": {"_checks", "transform"},
    "checkpoint/variance": set(),
    "recipes/__init__": {"recipes.agents", "recipes.networks"},
    "recipes/agents": {"_checks", "_value", "dialects", "dialects.assemble", "recipes.rates"},
    "recipes/networks": {"_checks", "_value", "dialects", "dialects.assemble", "recipes.rates"},
    "recipes/rates": {"_checks", "dialects.assemble"},
    "compression": {"_checks", "codecs", "master_weights", "placement", "_value"},
    "master_weights": {"_checks", "codecs", "placement", "_value"},
    "codecs": set(),
    "_checks": set(),
    "placement": set(),
    "_value": set(),
    "diagnostics": {"_checks", "transform"},
    "plots": set(),
    "runs": set(),
    "sweep": {"_checks", "runs"},
}
LAZY = {"placement": {"jax"}, "plots": {"matplotlib"}, "sweep": {"tqdm"}}


def imports(path):
    """Return this package's modules and the other packages that a file imports: at its top, and inside functions."""
    ours, top, lazy = set(), set(), set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if module == "rmsprop_optax":
                ours |= {alias.name for alias in node.names}
            elif module == "rmsprop_optax.checkpoint":
                ours |= {f"checkpoint.{alias.name}" for alias in node.names}
            elif module.startswith("rmsprop_optax."):
                ours.add(module.removeprefix("rmsprop_optax."))
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
    assert lazy <= LAZY.get(name, set())


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
