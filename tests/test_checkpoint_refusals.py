"""What an import from another framework refuses: each with its name, what was expected, what came, and the way out."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.foreign_states import keras_arrays, torch_state

from rmsprop_optax import checkpoint, dialects, rmsprop

W = ["w", "b"]
GOOD = torch_state()
HALF = {"state": {0: GOOD["state"][0]}, "param_groups": GOOD["param_groups"]}
ADAM = {"exp_avg": np.zeros(3), "exp_avg_sq": np.zeros(3), "square_avg": None}
TWO = torch_state(momentum=0.9)["param_groups"][0] | {"params": [1]}
SPLIT = {"state": GOOD["state"], "param_groups": [GOOD["param_groups"][0] | {"params": [0]}, TWO]}
TORCH = dialects.torch_rmsprop


def read(state_dict=GOOD, convert=None, **options):
    return checkpoint.from_torch(state_dict, convert, **({"names": W} | options))


def write(state_dict, state=None, **options):
    weights = {"w": np.zeros((2, 3)), "b": np.zeros(3)}
    state = TORCH(momentum=0.9).init(weights_like(weights)) if state is None else state
    return checkpoint.to_torch(state, state_dict, **({"weights": weights, "count": 1} | options))


def weights_like(weights):
    return {name: jnp.asarray(x, jnp.float32) for name, x in weights.items()}


def keras(variables=None, names=("w", "b"), **options):
    arrays = keras_arrays()
    return checkpoint.from_keras(arrays if variables is None else variables, names, **options)


SLOTS = {f"{w}{slot}": np.ones(3, np.float32) for w in ("w", "b") for slot in ("", "/RMSProp", "/RMSProp_1")}
SORTED = ["o/iteration", "o/learning_rate", "o/w_momentum", "o/w_velocity"]
BAD = np.array([1, np.nan, 1], np.float32)

REFUSALS = {
    "a path": (
        lambda: read("optimizer.pt"),
        TypeError,
        "torch.load.*weights_only=True",
    ),
    "a model's state_dict": (
        lambda: read({"w": 1}),
        ValueError,
        "an optimizer's.*found w",
    ),
    "a training checkpoint": (
        lambda: read({"optimizer": GOOD}),
        ValueError,
        "under `optimizer`",
    ),
    "groups without parameters": (
        lambda: read(GOOD | {"param_groups": [{"lr": 1}]}),
        ValueError,
        "not whole",
    ),
    "a parameter without statistics": (
        lambda: read(HALF),
        ValueError,
        "missing: b; unexpected: none",
    ),
    "statistics without a parameter": (
        lambda: read(torch_state(group={"params": [0]}), names=["w"]),
        ValueError,
        "unexpected: 1",
    ),
    "no statistics at all": (
        lambda: read(GOOD | {"state": {}}),
        ValueError,
        "missing: w, b.*init is the state",
    ),
    "Adam's statistics": (
        lambda: read(torch_state(changed={1: ADAM})),
        ValueError,
        "missing: square_avg; unexpected: exp_avg, exp_avg_sq",
    ),
    "half of a parameter's statistics": (
        lambda: read(torch_state(momentum=0.9, changed={1: {"momentum_buffer": None}})),
        ValueError,
        "statistics of b.*missing: momentum_buffer",
    ),
    "a buffer of another shape": (
        lambda: read(torch_state(momentum=0.9, changed={1: {"momentum_buffer": np.ones(4, np.float32)}})),
        ValueError,
        r"`momentum_buffer` of b must be float32 of shape \(3,\)",
    ),
    "a NaN": (
        lambda: read(torch_state(changed={1: {"square_avg": BAD}})),
        ValueError,
        "`square_avg` of b has values",
    ),
    "a negative mean square": (
        lambda: read(torch_state(changed={1: {"square_avg": -np.ones(3, np.float32)}})),
        ValueError,
        "below 0",
    ),
    "integers": (
        lambda: read(torch_state(changed={1: {"square_avg": np.ones(3, np.uint8)}})),
        TypeError,
        "uint8",
    ),
    "groups that keep different statistics": (
        lambda: read(SPLIT),
        ValueError,
        "differ in centered or momentum",
    ),
    "too few names": (
        lambda: read(names=["w"]),
        ValueError,
        "2 parameters.*got 1 names",
    ),
    "a name twice": (
        lambda: read(names=["w", "w"]),
        ValueError,
        "1 of them different",
    ),
    "another framework": (
        lambda: read(framework="jax"),
        ValueError,
        "torch, timm, sb3, pfrl",
    ),
    "another alpha": (
        lambda: read(tx=TORCH(alpha=0.9)),
        ValueError,
        r"`alpha` is 0.99, but `decay` is 0.9.*torch_rmsprop",
    ),
    "another lr": (
        lambda: read(tx=TORCH(lr=0.1)),
        ValueError,
        "`lr` is 0.01, but `learning_rate` is 0.1",
    ),
    "another schedule": (
        lambda: read(tx=TORCH(lr=lambda t: 0.1)),
        ValueError,
        "a schedule, at steps 4 and 5",
    ),
    "another decay of the weights": (
        lambda: read(tx=TORCH(weight_decay=0.1)),
        ValueError,
        "`weight_decay` is 0, but",
    ),
    "centering": (
        lambda: read(tx=TORCH(centered=True)),
        ValueError,
        "`centered` is False, but `centered` is True",
    ),
    "eps at another place": (
        lambda: read(tx=rmsprop(0.01, 0.99)),
        ValueError,
        "torch.optim.RMSprop has eps_in_sqrt=False.*is True",
    ),
    "the learning rate at another place": (
        lambda: read(torch_state(momentum=0.9), tx=rmsprop(0.01, 0.99, momentum=0.9, eps_in_sqrt=False)),
        ValueError,
        "lr_in_momentum=False",
    ),
    "another sign": (
        lambda: read(torch_state(group={"maximize": True}), tx=TORCH()),
        ValueError,
        "`maximize` is True",
    ),
    "timm's caution": (
        lambda: read(
            torch_state(group={"caution": True, "lr_in_momentum": True, "decoupled_decay": False}),
            tx=dialects.timm_rmsprop_tf(alpha=0.99, eps=1e-8),
        ),
        ValueError,
        "`caution` is True",
    ),
    "a chain, which says nothing of itself": (
        lambda: read(tx=optax.chain(TORCH())),
        TypeError,
        "rmsprop or a function",
    ),
    "a lost parameter": (
        lambda: read(convert=lambda w: {"w": w["w"]}),
        ValueError,
        r"Lost or doubled: b \(3 numbers",
    ),
    "a doubled parameter": (
        lambda: read(convert=lambda w: [w["w"], w["b"], w["b"]]),
        ValueError,
        "6 came out",
    ),
    "a name that is not there": (
        lambda: read(convert=lambda w: [w["c"]]),
        ValueError,
        "asks for 'c'.*those that have: w, b",
    ),
    "a scaled parameter": (
        lambda: read(convert=lambda w: [w["w"], 2.5 * w["b"]]),
        ValueError,
        "changes values",
    ),
    "a cast": (
        lambda: read(convert=lambda w: [w["w"], w["b"].astype(np.float16)]),
        TypeError,
        "keep the dtype.*float16",
    ),
    "another order of equal shapes, by name": (
        lambda: checkpoint.restore(rmsprop(0.1).init({"w": jnp.ones(3), "b": jnp.ones((2, 3))}), read()),
        ValueError,
        "must have shape",
    ),
    "torch's trace where the learning rate is inside": (
        lambda: checkpoint.restore(
            rmsprop(0.01, momentum=0.9).init({"w": jnp.ones((2, 3)), "b": jnp.ones(3)}), read(torch_state(momentum=0.9))
        ),
        ValueError,
        "minus the learning rate",
    ),
    "torch without the momentum of the state": (
        lambda: write(GOOD),
        ValueError,
        "momentum=0.0 ask for nu",
    ),
    "timm where the learning rate is outside": (
        lambda: write(torch_state(momentum=0.9, group={"lr_in_momentum": True})),
        ValueError,
        "Change the order",
    ),
    "other weights to write": (
        lambda: write(torch_state(momentum=0.9) | {"state": {}}, weights={"w": np.ones((3, 2)), "b": np.ones(3)}),
        ValueError,
        r"w: \(3, 2\) from the weights, \(2, 3\) in the state",
    ),
    "too few weights to write": (
        lambda: write(torch_state(momentum=0.9), weights={"w": np.ones((2, 3))}),
        ValueError,
        "2 parameters, got 1",
    ),
    "a state that does not count": (
        lambda: write(torch_state(momentum=0.9), count=None),
        ValueError,
        "Pass `count`",
    ),
    "a count that is not the state's": (
        lambda: write(GOOD, state=TORCH(lr=lambda t: 0.1).init({"w": jnp.ones(3)}), count=3),
        ValueError,
        "that of `state`, 0",
    ),
    "a file's name for Keras": (
        lambda: keras("model.keras"),
        TypeError,
        "h5py",
    ),
    "too few variables": (
        lambda: keras(keras_arrays()[:3]),
        ValueError,
        "4 arrays, got 3",
    ),
    "a name too few": (
        lambda: keras(names=["w"], config={}),
        ValueError,
        "3 arrays, got 4",
    ),
    "Adam's variables": (
        lambda: keras(keras_arrays(*keras_arrays()[2:]), config={"beta_1": 0.9}),
        ValueError,
        "`config` must be that of an RMSprop.*got beta_1",
    ),
    "what could be momentum or average": (
        lambda: keras(keras_arrays(*keras_arrays()[2:])),
        ValueError,
        "Pass `config`",
    ),
    "variables in another order": (
        lambda: keras(keras_arrays(*keras_arrays()[:1:-1]), config={"momentum": 0.9}),
        ValueError,
        "in another order",
    ),
    "paths in another order": (
        lambda: keras(dict(zip(SORTED, keras_arrays(np.ones(3, np.float32))[1:], strict=True)), names=["w"]),
        ValueError,
        "ends in velocity, got o/w_momentum",
    ),
    "a number left out": (
        lambda: keras({"0": 1, "2": 1}),
        ValueError,
        "numbered 0, 1",
    ),
    "Keras with another rho": (
        lambda: keras(config={"rho": 0.9}, tx=dialects.keras_rmsprop(0.01, rho=0.8)),
        ValueError,
        "`rho` is 0.9, but `decay` is 0.8",
    ),
    "Keras with another learning rate": (
        lambda: keras(tx=dialects.keras_rmsprop(0.1)),
        ValueError,
        "`learning_rate` is 0.00999",
    ),
    "Keras with a NaN": (
        lambda: keras([*keras_arrays()[:3], BAD]),
        ValueError,
        "`velocity` of b",
    ),
    "a path for TensorFlow": (
        lambda: checkpoint.from_tf1("model.ckpt"),
        TypeError,
        "load_checkpoint",
    ),
    "Adam's slots": (
        lambda: checkpoint.from_tf1({"w": 1, "w/Adam": 1, "w/Adam_1": 1}),
        ValueError,
        "are Adam, w",
    ),
    "a slot left out": (
        lambda: checkpoint.from_tf1({k: x for k, x in SLOTS.items() if k != "b/RMSProp_1"}),
        ValueError,
        "b must have the slots",
    ),
    "a slot too many": (
        lambda: checkpoint.from_tf1(SLOTS | {"w/RMSProp_3": 1}),
        ValueError,
        "w must have the slots",
    ),
    "a centered optimizer for slots that are not": (
        lambda: checkpoint.from_tf1(SLOTS, tx=dialects.tf1_rmsprop(0.1, centered=True)),
        ValueError,
        "`centered` is False",
    ),
    "slots of other shapes": (
        lambda: checkpoint.from_tf1(SLOTS | {"w/RMSProp_1": np.ones(4)}),
        ValueError,
        "like its `RMSProp`",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_an_import_refuses(why):
    call, error, message = REFUSALS[why]
    with pytest.raises(error, match=f"(?s){message}"):
        call()
