"""The package is a short spine with satellites: which file may import which, how long files are, what import loads.

And no test imports a test: what two of them need is in tests/kit.
"""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from rmsprop_optax import dialects

TESTS = pathlib.Path(__file__).parent
PACKAGE = TESTS.parent / "rmsprop_optax"
FILES = {path.relative_to(PACKAGE).as_posix().removesuffix(".py"): path for path in PACKAGE.rglob("*.py")}
DIALECTS = {key for key, row in dialects.ROWS.items() if row.function}  # a file each, named by its key
ROW = {"alias", "dialects.row"}  # what a row is made of
SOURCE = {  # what another framework's files are read with
    "checkpoint.converting",
    "checkpoint.filling",
    "checkpoint.hyperparameters",
    "checkpoint.statistics",
    "dialects",
}
ARROWS = {
    "__init__": {
        "alias",
        "checkpoint",
        "compression",
        "diagnostics",
        "dialects",
        "plots",
        "recipes",
        "sharding",
        "sweep",
        "transform",
    },
    "alias": {"_checks", "_value", "moments", "transform"},
    "transform": {"_checks", "_value", "moments"},
    "moments": set(),
    "dialects/__init__": {
        "alias",
        "dialects",
        "dialects.row",
        *(f"dialects.{name}" for name in DIALECTS),
    },
    **{f"dialects/{name}": {"_checks", "_value", "dialects._assembly", "dialects.clipping"} | ROW for name in DIALECTS},
    "dialects/without_function": {"dialects"} | ROW,
    "dialects/row": {"alias"},
    "dialects/_assembly": {"_checks", "alias", "dialects.clipping", "dialects.complex_numbers", "dialects.row"},
    "dialects/clipping": {"_checks", "transform"},
    "dialects/complex_numbers": {"_checks", "moments"},
    "checkpoint/__init__": {
        "checkpoint.adapting",
        "checkpoint.keras",
        "checkpoint.optax",
        "checkpoint.previewing",
        "checkpoint.restoring",
        "checkpoint.tf1",
        "checkpoint.torch",
    },
    "checkpoint/contents": {"moments", "transform"},
    "checkpoint/filling": {"checkpoint.contents", "moments"},
    "checkpoint/restoring": {"_checks", "moments", "checkpoint.contents", "checkpoint.filling"},
    "checkpoint/adapting": {
        "_checks",
        "moments",
        "checkpoint.contents",
        "checkpoint.filling",
        "checkpoint.variance",
    },
    "checkpoint/previewing": {"_checks", "checkpoint.adapting", "checkpoint.contents"},
    "checkpoint/optax": {
        "_checks",
        "checkpoint.adapting",
        "checkpoint.contents",
        "checkpoint.filling",
        "checkpoint.variance",
    },
    "checkpoint/torch": SOURCE | {"checkpoint.contents", "checkpoint.variance"},
    "checkpoint/keras": SOURCE,
    "checkpoint/tf1": SOURCE - {"dialects"},
    "checkpoint/statistics": {"checkpoint.converting", "checkpoint.variance"},
    "checkpoint/converting": {"checkpoint.contents"},
    "checkpoint/hyperparameters": {"dialects"},
    "checkpoint/variance": set(),
    "recipes/__init__": {"recipes.agents", "recipes.networks"},
    "recipes/agents": {"_checks", "_value", "dialects", "dialects.clipping", "recipes._schedules"},
    "recipes/networks": {
        "_checks",
        "_value",
        "alias",
        "dialects",
        "dialects.clipping",
        "dialects.complex_numbers",
        "recipes._schedules",
    },
    "recipes/_schedules": {"_checks"},
    "compression/__init__": {
        "compression.codecs",
        "compression.compressed_moments",
        "compression.master_weights",
    },
    "compression/compressed_moments": {"_checks", "_value", "compression.codecs", "moments"},
    "compression/master_weights": {"_checks", "_value", "compression.codecs", "moments"},
    "compression/codecs": set(),
    "_checks": set(),
    "_value": set(),
    "diagnostics": {"_checks", "moments", "transform"},
    "plots": set(),
    "runs": set(),
    "sharding": {"_checks", "moments"},
    "sweep": {"_checks", "runs"},
}
LAZY = {"moments": {"jax"}, "plots": {"matplotlib"}, "sweep": {"tqdm"}}


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
