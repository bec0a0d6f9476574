"""What the README and the docs say runs: their blocks, the examples, and a docstring for every public name."""

import inspect
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
import recording
from kit.memory import pinned_host
from kit.rows import rows

import rmsprop_optax

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = {path.name: path for path in sorted((ROOT / "examples").glob("*.py"))}
OPTIONS = {"quick": "a few seconds, to see that it runs", "record": "write what the docs show into docs"}
SPLIT = "train_test_split(images.astype(np.float32) / 16, labels, test_size=0.2, random_state=0, stratify=labels)"
NEEDS = {
    "checkpoints.md": ["orbax.checkpoint", "safetensors"],
    "multi_host.py": ["orbax.checkpoint"],
    "port_from_torch.py": ["torch"],
    "scaling.md": ["orbax.checkpoint"],
}


def public_names():
    """Every name a user may reach: its dotted name, and the thing itself."""
    found = {}
    for name in rmsprop_optax.__all__:
        thing = getattr(rmsprop_optax, name)
        members = vars(thing) if inspect.ismodule(thing) else {}
        own = {f"{name}.{key}": value for key, value in members.items() if is_own(value, thing.__name__)}
        found |= own or {name: thing}
    return found


def is_own(value, module):
    named = getattr(value, "__name__", "_")
    home = getattr(value, "__module__", None) or ""
    return callable(value) and (home == module or home.startswith(f"{module}.")) and not named.startswith("_")


IN_EVERY_RUN = ("README.md", "quickstart.md", "troubleshooting.md")  # the others take seconds each
QUICK_PAGES = [page for page in PAGES if page.name in IN_EVERY_RUN]


@pytest.mark.parametrize("page", rows(PAGES, QUICK_PAGES), ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run(page, tmp_path):
    needs(page.name)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    if blocks:
        script = tmp_path / "page.py"
        script.write_text("import matplotlib\nmatplotlib.use('Agg')\n" + "\n".join(blocks))
        printed = run([script], tmp_path)
        for shown in re.findall(r"^```output\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            assert shown in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_and_pictures_of_a_page_exist(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


ALWAYS = {"quickstart.py", "digits.py"}  # the README's; the others take seconds each


@pytest.mark.parametrize("example", rows(EXAMPLES, ALWAYS))
def test_an_example_runs(example, tmp_path):
    needs(example)
    assert run([EXAMPLES[example], "--quick"], tmp_path).strip()
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoints", "figures"}  # what .gitignore has


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_options_of_an_example_are_called_as_in_the_others(example):
    text = EXAMPLES[example].read_text()
    assert re.findall(r'add_argument\("--(?:out|output)"', text) == []
    own = re.findall(r'add_argument\("--quick", (.*)\)$', text, re.MULTILINE)
    assert set(own) <= {f'action="store_true", help="{OPTIONS["quick"]}"'}
    assert "add_argument" not in text or own or "recording.parser(__doc__)" in text
    assert '"docs"' not in text  # recording knows where they are
    assert '"--record"' not in text


def test_the_options_that_examples_share_are_switches():
    parser = recording.parser("What an example does.")
    assert vars(parser.parse_args(["--quick"])) == {"quick": True, "record": False}
    for option, said in OPTIONS.items():
        assert re.search(rf"--{option} +{said}", parser.format_help())


@pytest.mark.parametrize("example", ["digits.py", "equinox_mlp.py", "flax_linen.py"])
def test_an_example_on_the_digits_splits_them_like_the_others(example):
    assert SPLIT in EXAMPLES[example].read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_exist(page):
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = re.findall(r"`(test_\w+)`", page.read_text())
    assert [name for name in named if f"def {name}(" not in tests] == []


def needs(name):
    """Skip what needs a package that is not installed."""
    for package in NEEDS.get(name, []):
        pytest.importorskip(package)
    if name == "scaling.md":
        pinned_host(mesh=False)  # or skip


def run(command, folder):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-W", "ignore", *map(str, command)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_documented_with_its_arguments_and_an_example(name):
    thing = public_names()[name]
    assert thing.__doc__
    if inspect.isfunction(thing) and inspect.signature(thing).parameters:
        assert "Args:" in thing.__doc__
        assert ">>>" in thing.__doc__
        for parameter in inspect.signature(thing).parameters:
            assert f"{parameter}:" in thing.__doc__, parameter


def test_the_readme_s_commands_are_the_ones_ci_runs():
    readme = PAGES[0].read_text()
    assert 'pip install -e ".[examples]" && python examples/digits.py' in readme
    assert 'pip install -e ".[test]" && pytest\n' in readme
    assert (ROOT / ".ci" / "run").read_text().endswith('(pip install -e ".[test]" && pytest)\npytest -m full\n')


def test_each_marker_s_command_is_documented():
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    for marker in markers:
        assert f"pytest -m {marker.partition(':')[0]}" in PAGES[1].read_text()


NOT_ON_A_GPU = """
    layouts nibble_devices scaled_codecs offload quantiles shard_map sharding state_shardings sweep_devices multi_host
    checkpoint_files checkpoint_files_of_trainers checkpoint_frameworks checkpoint_trainers clients live peers upstream
    actor_critic checkpoint_refusals checkpoint_trainers_refusals wrong_calls wrong_calls_of_runs wrong_calls_of_states
    architecture dialects_files dialects_page docs interfaces memory_page plots prose recipes_page scaling_page
    batch_sizes_page evidence_page fewer_bits lightbench_tasks package results_of_examples sensitivity sharpness_page
    site the_note
"""  # they need eight devices, compare with other libraries, or, the last four lines, compute nothing there


def test_every_file_of_tests_is_in_one_part_of_those_on_a_gpu_or_has_a_reason():
    script = (ROOT / ".ci" / "gpu").read_text()
    parts = " ".join(re.findall(r'^    \[\w+\]="(.*)"$', script, re.MULTILINE)).split()
    files = sorted(path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py"))
    assert sorted(parts + NOT_ON_A_GPU.split()) == files
