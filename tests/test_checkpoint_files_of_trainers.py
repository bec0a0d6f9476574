"""A file that a trainer wrote goes on here within 1e-6 of that trainer's own path, and back where there is a way back.

Each is the real file of a small run: tests/recorded/files_of_trainers has them, the scripts that made them, and the
gradients along which the trainer's own optimizer then went on. Distances are fractions of the distance it moved.
"""

import functools
import json
import re
import types
import warnings
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit import library_states
from kit.calls import from_function
from kit.files_of_trainers import FOLDER, apart, continuation, go_on
from kit.replaying import difference, replay

from rmsprop_optax import checkpoint, dialects, recipes, rmsprop

TIMM = ["0.bias", "1.weight", "1.bias", "4.bias", "0.weight", "4.weight"]  # what does not decay comes first
HUGGING_FACE = ["first.weight", "last.weight", "first.bias", "norm.weight", "norm.bias", "last.bias"]
TORCH = {"lr": 0.05, "momentum": 0.9}


def load(name):
    torch = pytest.importorskip("torch")
    return torch.load(FOLDER / name, weights_only=True, map_location="cpu")


def columns(weights):
    """Turn the weights of PyTorch into a tree with its matrices transposed."""
    return {name.replace(".", "/"): x.transpose(*range(2, x.ndim), 1, 0) if x.ndim > 1 else x
            for name, x in weights.items()}  # fmt: skip


def two_groups(make, decaying, **options):
    """Return one optimizer for each group, and the partition of the two by what decays."""
    each = {"decay": make(weight_decay=0.01, **options), "rest": make(**options)}
    label = lambda params: {n: "decay" if n.replace("/", ".") in decaying else "rest" for n in params}  # noqa: E731
    return each, optax.partition(each, label)


def timm():
    each, tx = two_groups(dialects.timm_rmsprop_tf, TIMM[4:], **TORCH)
    return load("timm.pth.tar")["optimizer"], {"names": TIMM, "tx": [each["rest"], each["decay"]]}, tx


def lightning():
    tx = dialects.torch_rmsprop(**TORCH, centered=True)
    return load("lightning.ckpt"), {"names": [*continuation("lightning").start], "tx": tx}, tx


def hugging_face():
    each, tx = two_groups(dialects.torch_rmsprop, HUGGING_FACE[:2], **TORCH, centered=True)
    return load("hugging_face.pt"), {"names": HUGGING_FACE, "tx": [*each.values()]}, tx


def fsdp(name):
    each, tx = two_groups(dialects.torch_rmsprop, ["0.weight", "2.weight"], **TORCH)
    return load(name), {"tx": [*each.values()]}, tx


def fsdp_with_a_mask():
    switches = {"eps_in_sqrt": False, "lr_in_momentum": False, "decoupled_weight_decay": False}
    mask = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
    tx = rmsprop(0.05, 0.99, momentum=0.9, weight_decay=0.01, weight_decay_mask=mask, **switches)
    return load("fsdp.pt"), {"tx": tx}, tx


OF_TORCH = {
    "timm": timm,
    "lightning": lightning,
    "hugging_face": hugging_face,
    "fsdp": lambda: fsdp("fsdp.pt"),
    "fsdp, flattened": lambda: fsdp("fsdp_flattened.pt"),
    "fsdp, with a mask": fsdp_with_a_mask,
}


@pytest.mark.parametrize("trainer", OF_TORCH)
def test_a_file_of_a_trainer_with_pytorch_goes_on_here(trainer):
    state_dict, options, tx = OF_TORCH[trainer]()
    run = continuation(trainer.partition(",")[0])
    moments = checkpoint.from_torch(state_dict, columns, **options)
    state = checkpoint.restore(tx.init(columns(jax.tree.map(jnp.asarray, run.start))), moments)
    assert go_on(tx, state, run, columns)[0] <= 1e-6


def network(weights):
    """Make a module of PyTorch with these parameters, under their names."""
    torch = pytest.importorskip("torch")
    root = torch.nn.Module()
    for name, x in weights.items():
        module, (*path, last) = root, name.split(".")
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module._modules[part]
        module.register_parameter(last, torch.nn.Parameter(torch.tensor(x)))
    return root


def load_into(model, names, state_dict, make=None):
    """Return an optimizer with a state: by number, or, for torch.optim.RMSprop, by name as FSDP has it."""
    torch = pytest.importorskip("torch")
    from torch.distributed.checkpoint import state_dict as by_name

    parameters = dict(model.named_parameters())
    if "param_groups" in state_dict and isinstance(state_dict["param_groups"][0]["params"][0], int):
        groups = [{"params": [parameters[names[i]] for i in g["params"]]} for g in state_dict["param_groups"]]
        optimizer = (make or torch.optim.RMSprop)(groups)
        optimizer.load_state_dict(state_dict)
        return optimizer
    by_ndim = [[p for p in parameters.values() if (p.ndim > 1) is matrix] for matrix in (True, False)]
    optimizer = torch.optim.RMSprop([{"params": group} for group in by_ndim], momentum=0.9)
    options = by_name.StateDictOptions(flatten_optimizer_state_dict="param_groups" not in state_dict)
    by_name.set_optimizer_state_dict(model, optimizer, state_dict, options=options)
    return optimizer


@pytest.mark.parametrize("trainer", ["lightning", "hugging_face", "fsdp", "fsdp, flattened"])
def test_a_file_of_a_trainer_goes_on_here_for_5_steps_and_then_in_pytorch_again(trainer):
    goes_back(trainer)


@pytest.mark.live
def test_a_file_of_timm_goes_on_here_for_5_steps_and_then_in_timm_again():
    pytest.importorskip("timm")
    from timm.optim import RMSpropTF

    goes_back("timm", RMSpropTF)


def goes_back(trainer, make=None):
    torch = pytest.importorskip("torch")
    state_dict, options, tx = OF_TORCH[trainer]()
    run = continuation(trainer.partition(",")[0])
    moments = checkpoint.from_torch(state_dict, columns, **options)
    state = checkpoint.restore(tx.init(columns(jax.tree.map(jnp.asarray, run.start))), moments)
    distance, state = go_on(tx, state, run._replace(grads=run.grads[:5], path=run.path[:5]), columns)
    assert distance <= 1e-6

    names = options.get("names", [*run.start])
    count = moments.get("count", 0) + 5  # timm's file has none
    weights = {name: run.start[name] for name in names}
    back = checkpoint.to_torch(state, state_dict, weights, columns, count=count, as_tensor=torch.as_tensor)
    model = network(run.path[4])
    optimizer = load_into(model, names, back, make)
    follow(optimizer, dict(model.named_parameters()), run)


def follow(optimizer, parameters, run):
    """Take the last 5 steps of a run with an optimizer of PyTorch, and stay on its path."""
    torch = pytest.importorskip("torch")
    for grads, theirs in zip(run.grads[5:], run.path[5:], strict=True):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(grads[name])
        optimizer.step()
        ours = {name: parameter.detach().numpy() for name, parameter in parameters.items()}
        assert apart(ours, theirs) <= 1e-6 * apart(run.path[-1], run.start)


def test_a_file_of_timm_goes_back_as_it_came():
    torch = pytest.importorskip("torch")
    state_dict, options, tx = timm()
    run = continuation("timm")
    moments = checkpoint.from_torch(state_dict, columns, **options)
    state = checkpoint.restore(tx.init(columns(jax.tree.map(jnp.asarray, run.start))), moments)
    weights = {name: run.start[name] for name in TIMM}
    back = checkpoint.to_torch(state, state_dict, weights, columns, count=5, as_tensor=torch.as_tensor)
    assert back["param_groups"] == state_dict["param_groups"]
    for i, entry in state_dict["state"].items():
        assert {key: x.tolist() for key, x in back["state"][i].items()} == {key: x.tolist() for key, x in entry.items()}


SB3 = {"sb3_a2c": dialects.torch_rmsprop(0.05, eps=1e-5),
       "sb3_a2c_tf_like": dialects.sb3_rmsprop_tf_like(0.05, 0.95, 1e-5, momentum=0.5)}  # fmt: skip


@pytest.mark.parametrize("name", SB3)
def test_an_agent_of_sb3_goes_on_here(name):
    pytest.importorskip("torch")
    run, tx = continuation(name), SB3[name]
    agent = checkpoint.from_sb3(FOLDER / f"{name}.zip", columns, tx=tx)
    jax.tree.map(np.testing.assert_array_equal, agent.params, columns(run.start))
    assert agent.framework == ("sb3" if "tf_like" in name else "torch")
    assert agent.settings["lr"] == 0.05
    assert agent.settings["max_grad_norm"] == 0.5
    assert agent.moments["count"] == 40
    state = checkpoint.restore(tx.init(jax.tree.map(jnp.asarray, agent.params)), agent.moments)
    assert go_on(tx, state, run, columns)[0] <= 1e-6


def test_an_agent_of_sb3_goes_on_here_for_5_steps_and_then_in_pytorch_again():
    torch = pytest.importorskip("torch")
    agent_goes_back("sb3_a2c", torch.optim.RMSprop, lr=0.05, eps=1e-5)


@pytest.mark.live
def test_an_agent_of_sb3_goes_on_here_for_5_steps_and_then_in_the_class_of_sb3_again():
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    agent_goes_back("sb3_a2c_tf_like", RMSpropTFLike, lr=0.05, alpha=0.95, eps=1e-5, momentum=0.5)


def agent_goes_back(name, make, **numbers):
    torch = pytest.importorskip("torch")
    run, tx = continuation(name), SB3[name]
    agent = checkpoint.from_sb3(FOLDER / f"{name}.zip", columns, tx=tx)
    state = checkpoint.restore(tx.init(agent.params), agent.moments)
    _, state = go_on(tx, state, run._replace(grads=run.grads[:5], path=run.path[:5]), columns)
    named = dict(network(run.path[4]).named_parameters())
    optimizer = make(named.values(), **numbers)
    fresh = optimizer.state_dict()
    optimizer.load_state_dict(checkpoint.to_torch(state, fresh, named, columns, count=45, as_tensor=torch.as_tensor))
    follow(optimizer, named, run)


def rate(t):
    return 0.05 * 0.5 ** (t / 10)


CENTERED = {"momentum": 0.9, "centered": True}
OF_KERAS = {  # the optimizer that carries on, and what the warning names
    "keras_plain.keras": (dialects.keras_rmsprop(0.05, **CENTERED), []),
    "keras_schedule.weights.h5": (dialects.keras_rmsprop(rate, **CENTERED), []),
    "keras_schedule_legacy.h5": (dialects.keras_rmsprop(rate, momentum=0.9), []),
    "keras_averaged.keras": (dialects.keras_rmsprop(0.05, **CENTERED), ["averages"]),
    "keras_accumulating.keras": (dialects.keras_rmsprop(0.05, momentum=0.9), ["accumulated gradients"]),
    "keras_scaled.keras": (dialects.keras_rmsprop(rate, **CENTERED), ["averages", "loss scale"]),
    "keras_scaled_legacy.h5": (dialects.keras_rmsprop(0.05, momentum=0.9), ["averages", "loss scale"]),
    "tf_keras_plain.keras": (dialects.keras_rmsprop(0.05, **CENTERED), []),
    "tf_keras_legacy.h5": (dialects.keras_rmsprop(rate), ["averages"]),
}


def of_keras(file, read):
    """Call `read` with the opened file and the optimizer's configuration, if it is in the file."""
    h5py = pytest.importorskip("h5py")
    path, config = FOLDER / file, None
    if file.endswith(".keras"):
        archive = zipfile.ZipFile(path)
        config = json.loads(archive.read("config.json"))["compile_config"]["optimizer"]["config"]
        opened = archive.open("model.weights.h5")
    else:
        archive, opened = None, path.open("rb")
    with opened, h5py.File(opened) as content:
        result = read(content, config)
    if archive:
        archive.close()
    return result


@pytest.mark.parametrize("file", OF_KERAS)
def test_a_file_of_keras_goes_on_here(file):
    tx, extras = OF_KERAS[file]
    run = continuation(file.partition(".")[0])
    prefix = "sequential/" if file.startswith("keras") else ""
    convert = lambda weights: {name.removeprefix("sequential/"): x for name, x in weights.items()}  # noqa: E731
    names = [prefix + name for name in run.start]

    def read(content, config):
        if file.endswith("weights.h5"):  # which has no configuration: say what is kept
            config = {"learning_rate": {"class_name": "ExponentialDecay"}, **CENTERED}
        return checkpoint.from_keras(content, names, convert, config=config, tx=tx)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        moments = of_keras(file, read)
    said = " ".join(str(warning.message) for warning in caught)
    assert len(caught) == bool(extras)
    assert all(words in said for words in extras)
    assert moments["count"] == (3 if "accumulating" in file else 6)
    state = checkpoint.restore(tx.init(jax.tree.map(jnp.asarray, run.start)), moments)
    assert go_on(tx, state, run, dict)[0] <= 1e-6


# The page of the docs: the block of each trainer, on its file.

PAGE = (FOLDER.parents[2] / "docs" / "checkpoints.md").read_text()
BLOCKS = dict(re.findall(r"^### ([^\n]*)\n\n```py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
ON = {
    "PyTorch": ("lightning", {"checkpoint.pt": "lightning.ckpt"}),
    "Lightning": ("lightning", {"last.ckpt": "lightning.ckpt"}),
    "Stable-Baselines3": ("sb3_a2c", {"agent.zip": "sb3_a2c.zip"}),
    "timm": ("timm", {"last.pth.tar": "timm.pth.tar"}),
    "Hugging Face": ("hugging_face", {"checkpoint-8/optimizer.pt": "hugging_face.pt"}),
    "Keras": ("keras_plain", {"model.keras": "keras_plain.keras"}),
}


@pytest.mark.parametrize("trainer", ON)
def test_the_block_of_a_trainer_on_the_page_reads_its_file(trainer, tmp_path, monkeypatch):
    torch, h5py = pytest.importorskip("torch"), pytest.importorskip("h5py")
    name, files = ON[trainer]
    for here, recorded in files.items():
        (tmp_path / here).parent.mkdir(exist_ok=True)
        (tmp_path / here).write_bytes((FOLDER / recorded).read_bytes())
    if trainer == "PyTorch":
        saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        torch.save({"optimizer": saved["optimizer_states"][0]}, tmp_path / "checkpoint.pt")
    monkeypatch.chdir(tmp_path)
    run, code = continuation(name), BLOCKS[trainer]
    assert len(code.splitlines()) < 10
    to_jax = dict if trainer == "Keras" else columns
    make = dialects.keras_rmsprop if trainer == "Keras" else dialects.torch_rmsprop
    matrices = {key for key, x in columns(run.start).items() if x.ndim > 1}
    model = types.SimpleNamespace(
        named_parameters=run.start.items,
        trainable_variables=[types.SimpleNamespace(path=key) for key in run.start],
    )
    names = {
        "checkpoint": checkpoint, "dialects": dialects, "recipes": recipes, "optax": optax, "torch": torch,
        "h5py": h5py, "zipfile": zipfile, "json": json, "functools": functools, "model": model, "to_jax": to_jax,
        "params": jax.tree.map(jnp.asarray, to_jax(run.start)), "tx": make(0.05, momentum=0.9, centered=True),
        "labels": lambda params: {key: "decay" if key in matrices else "rest" for key in params},
        "trainer": types.SimpleNamespace(get_decay_parameter_names=lambda model: HUGGING_FACE[:2]),
    }  # fmt: skip
    exec(code, names)
    if trainer != "Stable-Baselines3":  # whose recipe also clips
        assert go_on(names["tx"], names["state"], run, to_jax)[0] <= 1e-6


def test_the_block_of_tensorflow_1_on_the_page_reads_recorded_variables():
    run = next(run for run in library_states.runs("tf1") if run.id == "tf1-centered_momentum-float32")
    reader = types.SimpleNamespace(get_variable_to_shape_map=lambda: run.state, get_tensor=run.state.__getitem__)
    tx = from_function(run.case)
    names = {
        "tf": types.SimpleNamespace(train=types.SimpleNamespace(load_checkpoint=lambda path: reader)),
        "checkpoint": checkpoint, "to_jax": dict, "tx": tx,
        "params": jax.tree.map(jnp.asarray, run.case.trajectory[run.steps - 1]),
    }  # fmt: skip
    exec(BLOCKS["TensorFlow 1"], names)
    path, _ = replay(tx, run.case, names["state"], run.steps)
    assert difference(path, run.case.trajectory[run.steps :]) <= 2e-6


def test_every_trainer_on_the_page_has_a_file():
    assert BLOCKS.keys() == ON.keys() | {"TensorFlow 1"}
