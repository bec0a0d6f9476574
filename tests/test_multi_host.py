"""A run of two processes is killed in a step and in a save, and goes on as if it had not been, on any number of them.

Each test launches examples/multi_host.py over loopback, with a time limit and at most one retry for its port.
"""

import pathlib
import re
import shutil
import signal

import chex
import jax
import numpy as np
import pytest
from kit.processes import launch

ocp = pytest.importorskip("orbax.checkpoint")

pytestmark = pytest.mark.full

KIT = pathlib.Path(__file__).parent / "kit"
STEPS, SAVE_EVERY = 12, 3
TINY = ["--width", "16", "--heads", "2", "--length", "16", "--batch", "8", "--steps", str(STEPS)]
TWICE_TWO, ONCE_FOUR = {"processes": 2, "devices": 2}, {"processes": 1, "devices": 4}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


class Runs:
    """One run, never stopped; and killed twice, then finished on as many processes and on another number of them."""

    def __init__(self, state, folder, programs):
        self.state, self.folder, self.programs = state, folder, programs
        self.whole = self.train("whole", TWICE_TWO)
        self.train("killed", TWICE_TWO, "step", victim=1, at=4)
        self.complete_after_step = self.complete("killed")
        self.train("killed", TWICE_TWO, "save", victim=0, at=9)
        self.complete_after_save = self.complete("killed")
        for name in ("alike", "elsewhere"):
            shutil.copytree(folder / "killed", folder / name)
        self.alike = self.train("alike", TWICE_TWO)
        self.elsewhere = self.train("elsewhere", ONCE_FOUR)

    def train(self, name, processes, kill="never", victim=0, at=0):
        """Train until killed or to the end, and return what each process printed."""
        saves = ["--folder", str(self.folder / name), "--save-every", str(SAVE_EVERY), "--keep", "9"]
        arguments = [kill, str(victim), str(at), "--state", self.state, *TINY, *saves]
        codes, printed = launch(KIT / "killed.py", arguments, **processes, folder=self.programs)
        if kill == "never":
            assert not any(codes), "\n".join(printed)
        else:
            assert codes[victim] == -signal.SIGKILL, "\n".join(printed)
            assert f"killed in the {kill}" in printed[victim]
        return printed

    def complete(self, name):
        """Return the steps whose checkpoints are complete."""
        return sorted(int(path.name) for path in (self.folder / name).iterdir() if path.name.isdigit())

    def read(self, name, step):
        """Return a checkpoint in NumPy."""
        folder = self.folder / name / str(step) / "default"
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.metadata(folder).item_metadata.tree
            return checkpointer.restore(folder, jax.tree.map(lambda x: np.empty(x.shape, x.dtype), found))


@pytest.fixture(scope="module", params=["plain", "byte", "nibble"])
def runs(request, tmp_path_factory, programs):
    return Runs(request.param, tmp_path_factory.mktemp(request.param), programs)


def loss_of(printed):
    return float(re.search(r"loss (\S+) nats", printed[0])[1])


def test_a_kill_leaves_the_checkpoints_before_it(runs):
    assert runs.complete_after_step == [1, 3]  # the first step is always saved
    assert runs.complete_after_save == [1, 3, 6]


def test_a_killed_run_goes_on_bit_for_bit_on_as_many_processes(runs):
    assert "steps 6 to 12" in runs.alike[0]
    for step in (6, 9, 12):
        same = jax.tree.map(np.array_equal, runs.read("whole", step), runs.read("alike", step))
        assert jax.tree.all(same), (step, same)
    assert loss_of(runs.whole) == loss_of(runs.alike)


def test_a_killed_run_is_finished_on_another_number_of_processes(runs):
    assert "steps 6 to 12 on 4 devices of 1 processes" in runs.elsewhere[0]
    whole, elsewhere = runs.read("whole", STEPS), runs.read("elsewhere", STEPS)
    chex.assert_trees_all_equal_shapes_and_dtypes(whole, elsewhere)
    if runs.state == "plain":  # sums in another order, nothing else
        chex.assert_trees_all_close(whole, elsewhere, rtol=0, atol=1e-6)
    assert abs(loss_of(runs.whole) - loss_of(runs.elsewhere)) < (2e-5 if runs.state == "plain" else 1e-3)


def test_one_process_shows_progress(runs):
    first, second = runs.whole
    assert f"{STEPS}/{STEPS}" in first
    assert f"{STEPS}/{STEPS}" not in second
    assert "steps 0 to 12 on 4 devices of 2 processes" in first


def test_counters_of_eager_init_and_restore_are_saved_by_several_processes(tmp_path, programs):
    codes, printed = launch(KIT / "eager_saves.py", [str(tmp_path)], **TWICE_TWO, folder=programs)
    assert codes == [0, 0], "\n".join(printed)


def test_a_process_that_hangs_is_killed_and_what_it_printed_is_shown(tmp_path):
    script = tmp_path / "hangs.py"
    script.write_text(
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('I wait', flush=True)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(AssertionError, match="not done in 5 s\nI wait"):
        launch(script, [], processes=2, devices=1, folder=tmp_path, limit=5)
