"""Run a script in several processes over loopback, with an end for certain."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
TAKEN = ("address already in use", "failed to add port")


def launch(script, arguments, *, processes, devices, folder, limit=100):
    """Return the exit codes of the processes and what each printed; -9 is a process that was killed.

    When one process fails, and after the limit, in seconds, the others get SIGKILL, as a cluster's scheduler would do:
    JAX catches SIGTERM, and a process can wait for a dead one for ever.
    """
    for _ in range(2):  # somebody else may take the free port first
        codes, printed = launch_once(script, arguments, processes, devices, folder, limit)
        if not any(codes) or not any(words in text.lower() for text in printed for words in TAKEN):
            break
    return codes, printed


def launch_once(script, arguments, processes, devices, folder, limit):
    folder.mkdir(exist_ok=True)
    address, started, logs = f"localhost:{free_port()}", [], []
    try:
        for process in range(processes):
            logs.append(folder / f"printed_by_{process}")
            place = ["--coordinator", address, "--processes", str(processes), "--process", str(process)]
            command = [sys.executable, script, *arguments, *(place if processes > 1 else [])]
            with logs[-1].open("w") as log:
                started.append(subprocess.Popen(command, env=environment(devices, folder), stdout=log, stderr=log))
        deadline = time.monotonic() + limit
        while any(process.poll() is None for process in started):
            assert time.monotonic() < deadline, f"not done in {limit} s\n" + "\n".join(ends(logs))
            if any(process.poll() for process in started):
                break
            time.sleep(0.05)
    finally:
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
    return [process.returncode for process in started], ends(logs)


def ends(logs):
    return [log.read_text(errors="replace")[-5000:] for log in logs]


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def environment(devices, folder):
    """Return this one's environment, with devices of its own and one cache of programs for all launches of a test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    ours = [str(ROOT), str(ROOT / "examples"), kept.get("PYTHONPATH", "")]
    return kept | {
        "PYTHONPATH": os.pathsep.join(filter(None, ours)),
        "PYTHONWARNINGS": "ignore",
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",  # else eager reductions of several processes wait for ever
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
