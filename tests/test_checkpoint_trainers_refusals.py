"""What an import of a trainer's file refuses: each with its name, what was expected, what came, and the way out."""

import json
import sys
import types
import unittest.mock

import numpy as np
import optax
import pytest
from kit.foreign_states import agent_with, archive, keras_paths, object_based, torch_state

from rmsprop_optax import checkpoint, dialects, rmsprop

TORCH = dialects.torch_rmsprop
W = ["w", "b"]
WEIGHTS = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32)}
NAMED = torch_state(group={"param_names": W})
BY_NAME = dict(zip(W, NAMED["state"].values(), strict=True))
GROUP = NAMED["param_groups"][0]
BATCH_NORM = ["w", "b", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]


def read(state_dict, convert=None, **options):
    return checkpoint.from_torch(state_dict, convert, **options)


def masked(mask):
    switches = {"eps_in_sqrt": False, "lr_in_momentum": False, "decoupled_weight_decay": False}
    return rmsprop(0.01, 0.99, weight_decay=0.1, weight_decay_mask=mask, **switches)


def write(state_dict, weights):
    return checkpoint.to_torch(TORCH().init(WEIGHTS), state_dict, weights, count=1)


def keras(variables, names=("a/w", "b"), **options):
    return checkpoint.from_keras(variables, names, **options)


def agent(policy_kwargs):
    data = json.dumps({"policy_kwargs": policy_kwargs})
    return archive({"data": data, "policy.pth": "", "policy.optimizer.pth": ""})


def agent_without_pytorch():
    with unittest.mock.patch.dict(sys.modules, {"torch": None}):
        return checkpoint.from_sb3(agent({"optimizer_class": "<class 'torch.optim.rmsprop.RMSprop'>"}))


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
    "weights whose order is not that of the statistics": (
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
    "statistics whose names the groups do not have": (
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
    "a mask that decays what its group does not": (
        lambda: read(NAMED, tx=masked({"w": True, "b": True})),
        ValueError,
        "`weight_decay` is 0, but `weight_decay` is 0.1",
    ),
    "a mask that does not decay what its group does": (
        lambda: read(torch_state(group={"param_names": W, "weight_decay": 0.1}), tx=masked({"w": False, "b": False})),
        ValueError,
        "`weight_decay` is 0.1, but `weight_decay` is None",
    ),
    "a mask that divides a group": (
        lambda: read(torch_state(group={"param_names": W, "weight_decay": 0.1}), tx=masked({"w": True, "b": False})),
        ValueError,
        r"divides `param_groups\[0\]`: w decays and b does not",
    ),
    "a mask of another tree": (
        lambda: read(NAMED, tx=masked({"w": True, "c": False})),
        ValueError,
        "must fit what `convert` returns",
    ),
    "a list with an optimizer too many for the groups": (
        lambda: read(NAMED, tx=[TORCH(), TORCH()]),
        ValueError,
        "one for each of the 1 `param_groups`, got 2",
    ),
    "another rate in the second group": (
        lambda: read(
            {"state": BY_NAME, "param_groups": [GROUP | {"params": W[:1]}, GROUP | {"params": W[1:], "lr": 0.5}]},
            tx=[TORCH(), TORCH(lr=0.1)],
        ),
        ValueError,
        r"`param_groups\[1\]`: `lr` is 0.5, but `learning_rate` is 0.1",
    ),
    "a partition, which hides its optimizers": (
        lambda: read(NAMED, tx=optax.partition({"a": TORCH()}, "a")),
        TypeError,
        "optax.partition hide them.*for optax.partition, pass a list with one optimizer for each of `param_groups`",
    ),
    "a parameter to start that is none": (
        lambda: checkpoint.adapt(TORCH().init(WEIGHTS), TORCH(), WEIGHTS, start=["c"]),
        ValueError,
        "`start` names c, but `tx` has no such parameter",
    ),
    "a parameter to start that has run": (
        lambda: checkpoint.adapt(TORCH().init(WEIGHTS), TORCH(), WEIGHTS, start=["w"]),
        ValueError,
        "`start` names w, but `old_state` has moments for it",
    ),
    "a path to start that is not in a list": (
        lambda: checkpoint.adapt(TORCH().init(WEIGHTS), TORCH(), WEIGHTS, start="w"),
        TypeError,
        "`start` must be a list",
    ),
    "two blocks of Keras by place, which say nothing of themselves": (
        lambda: keras([*keras_paths("average", "velocity").values()], tx=dialects.keras_rmsprop(0.01, momentum=0.9)),
        ValueError,
        "more than one for each weight.*Pass `config`",
    ),
    "the configuration of Adagrad": (
        lambda: keras([*keras_paths("accumulator").values()], config={"name": "adagrad", "learning_rate": 0.1}),
        ValueError,
        "got that of adagrad, which has no `rho`",
    ),
    "Adam of Keras by path": (
        lambda: keras(keras_paths("momentum", "velocity")),
        ValueError,
        "ends in velocity, got o/a_w_momentum",
    ),
    "Adadelta of Keras by path": (
        lambda: keras(keras_paths("accumulated_grad", "accumulated_delta_var")),
        ValueError,
        "another optimizer's",
    ),
    "SGD of Keras by path": (
        lambda: keras(keras_paths("momentum")),
        ValueError,
        "have no velocity",
    ),
    "two optimizers of Keras": (
        lambda: keras(keras_paths("velocity", header=["o/iteration", "p/iteration"])),
        ValueError,
        "must be iteration, learning_rate",
    ),
    "names that are not the paths of Keras' weights": (
        lambda: keras(keras_paths("velocity"), names=["w", "b"]),
        ValueError,
        r"paths of the 2 weights with a velocity, a_w, b.*got w, b.*model.trainable_variables",
    ),
    "names that paths cannot tell apart": (
        lambda: keras(keras_paths("velocity"), names=["a/w", "a_w"]),
        ValueError,
        "paths of the 2 weights",
    ),
    "a scalar that could be a rate or a weight": (
        lambda: keras([np.array(5), np.float32(0.1), np.float32(1)], names=["v", "w"]),
        ValueError,
        "4 arrays, got 3",
    ),
    "a learning rate where there is a schedule": (
        lambda: keras([*keras_paths("velocity").values()], config={"learning_rate": {"class_name": "CosineDecay"}}),
        ValueError,
        "4 arrays, got 4",
    ),
    "momentum that Keras did not have": (
        lambda: keras(keras_paths("velocity"), tx=dialects.keras_rmsprop(0.01, momentum=0.9)),
        ValueError,
        "momentum=0.9, but the variables are those of an optimizer without momentum",
    ),
    "centering that Keras had": (
        lambda: keras(keras_paths("velocity", "average_gradient"), tx=dialects.keras_rmsprop(0.01)),
        ValueError,
        "an optimizer with centered",
    ),
    "an object-based checkpoint of Keras": (
        lambda: checkpoint.from_tf1(object_based(optimizer___variables__2=np.ones(3))),
        ValueError,
        "object-based tf.train.Checkpoint without slots.*checkpoint.from_keras",
    ),
    "an object-based checkpoint of two optimizers": (
        lambda: checkpoint.from_tf1(object_based("rms") | object_based("rms", optimizer="other")),
        ValueError,
        "the slots of optimizer and other. Pass the keys of one",
    ),
    "an object-based checkpoint of Adam": (
        lambda: checkpoint.from_tf1(object_based("m", "v")),
        ValueError,
        "must have the slots rms.*got m, v",
    ),
    "an object-based checkpoint with a slot left out": (
        lambda: checkpoint.from_tf1(
            {k: x for k, x in object_based("rms", "momentum").items() if "b/.OPTIMIZER_SLOT/optimizer/rms" not in k}
        ),
        ValueError,
        "must have the slots rms",
    ),
    "a zip file that is not an agent": (
        lambda: checkpoint.from_sb3(archive({"model.weights.h5": ""})),
        ValueError,
        "has no data, policy.pth, policy.optimizer.pth; found model.weights.h5",
    ),
    "an agent with Adam by default": (
        lambda: checkpoint.from_sb3(agent({"net_arch": "[4]"})),
        ValueError,
        "must be torch.optim.RMSprop or RMSpropTFLike, got its default, Adam",
    ),
    "an agent with another optimizer": (
        lambda: checkpoint.from_sb3(agent({"optimizer_class": "<class 'torch.optim.sgd.SGD'>"})),
        ValueError,
        "got <class 'torch.optim.sgd.SGD'>",
    ),
    "an agent whose optimizer has a part of its policy": (
        lambda: checkpoint.from_sb3(agent_with({"q.w": 0, "target.w": 1})),
        ValueError,
        "has 1 parameters and the policy 2. Pass `names`.*q.w, target.w",
    ),
    "a name that the policy does not have": (
        lambda: checkpoint.from_sb3(agent_with({"q.w": 0, "target.w": 1}), names=["w"]),
        ValueError,
        "unknown: w; it has q.w, target.w",
    ),
    "an agent where PyTorch is not installed": (
        agent_without_pytorch,
        ImportError,
        "pip install torch",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_an_import_refuses(why):
    call, error, message = REFUSALS[why]
    with pytest.raises(error, match=f"(?s){message}"):
        call()
