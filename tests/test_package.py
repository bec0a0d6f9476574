"""What is installed and released: versions that agree wherever they stand, extras that hold what is imported."""

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

import rmsprop_optax
from rmsprop_optax import _versions

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
OLDEST = dict(requirement.split(">=") for requirement in PROJECT["project"]["dependencies"])
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
RUN, WHEEL, CONTRIBUTING = ((ROOT / file).read_text() for file in (".ci/run", ".ci/wheel", "CONTRIBUTING.md"))
TESTS, RELEASE = (
    yaml.safe_load((ROOT / ".github" / "workflows" / file).read_text()) for file in ("tests.yml", "release.yml")
)


# versions


def test_the_citation_has_the_version_the_license_and_the_authors_of_the_package():
    citation, project = yaml.safe_load((ROOT / "CITATION.cff").read_text()), PROJECT["project"]
    assert citation["version"] == rmsprop_optax.__version__
    assert citation["license"] == project["license"]
    assert citation["keywords"] == project["keywords"]
    assert citation["authors"] == project["authors"] == project["maintainers"]


def test_what_is_refused_at_import_is_what_pip_refuses():
    assert OLDEST == _versions._OLDEST


def with_versions(monkeypatch, **found):
    def version(name):
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    _versions._refuse_old()


@pytest.mark.parametrize("version", ["0.6.2", "0.6.2.dev20250630", "0.6", "0.6.99+cuda", "0"])
def test_an_old_version_is_refused_with_what_was_found_and_the_command(monkeypatch, version):
    said = rf'needs jax 0\.7\.0 or later \(found {re.escape(version)}\)\. Run: .* --upgrade "jax>=0\.7\.0"\. With a GPU'
    with pytest.raises(ImportError, match=said):
        with_versions(monkeypatch, **OLDEST | {"jax": version})


def test_all_that_is_too_old_is_said_at_once(monkeypatch):
    with pytest.raises(
        ImportError, match=r'optax 0\.2\.6 .*found 0\.2\.5.*, chex .*"optax>=0\.2\.6" "chex>=0\.1\.91"\.$'
    ):
        with_versions(monkeypatch, **OLDEST | {"optax": "0.2.5", "chex": "0.1.9"})


@pytest.mark.parametrize(
    "version",
    ["0.7.0", "0.7", "0.7.0rc1", "0.7.0.dev20250701", "0.7.1.dev3+gabc", "0.10.2", "0.12.0.1", "1", "unknown", None],
)
def test_the_oldest_and_what_is_newer_unfinished_or_unknown_is_not_refused(monkeypatch, version):
    with_versions(monkeypatch, **OLDEST | {"jax": version})
    with_versions(monkeypatch)  # nothing is known


def test_an_old_version_is_refused_before_it_is_imported(tmp_path):
    record = tmp_path / "jax-0.6.2.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.6.2\n")
    (tmp_path / "jax.py").write_text("raise AssertionError('imported')\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-S", "-c", "import rmsprop_optax"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ImportError: rmsprop_optax needs jax 0.7.0 or later (found 0.6.2)")


def test_the_supported_versions_stand_on_the_page_and_are_those_that_are_tested():
    page = (ROOT / "docs" / "quickstart.md").read_text()
    table = {
        name: (low, high) for name, low, high in re.findall(r"^\| ([\w, ]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    }
    oldest = {name: low for names, (low, _) in table.items() for name in names.split(", ")}
    assert oldest == {"Python": PYTHONS[0], **OLDEST}
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
    assert table["Python"] == (PYTHONS[0], PYTHONS[-1])
    assert re.search(r"for python in (.*); do", WHEEL)[1].split() == [f"python{version}" for version in PYTHONS]
    assert f"Python {', '.join(PYTHONS[:-1])} and {PYTHONS[-1]}" in CONTRIBUTING


# extras


def names_in(requirements):
    """Return the packages that requirements name, those of our own extras among them."""
    found = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", requirement).groups()
        found |= {name} if name != "rmsprop_optax" else names_in(r for e in extras.split(",") for r in EXTRAS[e])
    return found


PACKAGES = {"haiku": "dm-haiku", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn", "yaml": "pyyaml"}
PRESENT = {"numpy", "rmsprop_optax", *OLDEST}  # numpy comes with jax
LOCAL = {path.stem for folder in ("tests", "examples", "docs") for path in (ROOT / folder).iterdir()}


def packages_of(source, *, lazy=True):
    """Return the packages that a file imports, at its top and, if `lazy`, in functions."""
    tree = ast.parse(source)
    found = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return {PACKAGES.get(name, name) for name in found - set(sys.stdlib_module_names) - LOCAL} - PRESENT


def of_the_examples():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    blocks = (b for page in pages for b in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S))
    files = (path.read_text() for path in [*(ROOT / "examples").rglob("*.py"), *(ROOT / "docs").glob("[!c]*.py")])
    return set.union(*map(packages_of, [*blocks, *files]))


PLUGINS = {"keras_suite.py", "torch_suite.py"}  # of Keras' and PyTorch's own tests


def of_the_tests():
    files = [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "kit").glob("*.py")]
    sources = [path.read_text() for path in files if path.name not in PLUGINS]
    return set.union(*(packages_of(source, lazy=False) for source in sources))


def test_the_extra_of_the_examples_holds_what_they_and_the_pages_import():
    assert of_the_examples() - names_in(EXTRAS["examples"]) == {"keras", "torch"}  # which have extras of their own


def test_the_extra_of_the_tests_holds_what_they_import():
    assert of_the_tests() - names_in(EXTRAS["test"]) == set()
    assert names_in(EXTRAS["examples"]) <= names_in(EXTRAS["test"])


@pytest.mark.parametrize("extra", ["keras", "torch"])
def test_an_example_whose_package_is_an_extra_of_its_own_names_the_command(extra):
    assert names_in(EXTRAS[extra]) == {extra}
    users = [path for path in (ROOT / "examples").rglob("*.py") if extra in packages_of(path.read_text())]
    assert users
    for path in users:
        assert extra not in packages_of(path.read_text(), lazy=False)
        assert f"pip install -e '.[{extra}]'" in path.read_text()


@pytest.mark.full
def test_without_pytorch_its_example_says_what_to_install(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-W", "ignore", ROOT / "examples" / "port_from_torch.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "PyTorch is not installed, and its run is the one that moves here: pip install -e '.[torch]'\n"
    )


def test_the_group_of_developers_has_every_extra_for_work_on_the_package():
    groups = PROJECT["dependency-groups"]
    extras = re.match(r"rmsprop_optax\[(.*)\]$", groups["dev"][0])[1].split(",")
    assert extras == sorted(EXTRAS.keys() - {"examples", "keras", "plots", "torch"})  # `test` has examples and plots
    assert {"include-group": "release"} in groups["dev"]
    assert "install build --group release" in WHEEL


# linters


def linters():
    """Return the commands of .ci/run between the installation and the site."""
    lines = RUN.partition('".[lint]"\n\n')[2].partition("\n.ci/site\n")[0].splitlines()
    return [line.partition("#")[0].strip() for line in lines]


def test_the_hooks_before_a_commit_are_the_linters_of_ci():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == linters()
    assert {hook["language"] for hook in local["hooks"]} == {"system"}  # whose versions are those of the extra


def test_each_linter_has_one_version_in_one_place():
    pinned = dict(re.match(r"(\w+)(?:\[\w+\])?==(.+)", r).groups() for r in EXTRAS["lint"] if "==" in r)
    assert pinned.keys() == {line.split()[0] for line in linters()}
    for file in (".ci/run", ".ci/wheel", ".pre-commit-config.yaml", "CONTRIBUTING.md", ".github/workflows/tests.yml"):
        assert [name for name, version in pinned.items() if version in (ROOT / file).read_text()] == []


# workflows and releases


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_ci_tests_the_wheel_after_the_site():
    assert "\n.ci/site\n.ci/wheel\n" in RUN
    assert os.access(ROOT / ".ci" / "wheel", os.X_OK)


def test_the_workflow_of_tests_has_every_python_and_the_oldest_versions():
    jobs, oldest = TESTS["jobs"], " ".join(f"{name}=={version}" for name, version in OLDEST.items())
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert matrix["include"] == [{"python": PYTHONS[0], "versions": oldest}]
    assert f'pip install -e ".[test]" {oldest} && pytest' in CONTRIBUTING
    assert commands(jobs["tests"]) == ['pip install -e ".[test]" ${{ matrix.versions }} && pytest']
    assert commands(jobs["everything"]) == [".ci/run"]
    assert commands(jobs["wheel"]) == [".ci/wheel pythons"]
    (python,) = [step["with"]["python-version"] for step in jobs["wheel"]["steps"] if "with" in step]
    assert python.split() == PYTHONS
    assert {"push", "pull_request", "workflow_call"} <= TESTS[True].keys()  # to YAML, `on` is true


def test_a_release_is_published_only_after_its_tag_all_tests_and_the_wheel():
    jobs = RELEASE["jobs"]
    assert RELEASE[True] == {"push": {"tags": ["v*"]}}
    assert set(jobs["publish"]["needs"]) == jobs.keys() - {"publish"} == {"tag", "tests", "build"}
    assert all("if" not in job for job in jobs.values())  # which could run a job whose needs have failed
    assert commands(jobs["tag"]) == ['.ci/tag "$GITHUB_REF_NAME"']
    assert jobs["tests"]["uses"] == "./.github/workflows/tests.yml"
    assert commands(jobs["build"]) == [".ci/wheel"]


def test_only_the_job_that_publishes_may_more_than_read_and_it_has_no_password():
    assert RELEASE["permissions"] == TESTS["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in RELEASE["jobs"].items() if "permissions" in job} == {
        "publish": {"id-token": "write"}
    }
    uses = [step["uses"] for step in steps(TESTS) + steps(RELEASE) if "uses" in step]
    assert {use for use in uses if not re.fullmatch(r"actions/[\w-]+@v\d+", use)} == {
        "pypa/gh-action-pypi-publish@release/v1"
    }
    for file in ("tests.yml", "release.yml"):
        assert "secrets" not in (ROOT / ".github" / "workflows" / file).read_text()


TAGS = {  # what is written in a file, what is written instead, the tag, and what is said
    "right": ("CHANGELOG.md", "", "", "v{0}", None),
    "of another version": ("CHANGELOG.md", "", "", "v{0}1", "The tag is v{0}1, but .* whose tag is v{0}"),
    "without v": ("CHANGELOG.md", "", "", "{0}", "The tag is {0}, but"),
    "of a branch": ("CHANGELOG.md", "", "", "main", "The tag is main, but"),
    "not cited": ("CITATION.cff", "version: {0}", "version: 0.0.9", "v{0}", "CITATION.cff has version 0.0.9, but"),
    "unreleased": ("CHANGELOG.md", "(2026-12-01)", "(unreleased)", "v{0}", r"are of '{0} \(unreleased\)', not of"),
    "changed before": ("CHANGELOG.md", "## {0} ", "## 9.9.9 ", "v{0}", "are of '9.9.9 "),
}


@pytest.mark.parametrize("case", TAGS)
def test_a_tag_is_released_only_if_package_citation_and_changes_agree(case, tmp_path):
    file, old, new, tag, said = (text and text.format(rmsprop_optax.__version__) for text in TAGS[case])
    recorded = f"tests/recorded/states_of_releases/{rmsprop_optax.__version__}"
    for name in (".ci/tag", "rmsprop_optax/__init__.py", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / recorded).mkdir(parents=True)
    changes = re.sub(r"^(## \S+) .*", r"\1 (2026-12-01)", (ROOT / "CHANGELOG.md").read_text(), count=1, flags=re.M)
    (tmp_path / "CHANGELOG.md").write_text(changes)
    (tmp_path / file).write_text((tmp_path / file).read_text().replace(old, new, 1))
    done = subprocess.run([tmp_path / ".ci" / "tag", tag], capture_output=True, text=True)
    assert done.returncode == (said is not None)
    assert re.search(said, done.stderr) if said else done.stdout.strip() == rmsprop_optax.__version__


def test_a_tag_without_recorded_states_is_refused(tmp_path):
    for name in (".ci/tag", "rmsprop_optax/__init__.py", "CITATION.cff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(f"## {rmsprop_optax.__version__} (2026-12-01)\n")
    command = [tmp_path / ".ci" / "tag", f"v{rmsprop_optax.__version__}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "No states are recorded. Run: python tests/recorded" in done.stderr
