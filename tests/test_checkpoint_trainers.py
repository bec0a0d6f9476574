"""What trainers wrap around an optimizer's state: other orders, other forms, and names that are in the file."""

import copy

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import training
from kit.foreign_states import agent_with, keras_paths, object_based, torch_state

from rmsprop_optax import checkpoint, compression, dialects, recipes, rmsprop

WEIGHTS = {name: np.full((2, 2), i + 1.0, np.float32) for i, name in enumerate(("a.weight", "a.bias", "b.weight"))}
GROUPED = ["a.weight", "b.weight", "a.bias"]  # those that decay, and those that do not


def grouped(recorded=False, key=lambda i, name: i):
    """Make the state of an optimizer with two groups, its statistics filled with the number of their parameter."""
    numbers = torch_state()["param_groups"][0]
    groups = [numbers | {"params": GROUPED[:2], "weight_decay": 0.1}, numbers | {"params": GROUPED[2:]}]
    if recorded:
        groups = [group | {"param_names": group["params"]} for group in groups]
    place = {name: key(i, name) for i, name in enumerate(GROUPED)}
    groups = [group | {"params": [place[name] for name in group["params"]]} for group in groups]
    entries = {place[name]: {"step": 5.0, "square_avg": WEIGHTS[name]} for name in GROUPED}
    return {"state": entries, "param_groups": groups}


def flattened(state_dict):
    statistics = {f"state.{n}.{k}": x for n, entry in state_dict["state"].items() for k, x in entry.items()}
    numbers = {
        f"param_groups.{name}.{k}": x
        for group in state_dict["param_groups"]
        for name in group["params"]
        for k, x in group.items()
        if k != "params"
    }
    return statistics | numbers


BY_NAME = grouped(key=lambda i, name: name)
FORMS = {
    "by number, with names for each group one after the other": (grouped(), {"names": GROUPED}),
    "by number, with weights for each group one after the other": (
        grouped(),
        {"names": {name: WEIGHTS[name] for name in GROUPED}},
    ),
    "by number, with names in the file": (grouped(recorded=True), {}),
    "by number, with names in the file and the same from the call": (grouped(recorded=True), {"names": GROUPED}),
    "by number, with names in the file and weights in any order": (grouped(recorded=True), {"names": WEIGHTS}),
    "by name, as FSDP writes it": (BY_NAME, {}),
    "by name, with other names in `param_names`": (grouped(recorded=True, key=lambda i, name: name), {}),
    "flattened, as torch.distributed.checkpoint writes it": (flattened(BY_NAME), {}),
    "numbers as text, as JSON has them": (
        grouped() | {"state": {str(i): entry for i, entry in grouped()["state"].items()}},
        {"names": GROUPED},
    ),
    "in Lightning's checkpoint": ({"optimizer_states": [grouped(recorded=True)], "state_dict": {}}, {}),
    "in Lightning's list": ([grouped(recorded=True)], {}),
}


def nested(weights):
    return {"a": {"kernel": weights["a.weight"].T, "bias": weights["a.bias"]}, "b": weights["b.weight"]}


@pytest.mark.parametrize("form", FORMS)
def test_statistics_meet_their_parameters(form):
    state_dict, options = FORMS[form]
    moments = checkpoint.from_torch(state_dict, nested, **options)
    jax.tree.map(np.testing.assert_array_equal, moments["nu"], nested(WEIGHTS))
    assert moments["count"] == 5


@pytest.mark.parametrize("form", FORMS)
def test_statistics_meet_their_parameters_on_the_way_back(form):
    state_dict, options = FORMS[form]
    tx = dialects.torch_rmsprop()
    moments = checkpoint.from_torch(state_dict, nested, **options)
    state = checkpoint.restore(tx.init(nested(jax.tree.map(jnp.asarray, WEIGHTS))), moments)
    weights = {name: WEIGHTS[name] for name in GROUPED} if options else WEIGHTS
    back = checkpoint.to_torch(state, state_dict, weights, nested, count=5)
    assert back.keys() == (flattened(BY_NAME).keys() if "flattened" in form else {"state", "param_groups"})
    again = checkpoint.from_torch(back, nested, **options)
    jax.tree.map(np.testing.assert_array_equal, again, moments)


def test_the_names_of_a_grouped_optimizer_of_pytorch_are_used_in_both_directions():
    torch = pytest.importorskip("torch")
    parameters = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in WEIGHTS.items()}
    groups = [
        {"params": [(name, parameters[name]) for name in names], "weight_decay": decay}
        for names, decay in ((GROUPED[:2], 0.1), (GROUPED[2:], 0))
    ]
    optimizer = torch.optim.RMSprop(groups)
    for name, parameter in parameters.items():
        parameter.grad = torch.tensor(WEIGHTS[name])
    optimizer.step()
    moments = checkpoint.from_torch(optimizer.state_dict(), nested)
    assert np.argmax([np.max(moments["nu"]["a"]["bias"]), np.max(moments["nu"]["b"])]) == 1
    state = checkpoint.restore(dialects.torch_rmsprop().init(nested(jax.tree.map(jnp.asarray, WEIGHTS))), moments)
    fresh = torch.optim.RMSprop(groups)
    back = checkpoint.to_torch(state, fresh.state_dict(), parameters, nested, count=1, as_tensor=torch.as_tensor)
    fresh.load_state_dict(back)
    for parameter in parameters.values():
        assert torch.equal(fresh.state[parameter]["square_avg"], optimizer.state[parameter]["square_avg"])


# Groups: two rates, decay and no decay.


def test_a_mask_of_decay_is_compared_with_the_groups():
    mask = {"a": {"kernel": True, "bias": False}, "b": True}
    numbers = {"eps": 1e-8, "eps_in_sqrt": False, "lr_in_momentum": False, "decoupled_weight_decay": False}
    for given in (mask, lambda params: mask, {"a": mask["a"], "b": True}):
        tx = rmsprop(0.01, 0.99, weight_decay=0.1, weight_decay_mask=given, **numbers)
        checkpoint.from_torch(BY_NAME, nested, tx=tx)


def test_a_run_with_two_groups_goes_on_in_a_partition():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    grads = [{name: rng.normal(size=(2, 2)).astype(np.float32) for name in WEIGHTS} for _ in range(8)]
    parameters = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in WEIGHTS.items()}
    numbers = [{"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.2, "weight_decay": 0.0}]
    groups = [
        {"params": [parameters[name] for name in names], **n}
        for names, n in zip((GROUPED[:2], GROUPED[2:]), numbers, strict=True)
    ]
    optimizer, path = torch.optim.RMSprop(groups, momentum=0.9), []
    for i, g in enumerate(grads):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(g[name])
        optimizer.step()
        path.append({name: parameter.detach().numpy().copy() for name, parameter in parameters.items()})
        if i == 3:
            half_way = copy.deepcopy(optimizer.state_dict())
    each = [dialects.torch_rmsprop(momentum=0.9, **n) for n in numbers]
    labels = {"a": {"kernel": "decay", "bias": "rest"}, "b": "decay"}
    tx = optax.partition({"decay": each[0], "rest": each[1]}, labels)
    params = jax.tree.map(jnp.asarray, nested(path[3]))
    moments = checkpoint.from_torch(half_way, nested, names=GROUPED, tx=each)
    state = checkpoint.restore(tx.init(params), moments)
    here, state = training.path(tx, [jax.tree.map(jnp.asarray, nested(g)) for g in grads[4:]], params, state)
    for ours, theirs in zip(here, path[4:], strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, nested(theirs))
    back = checkpoint.to_torch(state, half_way, {name: WEIGHTS[name] for name in GROUPED}, nested, count=8)
    theirs = optimizer.state_dict()["state"]
    for i, entry in back["state"].items():
        np.testing.assert_allclose(entry["momentum_buffer"], theirs[i]["momentum_buffer"], rtol=1e-5)


# `recipes` and what wraps an optimizer: the RMSprop inside is compared.

INSIDE = {
    "a recipe": (recipes.a3c(None, 0.01, source="sb3"), {"eps": 1e-5}),
    "a recipe that is a dialect": (recipes.wgan(0.01), {}),
    "codes": (compression.compressed(dialects.torch_rmsprop(), nu=compression.RmsByte()), {}),
    "codes of a recipe": (compression.compressed(recipes.wgan(0.01), nu=compression.RmsByte()), {}),
    "master weights": (compression.with_master_weights(dialects.torch_rmsprop()), {}),
}


@pytest.mark.parametrize("what", INSIDE)
def test_the_optimizer_is_found_inside_of(what):
    tx, numbers = INSIDE[what]
    checkpoint.from_torch(torch_state(group=numbers), tx=tx)
    with pytest.raises(ValueError, match=r"`eps` is 0\.25, but"):
        checkpoint.from_torch(torch_state(group={"eps": 0.25}), tx=tx)


# A layer that was frozen.


@pytest.mark.parametrize("wrap", ["masked", "partition"])
def test_a_layer_that_was_frozen_starts_where_it_is_asked_for_and_the_rest_goes_on(wrap):
    params = {"body": {"w": jnp.ones(2)}, "head": {"w": jnp.ones(3), "b": jnp.ones(1)}}
    inner, falling = {"momentum": 0.9, "centered": True}, optax.linear_schedule(0.1, 0.0, 10)
    trained = jax.tree.map(lambda _: False, params) | {"head": {"w": True, "b": True}}
    old = rmsprop(falling, **inner)
    if wrap == "masked":
        frozen = optax.masked(old, trained)
    else:
        labels = jax.tree.map(lambda on: "train" if on else "stop", trained)
        frozen = optax.partition({"train": old, "stop": optax.set_to_zero()}, labels)
    _, state = frozen.update(params, frozen.init(params), params)
    tx = rmsprop(falling, **inner)
    with pytest.raises(ValueError, match=r"missing: body/w.*`start` names them"):
        checkpoint.adapt(state, tx, params)
    moved, report = checkpoint.adapt(state, tx, params, start=["body"])
    for name in ("variance", "mu", "trace"):
        tree = optax.tree.get(moved, name)
        assert not tree["body"]["w"].any()
        assert tree["head"]["w"].all()
    started = {"0/variance/body/w", "0/mu/body/w", "2/trace/body/w"}
    assert {path for path, became in report.items() if became == "started"} == started
    assert optax.tree.get(moved, "count") == 1
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, tx.init(params))


# Stable-Baselines3.


def test_the_weights_of_an_agent_s_optimizer_are_given_by_name_or_are_all_of_the_policy_each_once():
    named = checkpoint.from_sb3(agent_with({"q.w": 0, "target.w": 1}), names=["q.w"])
    assert named.moments["count"] == 1
    shared = checkpoint.from_sb3(agent_with({"q.w": 0, "again.w": 0}))
    assert named.params.keys() == shared.params.keys() == {"q.w"}


# Keras and TensorFlow.


def test_variables_of_keras_are_read_by_path_in_any_order_of_names_and_without_a_learning_rate():
    variables = keras_paths("velocity", "momentum", "average_gradient", header=["o/iteration"])
    expected = checkpoint.from_keras(variables, ["a/w", "b"])
    assert expected["count"] == 5
    assert expected["mu"]["a/w"].shape == (2, 3)
    jax.tree.map(np.testing.assert_array_equal, checkpoint.from_keras(variables, ["b", "a/w"]), expected)
    only = keras_paths("velocity")
    found = checkpoint.from_keras(dict(sorted(only.items())), ["b", "a/w"])
    assert found["nu"]["b"].shape == (3,)


def test_variables_of_keras_without_a_learning_rate_are_read_by_place_where_config_tells_them():
    arrays = list(keras_paths("velocity", "momentum", header=["o/iteration"]).values())
    config = {"momentum": 0.9, "learning_rate": {"class_name": "CosineDecay"}}
    moments = checkpoint.from_keras(arrays, ["w", "b"], config=config)
    assert moments["nu"]["b"].tolist() == [1, 1, 1]
    assert moments["trace"]["b"].tolist() == [-2, -2, -2]


def test_one_weight_with_a_schedule_and_momentum_is_not_taken_for_one_with_a_learning_rate():
    arrays = [np.array(5), np.float32(1), np.float32(2)]  # iteration, velocity, momentum
    config = {"momentum": 0.9, "learning_rate": {"class_name": "CosineDecay"}}
    moments = checkpoint.from_keras(arrays, ["w"], config=config)
    assert (moments["nu"]["w"], moments["trace"]["w"]) == (1, -2)


def test_gradients_that_keras_accumulates_are_not_steps():
    variables = keras_paths("gradient_accumulator", "velocity")
    with pytest.warns(UserWarning, match="accumulated gradients.*counts gradients, not steps"):
        assert "count" not in checkpoint.from_keras(variables, ["a/w", "b"])
    with pytest.warns(UserWarning, match="accumulated gradients"):
        moments = checkpoint.from_keras(variables, ["a/w", "b"], config={"gradient_accumulation_steps": 2})
    assert moments["count"] == 2


OBJECTS = {
    "of TensorFlow 1": (object_based("rms", "mg", "momentum", global_step=np.array(7)), dialects.tf1_rmsprop),
    "of tf.keras before 2.11": (
        object_based("rms", "mg", "momentum", optimizer__iter=np.array(7)),
        dialects.tf_keras_legacy_rmsprop,
    ),
}


@pytest.mark.parametrize("of", OBJECTS)
def test_an_object_based_checkpoint_is_read_by_its_keys(of):
    variables, dialect = OBJECTS[of]
    moments = checkpoint.from_tf1(variables, tx=dialect(0.1, momentum=0.9, centered=True))
    assert moments["count"] == 7
    assert moments["trace"]["model/w"].tolist() == [-2, -2, -2]
    assert moments["mu"]["model/b"].tolist() == [2, 2, 2]


def test_an_object_based_checkpoint_without_momentum_has_no_trace():
    moments = checkpoint.from_tf1(object_based("rms"), tx=dialects.tf_keras_legacy_rmsprop(0.1))
    assert moments.keys() == {"nu"}
