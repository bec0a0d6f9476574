"""Record the states of five libraries in the middle of a run: after 10 steps of their recorded trajectories.

    python tests/recorded/states_of_libraries/record.py

Run it where torch, timm, stable-baselines3, keras and tensorflow are installed. It checks that each library is where
its recorded trajectory says, and writes one JSON file a library next to this script.
"""

import functools
import importlib.util
import json
import os
import pathlib
import sys
import tempfile
import types

os.environ |= {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_ENABLE_X64": "1"}

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from kit import trajectories  # noqa: E402

STEPS = 10
KINDS = ("plain", "lr", "centered", "momentum", "wd", "maximize", "clip", "global", "complex")
LEFT_OUT = ("corrected", "caution")


def encoded(x):
    x = np.asarray(x)
    flat = x.ravel().view(x.real.dtype) if x.dtype.kind == "c" else x.ravel()
    return {"dtype": str(x.dtype), "shape": list(x.shape), "data": flat.tolist()}


def torch_like(make):
    def run(case):
        import torch

        weights = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in case.params.items()}
        optimizer = make()(weights.values(), **{"lr": case.learning_rates[0], **case.hparams})
        for t in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = case.learning_rates[t]
            for name, weight in weights.items():
                weight.grad = torch.tensor(case.grads[t][name])
            optimizer.step()
        state_dict = optimizer.state_dict()
        entries = {str(i): {key: encoded(x) for key, x in entry.items()} for i, entry in state_dict["state"].items()}
        state = {"state": entries, "param_groups": state_dict["param_groups"]}
        return {name: weight.detach().numpy() for name, weight in weights.items()}, state

    return run


def torch_class():
    import torch

    return torch.optim.RMSprop


def timm_class():
    without_torchvision()
    from timm.optim.rmsprop_tf import RMSpropTF

    return RMSpropTF


def sb3_class():
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    return RMSpropTFLike


def keras3(case):
    import keras

    weights = {name: keras.Variable(x, name=name, dtype=str(case.dtype)) for name, x in case.params.items()}
    optimizer = keras.optimizers.RMSprop(**{"learning_rate": case.learning_rates[0], **case.hparams})
    for t in range(STEPS):
        optimizer.learning_rate = case.learning_rates[t]
        optimizer.apply([keras.ops.convert_to_tensor(case.grads[t][name]) for name in weights], list(weights.values()))
    variables = [[v.path, encoded(v.numpy())] for v in optimizer.variables]
    state = {"variables": variables, "names": list(weights), "config": optimizer.get_config()}
    return {name: weight.numpy() for name, weight in weights.items()}, state


def tf1(case):
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session, tempfile.TemporaryDirectory() as folder:
        tf.enable_resource_variables()
        weights = {name: tf.get_variable(name, initializer=x) for name, x in case.params.items()}
        grads = {name: tf.placeholder(case.dtype, x.shape) for name, x in case.params.items()}
        rate, step = tf.placeholder(case.dtype, ()), tf.train.get_or_create_global_step()
        optimizer = tf.train.RMSPropOptimizer(rate, **case.hparams)
        train = optimizer.apply_gradients([(grads[name], weights[name]) for name in weights], global_step=step)
        session.run(tf.global_variables_initializer())
        for t in range(STEPS):
            feed = {grads[name]: case.grads[t][name] for name in grads} | {rate: case.learning_rates[t]}
            session.run(train, feed)
        reader = tf.train.load_checkpoint(tf.train.Saver().save(session, f"{folder}/model"))
        params = {name: np.asarray(x) for name, x in session.run(weights).items()}
        state = {name: encoded(reader.get_tensor(name)) for name in sorted(reader.get_variable_to_shape_map())}
    return params, state


def keras_files():
    """Write a model that has taken 3 steps, in Keras' two layouts."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True), "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), batch_size=1, shuffle=False, verbose=0)
    model.save(HERE / "model.keras")
    model.save_weights(HERE / "model.weights.h5")


LIBRARIES = {
    "torch": torch_like(torch_class),
    "timm": torch_like(timm_class),
    "sb3": torch_like(sb3_class),
    "keras3": keras3,
    "tf1": tf1,
}


@functools.cache
def without_torchvision():
    """Let timm's one file be imported without the package's __init__, which wants a torchvision that fits torch."""
    root = importlib.util.find_spec("timm").submodule_search_locations[0]
    for name, folder in (("timm", root), ("timm.optim", f"{root}/optim")):
        module = types.ModuleType(name)
        module.__path__ = [folder]
        sys.modules[name] = module


def main():
    for library, run in LIBRARIES.items():
        records = []
        for case in trajectories.cases(library):
            if not case.name.startswith(KINDS) or case.name.startswith(LEFT_OUT):
                continue
            params, state = run(case)
            for name, x in params.items():
                close = np.abs(x - case.trajectory[STEPS - 1][name]) <= case.tolerance["params"] * np.maximum(
                    1, np.abs(x)
                )
                assert close.all(), (library, case.name, name)
            records.append({"case": case.name, "dtype": str(case.dtype), "steps": STEPS, "state": state})
        lines = ",\n".join(json.dumps(record) for record in records)
        (HERE / f"{library}.json").write_text(f"[\n{lines}\n]\n")
        print(library, len(records))
    keras_files()


if __name__ == "__main__":
    main()
