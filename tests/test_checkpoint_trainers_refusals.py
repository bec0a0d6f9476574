"""What an import of a trainer's file refuses: each with its name, what was expected, what came, and the way out."""

import types

import numpy as np
import pytest
from kit.foreign_states import torch_state

from rmsprop_optax import checkpoint, dialects

TORCH = dialects.torch_rmsprop
W = ["w", "b"]
WEIGHTS = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}
NAMED = torch_state(group={"param_names": W})
BATCH_NORM = ["w", "b", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]


def read(state_dict, convert=None, **options):
    return checkpoint.from_torch(state_dict, convert, **options)


def write(state_dict, weights):
    return checkpoint.to_torch(TORCH().init(WEIGHTS), state_dict, weights, count=1)


REFUSALS = {
    "names that contradict the file": (
        lambda: read(NAMED, names=["b", "w"]),
        ValueError,
        r"records the names.*w \(`names` has b there\), b \(`names` has w there\).*Leave `names` out",
    ),
    "names that contradict one group of the file": (
        lambda: read(
            {
                "state": NAMED["state"],
                "param_groups": [
                    {"params": [0], "param_names": ["w"]},
                    {"params": [1]},
                ],
            },
            names=["b", "w"],
        ),
        ValueError,
        "contradicts them: w",
    ),
    "fewer recorded names than parameters": (
        lambda: read(torch_state(group={"param_names": ["w"]})),
        ValueError,
        r"`param_groups\[0\]` must have a name",
    ),
    "a parameter in two groups": (
        lambda: read(torch_state(group={"params": [0, 0, 1]})),
        ValueError,
        "a parameter twice",
    ),
    "weights in another order than the statistics": (
        lambda: read(torch_state(), names=dict(reversed(WEIGHTS.items()))),
        ValueError,
        r"`square_avg` of b has shape \(2, 3\).*`names` has shape \(3,\).*one group after those of the other",
    ),
    "numbers for a function of names": (
        lambda: read(torch_state(), lambda weights: {name.replace(".", "_"): x for name, x in weights.items()}),
        ValueError,
        "numbers its 2 parameters and `convert` takes names. Pass `names`",
    ),
    "names of buffers": (
        lambda: read(torch_state(), names=BATCH_NORM),
        ValueError,
        r"2 parameters.*got 5 names.*Buffers are no parameters: bn.running_mean.*model.named_parameters\(\)",
    ),
    "two optimizers of Lightning": (
        lambda: read({"optimizer_states": [NAMED, NAMED]}),
        ValueError,
        r'a list of 2 optimizers. Pass one, checkpoint\["optimizer_states"\]\[0\]',
    ),
    "no optimizer of Lightning": (
        lambda: read([]),
        ValueError,
        "a list of 0 optimizers",
    ),
    "a tensor of which each process has a part": (
        lambda: read(torch_state(changed={1: {"square_avg": types.SimpleNamespace(full_tensor=None)}})),
        ValueError,
        "StateDictOptions.full_state_dict=True",
    ),
    "groups that differ in the order of the learning rate": (
        lambda: read(
            {
                "state": NAMED["state"],
                "param_groups": [{"params": [0], "lr_in_momentum": True}, {"params": [1], "lr_in_momentum": False}],
            }
        ),
        ValueError,
        "differ in lr_in_momentum",
    ),
    "statistics by other names than the groups": (
        lambda: read({"state": {"c": NAMED["state"][0]}, "param_groups": [{"params": ["w"]}]}),
        ValueError,
        "missing: w; unexpected: c",
    ),
    "weights by other names to write": (
        lambda: write(NAMED, {"w": WEIGHTS["w"], "c": WEIGHTS["b"]}),
        ValueError,
        r"records the names.*b \(`weights` has c there\)",
    ),
    "weights in another order to write, where their shapes tell": (
        lambda: write(torch_state(), dict(reversed(WEIGHTS.items()))),
        ValueError,
        r"`square_avg` of b has shape \(2, 3\).*`weights` has shape \(3,\)",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_an_import_refuses(why):
    call, error, message = REFUSALS[why]
    with pytest.raises(error, match=f"(?s){message}"):
        call()
