"""Run the real libraries over the recorded cases again, and compare.

    pip install $(python tests/recorded/trajectories/record.py torch optax --requirements)
    python tests/recorded/trajectories/record.py torch optax            # compare with what is recorded
    python tests/recorded/trajectories/record.py torch optax --write    # and record anew the cases that differ

A case in the recorded files says what to run: the library's own arguments, the parameters, the gradients and the
learning rate of each step. This script runs it with the versions below and compares the parameters after every step
and the last state with the recorded ones, within the file's own tolerance. It exits with 1 if any differ.

Of the 27 recorded files it regenerates 20, on Python 3.11 and Linux, each alike within 0.16 of its tolerance:

    torch timm sb3 optax jax_example_libraries mlx tf1 tf_keras tf_keras_legacy keras3 sonnet   in one environment
    paddle bitsandbytes pfrl climin                                                             in a second
    chainer mindspore autograd                                                                  in a third, numpy<2
    dreamer_v3 levanter                                                                         in a fourth

timm and pfrl do not import as a whole without their other requirements; their one file with the optimizer is loaded.
dreamer_v3 and levanter are read from checkouts, in the folders that the environment variables DREAMERV3 and LEVANTER
name: danijar/dreamerv3 at f8817c4, stanford-crfm/levanter at 9263f81. Levanter's rule calls jax.tree_map, which jax no
longer has.

This script does not run the other seven, whose files stay as they were recorded: keras224 needs TensorFlow 1.15,
lasagne Theano, mxnet a NumPy before 1.24, tfjs JavaScript; fastai, flax_optim and trax were recorded from the one file
with the optimizer, their imports stubbed.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1]))

from kit import trajectories  # noqa: E402
from recorded.trajectories import libraries  # noqa: E402

REQUIREMENTS = {
    "torch": "torch==2.13.0",
    "timm": "torch==2.13.0 timm==1.0.31",
    "sb3": "torch==2.13.0 stable-baselines3==2.9.2",
    "pfrl": "torch==2.13.0 pfrl==0.4.0",
    "bitsandbytes": "torch==2.13.0 bitsandbytes==0.50.2",
    "tf1": "tensorflow==2.21.0",
    "tf_keras_legacy": "tensorflow==2.21.0 tf_keras==2.21.0",
    "tf_keras": "tensorflow==2.21.0 tf_keras==2.21.0",
    "keras3": "keras==3.15.1 jax==0.10.2",
    "sonnet": "tensorflow==2.21.0 tf_keras==2.21.0 dm-sonnet==2.0.2",
    "optax": "optax==0.2.8 jax==0.10.2",
    "jax_example_libraries": "jax==0.10.2",
    "mlx": "mlx[cpu]==0.32.4",
    "chainer": "numpy<2 setuptools<70 chainer==7.8.1",
    "paddle": "paddlepaddle==3.3.1",
    "mindspore": "numpy<2 mindspore==2.10.0",
    "autograd": "autograd==1.9.1",
    "climin": "climin==0.1a1",
    "dreamer_v3": "jax==0.4.33 optax==0.2.4",
    "levanter": "jax==0.4.33 optax==0.2.4",
}


def compare(case):
    """Return how far the library is from its record, in units of the tolerances: 1 is the limit."""
    steps, state = libraries.RUNNERS[case.library](case)
    off = [0.0]
    for mine, theirs in zip(steps, case.trajectory, strict=True):
        for name, x in theirs.items():
            difference = np.abs(np.asarray(mine[name]) - x) / np.maximum(1, np.abs(x))
            off.append(np.max(difference, initial=0) / case.tolerance["params"])
    for key, tree in case.final_state.items():
        for name, x in tree.items():
            scale = np.max(np.abs(x), initial=0) or 1
            off.append(np.max(np.abs(np.asarray(state[key][name]) - x), initial=0) / scale / case.tolerance["state"])
    return max(off), steps, state


def flat(x):
    """Return the shortest decimals that read back as x; a complex number is two."""
    x = np.asarray(x)
    parts = np.stack([x.real, x.imag], -1) if np.iscomplexobj(x) else x
    return [float(str(number)) for number in parts.ravel()]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="+", choices=REQUIREMENTS)
    parser.add_argument("--write", action="store_true", help="record anew the cases that differ")
    parser.add_argument("--requirements", action="store_true", help="print what to install, and stop")
    args = parser.parse_args(arguments)
    if args.requirements:
        print(*dict.fromkeys(pin for library in args.library for pin in REQUIREMENTS[library].split()))
        return 0
    failed = 0
    for library in args.library:
        path = FOLDER / f"{library}.json"
        record, worst = json.loads(path.read_text()), 0.0
        cases = trajectories.cases(library)
        for raw, case in zip(record["cases"], cases, strict=True):
            off, steps, state = compare(case)
            worst = max(worst, off)
            if off > 1:
                failed += 1
                print(f"{case.id}: {off:.3g} times the tolerance")
                raw["params"] = [{name: flat(step[name]) for name in case.params} for step in steps]
                raw["final_state"] = {k: {n: flat(x) for n, x in tree.items()} for k, tree in state.items()}
        print(f"{library}: {len(cases)} cases, at most {worst:.2g} times the tolerance from the record")
        if args.write and worst > 1:
            path.write_text(json.dumps(record, separators=(",", ":")))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
