"""What trainers wrap around an optimizer's state: other orders, other forms, and names that are in the file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kit.foreign_states import torch_state

from rmsprop_optax import checkpoint, dialects

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
