"""Run examples/multi_host.py and kill this process in the middle: `killed.py WHERE PROCESS STEP`, then its arguments.

WHERE is `step`, while it computes that step; `save`, while the checkpoint of that step is being written; or
`never`. What was restored is saved at once, beside the checkpoints, and must come back the same.
"""

import os
import signal
import sys
import threading
import time

import jax
import multi_host
import numpy as np
import orbax.checkpoint as ocp


def kill(where):
    print(f"killed in the {where}", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_step(victim, step):
    """Kill a process in its part of a step, once the checkpoint before it is complete."""
    batch, managers = multi_host.batch, []
    begin = ocp.CheckpointManager.__init__

    def remember(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        managers.append(self)

    def batch_or_end(i, *args):
        if i == step:
            while not (managers[0].directory / str(step - 1)).exists():  # it is renamed so when it is complete
                time.sleep(0.01)
            if jax.process_index() == victim:
                threading.Timer(0.2, kill, ["step"]).start()
            else:
                time.sleep(10)  # the victim is in the step and waits
        return batch(i, *args)

    ocp.CheckpointManager.__init__ = remember
    multi_host.batch = batch_or_end


def kill_in_save(victim, step):
    """Kill a process in a save, at the latest before the thread runs that would write its part."""
    save, start = ocp.CheckpointManager.save, threading.Thread.start

    def save_or_end(self, saved, *args, **kwargs):
        if saved == step and jax.process_index() == victim:
            self.wait_until_finished()
            threading.Thread.start = lambda thread: kill("save")
            save(self, saved, *args, **kwargs)
            kill("save")
        threading.Thread.start = start
        return save(self, saved, *args, **kwargs)

    ocp.CheckpointManager.save = save_or_end


def save_what_was_restored():
    restore = ocp.CheckpointManager.restore

    def restore_and_save(self, step, args):
        run = restore(self, step, args=args)
        folder = self.directory.parent / f"{self.directory.name}_{step}_again"
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder, run)
            checkpointer.wait_until_finished()
            again = checkpointer.restore(folder, args.item)
        same = jax.tree.map(lambda x, y: [np.array_equal(a.data, b.data) for a, b in shards(x, y)], run, again)
        assert jax.tree.all(same), same
        return run

    ocp.CheckpointManager.restore = restore_and_save


def shards(x, y):
    return zip(x.addressable_shards, y.addressable_shards, strict=True)


if __name__ == "__main__":
    where, victim, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.argv = ["multi_host.py", *sys.argv[4:]]
    if where == "step":
        kill_in_step(victim, step)
    elif where == "save":
        kill_in_save(victim, step)
    save_what_was_restored()
    multi_host.main()
