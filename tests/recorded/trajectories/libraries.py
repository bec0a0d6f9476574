"""The real libraries, driven over recorded gradients: one function each, from a case to its path and its last state.

Each takes the arguments of the library's own class, the parameters, the gradients and the learning rate of every step,
and returns the parameters after every step and the state after the last, under the library's own names. A library is
imported in its function, because hardly any two of them install side by side.
"""

import ast
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import os
import pathlib
import re
import sys
import types

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "jax")  # TensorFlow imports Keras, and Keras chooses when it is imported


def in_float64(runner):
    """Let jax compute in float64 for one case, and no longer."""

    @functools.wraps(runner)
    def run(case):
        import jax.experimental

        enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
        with enable_x64(True):
            return runner(case)

    return run


def torch(case, make=None):
    import torch

    params = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in case.params.items()}
    hparams = dict(case.hparams)
    if make is None:
        make = torch.optim.RMSprop
        hparams["foreach"] = False
    optimizer, steps = make(list(params.values()), **hparams), []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        for name, p in params.items():
            p.grad = torch.tensor(grads[name])
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        steps.append({name: p.detach().numpy().copy() for name, p in params.items()})
    found = {name: optimizer.state[p] for name, p in params.items()}
    keys = {key for state in found.values() for key in state} - {"step", "unique_index"}
    return steps, {key: {name: state[key].numpy() for name, state in found.items()} for key in keys}


def timm(case):
    return torch(case, _one_file("timm", "optim/rmsprop_tf.py").RMSpropTF)


def sb3(case):
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    return torch(case, RMSpropTFLike)


def pfrl(case):
    import warnings

    warnings.simplefilter("ignore")  # it calls torch as one did years ago
    return torch(case, _one_file("pfrl", "optimizers/rmsprop_eps_inside_sqrt.py").RMSpropEpsInsideSqrt)


def bitsandbytes(case):
    from bitsandbytes.optim import RMSprop32bit

    return torch(case, RMSprop32bit)


def tf1(case):
    import tensorflow as tf

    rate = [0.0]
    optimizer = tf.compat.v1.train.RMSPropOptimizer(lambda: tf.constant(rate[0], case.dtype), **case.hparams)
    variables, steps = _tf_variables(tf, case), []
    for grads, rate[0] in zip(case.grads, case.learning_rates, strict=True):
        optimizer.apply_gradients([(tf.constant(grads[name]), v) for name, v in variables.items()])
        steps.append({name: v.numpy() for name, v in variables.items()})
    slots = optimizer.get_slot_names()
    return steps, {s: {name: optimizer.get_slot(v, s).numpy() for name, v in variables.items()} for s in slots}


def tf_keras_legacy(case):
    import tensorflow as tf
    import tf_keras

    optimizer = tf_keras.optimizers.legacy.RMSprop(**case.hparams)
    variables, steps = _tf_variables(tf, case), []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        optimizer.learning_rate = lr
        optimizer.apply_gradients([(tf.constant(grads[name]), v) for name, v in variables.items()])
        steps.append({name: v.numpy() for name, v in variables.items()})
    slots = optimizer.get_slot_names()
    return steps, {s: {name: optimizer.get_slot(v, s).numpy() for name, v in variables.items()} for s in slots}


def tf_keras(case):
    import tensorflow as tf
    import tf_keras

    optimizer = tf_keras.optimizers.RMSprop(**case.hparams)
    variables, steps = _tf_variables(tf, case), []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        optimizer.learning_rate = lr
        optimizer.apply_gradients([(tf.constant(grads[name]), v) for name, v in variables.items()])
        steps.append({name: v.numpy() for name, v in variables.items()})
    return steps, _keras_state(optimizer, variables)


@in_float64
def keras3(case):
    import jax
    import keras

    optimizer = keras.optimizers.RMSprop(**case.hparams)
    variables = {name: keras.Variable(x, dtype=str(case.dtype), name=name) for name, x in case.params.items()}
    optimizer.build(list(variables.values()))
    steps = []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        optimizer.learning_rate = lr
        optimizer.apply([jax.numpy.asarray(grads[name]) for name in variables], list(variables.values()))
        steps.append({name: np.asarray(v.value) for name, v in variables.items()})
    return steps, _keras_state(optimizer, variables)


def sonnet(case):
    import sonnet
    import tensorflow as tf

    optimizer = sonnet.optimizers.RMSProp(learning_rate=0.0, **case.hparams)
    variables, steps = _tf_variables(tf, case), []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        optimizer.learning_rate = tf.constant(lr, case.dtype)
        optimizer.apply([tf.constant(grads[name]) for name in variables], list(variables.values()))
        steps.append({name: v.numpy() for name, v in variables.items()})
    lists = {"ms": optimizer.ms, "mom": optimizer.mom, "mg": optimizer.mg}
    return steps, {
        key: {name: v.numpy() for name, v in zip(variables, found, strict=True)}
        for key, found in lists.items()
        if found
    }


@in_float64
def optax(case):
    import jax
    import optax

    rates = jax.numpy.asarray(case.learning_rates)
    tx = optax.rmsprop(lambda count: rates[count], **case.hparams)
    params = jax.tree.map(jax.numpy.asarray, case.params)
    state, update, steps = tx.init(params), jax.jit(tx.update), []
    for grads in case.grads:
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(jax.tree.map(np.asarray, params))
    found = {key: optax.tree.get(state, key) for key in ("nu", "mu", "trace")}
    return steps, {key: jax.tree.map(np.asarray, tree) for key, tree in found.items() if tree is not None}


@in_float64
def jax_example_libraries(case):
    import jax
    from jax.example_libraries import optimizers

    rates = jax.numpy.asarray(case.learning_rates)
    init, update, params_of = getattr(optimizers, case.impl)(lambda i: rates[i], **case.hparams)
    state, steps = init(jax.tree.map(jax.numpy.asarray, case.params)), []
    for i, grads in enumerate(case.grads):
        state = update(i, jax.tree.map(jax.numpy.asarray, grads), state)
        steps.append(jax.tree.map(np.asarray, params_of(state)))
    leaves = dict(zip(sorted(case.params), state.packed_state, strict=True))
    keys = ["avg_sq_grad", "mom"][: len(leaves["w"]) - 1]
    return steps, {key: {n: np.asarray(x[i + 1]) for n, x in leaves.items()} for i, key in enumerate(keys)}


def mlx(case):
    import mlx.core as mx
    import mlx.optimizers

    mx.set_default_device(mx.cpu)
    optimizer = mlx.optimizers.RMSprop(learning_rate=0.0, **case.hparams)
    params, steps = {name: mx.array(x) for name, x in case.params.items()}, []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        optimizer.learning_rate = lr
        params = optimizer.apply_gradients({name: mx.array(grads[name]) for name in params}, params)
        steps.append({name: np.array(p) for name, p in params.items()})
    return steps, {"v": {name: np.array(optimizer.state[name]["v"]) for name in params}}


def chainer(case):
    import chainer

    hparams = dict(case.hparams)
    hook = hparams.pop("hook", None)
    link = chainer.Link()
    with link.init_scope():
        for name, x in case.params.items():
            setattr(link, name, chainer.Parameter(x.copy()))
    optimizer = getattr(chainer.optimizers, case.impl.rsplit(".", 1)[1])(**hparams).setup(link)
    if hook:
        optimizer.add_hook(chainer.optimizer_hooks.WeightDecay(float(hook.partition("(")[2].rstrip(")"))))
    params, steps = dict(link.namedparams()), []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        for path, p in params.items():
            p.grad = np.asarray(grads[path.strip("/")])
        optimizer.lr = lr
        optimizer.update()
        steps.append({path.strip("/"): p.array.copy() for path, p in params.items()})
    found = {path.strip("/"): p.update_rule.state for path, p in params.items()}
    keys = {key for state in found.values() for key in state}
    return steps, {key: {name: state[key] for name, state in found.items()} for key in keys}


def paddle(case):
    import paddle

    hparams = dict(case.hparams)
    if clip := hparams.pop("__clip", None):
        kinds = {"global_norm": "ClipGradByGlobalNorm", "norm": "ClipGradByNorm", "value": "ClipGradByValue"}
        hparams["grad_clip"] = getattr(paddle.nn, kinds[clip[0]])(clip[1])
    params = {}
    for name, x in case.params.items():
        start = paddle.nn.initializer.Assign(x.reshape(x.shape or (1,)))
        params[name] = paddle.create_parameter(x.shape or [1], str(x.dtype), default_initializer=start)
    optimizer, steps = paddle.optimizer.RMSProp(0.0, parameters=list(params.values()), **hparams), []
    for grads, lr in zip(case.grads, case.learning_rates, strict=True):
        optimizer.set_lr(lr)
        loss = sum((p * paddle.to_tensor(grads[name].reshape(p.shape))).sum() for name, p in params.items())
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        steps.append({name: p.numpy().reshape(case.params[name].shape) for name, p in params.items()})
    found = optimizer._accumulators
    return steps, {
        key: {n: found[key][p.name].numpy().reshape(case.params[n].shape) for n, p in params.items()}
        for key in ("momentum", "mean_square", "mean_grad")
    }


def mindspore(case):
    import mindspore
    from mindspore import nn
    from mindspore.experimental import optim

    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    params = {name: mindspore.Parameter(mindspore.Tensor(x), name=name) for name, x in case.params.items()}
    grads = [tuple(mindspore.Tensor(g[name]) for name in params) for g in case.grads]
    experimental = "experimental" in case.impl
    if experimental:
        optimizer = optim.RMSprop(list(params.values()), **case.hparams)
    else:  # a tensor of learning rates is a schedule
        rates = mindspore.Tensor(np.array(case.learning_rates, np.float32))
        optimizer = nn.RMSProp(list(params.values()), learning_rate=rates, **case.hparams)
    steps = []
    for g, lr in zip(grads, case.learning_rates, strict=True):
        if experimental:
            mindspore.ops.assign(optimizer.param_groups[0]["lr"], mindspore.Tensor(lr, mindspore.float32))
        optimizer(g)
        steps.append({name: p.asnumpy().copy() for name, p in params.items()})
    if experimental:
        return steps, {}
    lists = {"mean_square": optimizer.ms, "moment": optimizer.moment, "mean_grad": getattr(optimizer, "mg", None)}
    return steps, {
        key: {n: p.asnumpy() for n, p in zip(params, found, strict=True)} for key, found in lists.items() if found
    }


def autograd(case):
    from autograd.misc.optimizers import rmsprop

    shapes, steps = {name: x.shape for name, x in case.params.items()}, []
    flatten = lambda tree: np.concatenate([tree[name].ravel() for name in shapes])  # noqa: E731

    def keep(flat, *_):
        cuts = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]
        pieces = zip(shapes.items(), np.split(flat.copy(), cuts), strict=True)
        steps.append({name: piece.reshape(shape) for (name, shape), piece in pieces})

    def grad(flat, i):
        return flatten(case.grads[i])

    assert len(set(case.learning_rates)) == 1
    last = rmsprop(grad, flatten(case.params), keep, len(case.grads), step_size=case.learning_rates[0], **case.hparams)
    keep(last)
    return steps[1:], {}


def climin(case):
    import climin

    now, steps, state = [0], [{} for _ in case.grads], {"moving_mean_squared": {}, "step": {}}
    for name, x in case.params.items():  # one flat vector each
        flat = x.ravel().copy()
        optimizer = climin.RmsProp(
            flat, lambda _, name=name: case.grads[now[0]][name].ravel(), case.learning_rates[0], **case.hparams
        )
        path = iter(optimizer)
        for now[0], lr in enumerate(case.learning_rates):
            optimizer.step_rate = lr
            next(path)
            steps[now[0]][name] = flat.reshape(x.shape).copy()
        for key, found in state.items():
            found[name] = np.broadcast_to(getattr(optimizer, key), flat.shape).reshape(x.shape)
    return steps, state


@in_float64
def dreamer_v3(case):
    """Run `_make_opt` of its agent, with its three links: the functions as they stand there, without what is around.

    Its schedules are float32 for float64 parameters, too: such cases take the recorded rates instead.
    """
    import jax
    import optax

    folder = pathlib.Path(os.environ["DREAMERV3"])
    known = {"jax": jax, "jnp": jax.numpy, "f32": jax.numpy.float32, "i32": jax.numpy.int32, "optax": optax}
    links = _functions(folder / "embodied/jax/opt.py", ("clip_by_agc", "scale_by_rms", "scale_by_momentum"), known)
    embodied = types.SimpleNamespace(jax=types.SimpleNamespace(opt=types.SimpleNamespace(**links)))
    if case.dtype == np.float64:
        rates, real = jax.numpy.asarray(case.learning_rates), optax.scale_by_learning_rate
        known["optax"] = types.SimpleNamespace(**vars(optax))
        known["optax"].scale_by_learning_rate = lambda schedule: real(lambda count: rates[count])
    make = _functions(folder / "dreamerv3/agent.py", ("_make_opt",), known | {"embodied": embodied, "re": re})
    steps, state = _optax_steps(make["_make_opt"](None, **case.hparams), case)
    return steps, {"nu": state[1][1], "mu": state[2][1]}


@in_float64
def levanter(case):
    """Run its configuration, on a base class with its mask and with a schedule of the recorded rates."""
    import jax
    import optax

    folder = pathlib.Path(os.environ["LEVANTER"]) / "src/levanter/optim"
    rates = jax.numpy.asarray(case.learning_rates)
    known = {
        "re": re,
        "jax": jax,
        "partial": functools.partial,
        "eqx": types.SimpleNamespace(is_array=lambda x: hasattr(x, "dtype"), Module=type("Module", (), {})),
        "haliax": types.SimpleNamespace(
            is_named_array=lambda x: False,
            util=types.SimpleNamespace(is_jax_or_hax_array_like=lambda x: hasattr(x, "dtype")),
        ),
        "levanter": types.SimpleNamespace(tracker=types.SimpleNamespace(log_hyperparameters=lambda found: None)),
        "leaf_key_paths": lambda tree, is_leaf: {name: name.replace("/", ".") for name in tree},
    }

    @dataclasses.dataclass(frozen=True)
    class OptimizerConfig:
        weight_decay_modules: object = None
        default_weight_decay_mask: object = None
        register_subclass = staticmethod(lambda name: lambda config: config)
        lr_scheduler = staticmethod(lambda steps: lambda count: rates[count])
        build_weight_decay_mask = _functions(folder / "config.py", ("build_weight_decay_mask",), known)[
            "build_weight_decay_mask"
        ]

    stub = types.ModuleType("levanter.optim.config")
    stub.OptimizerConfig = OptimizerConfig
    sys.modules["levanter.optim.config"] = stub
    spec = importlib.util.spec_from_file_location("levanter_rmsprop", folder / "rmsprop.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    steps, state = _optax_steps(module.RMSPropMomentumConfig(**case.hparams).build(len(rates)), case)
    found = {name: optax.tree_utils.tree_get(state, name) for name in ("mean_square", "momentum")}
    return steps, jax.tree.map(np.asarray, found)


def _optax_steps(tx, case):
    import jax
    import optax

    params = jax.tree.map(jax.numpy.asarray, case.params)
    state, update, steps = tx.init(params), jax.jit(tx.update), []
    for grads in case.grads:
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        steps.append(jax.tree.map(np.asarray, params))
    return steps, jax.tree.map(np.asarray, state)


def _functions(path, names, known):
    """Return functions of a file that does not import without its whole project; methods are functions of `self`."""
    tree = ast.parse(path.read_text())
    found = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names}
    space = dict(known)
    for name in names:
        exec(compile(ast.Module([found[name]], []), str(path), "exec"), space)
    return {name: space[name] for name in names}


RUNNERS = {
    runner.__name__: runner
    for runner in (
        torch, timm, sb3, pfrl, bitsandbytes, tf1, tf_keras_legacy, tf_keras, keras3, sonnet, optax,
        jax_example_libraries, mlx, chainer, paddle, mindspore, autograd, climin, dreamer_v3, levanter,
    )
}  # fmt: skip


def _one_file(package, path):
    """Load one file of a package that does not import as a whole; its relative imports work."""
    folder = pathlib.Path(importlib.util.find_spec(package).submodule_search_locations[0])
    *parents, stem = path.removesuffix(".py").split("/")
    names = [package, *(f"{package}.{'.'.join(parents[: i + 1])}" for i in range(len(parents)))]
    with contextlib.ExitStack() as restore:
        for name in names:
            stub = types.ModuleType(name)
            stub.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
            if name not in sys.modules:
                sys.modules[name] = stub
                restore.callback(sys.modules.pop, name)
        return importlib.import_module(f"{names[-1]}.{stem}")


def _tf_variables(tf, case):
    return {name: tf.Variable(x, dtype=case.dtype, name=name) for name, x in case.params.items()}


def _keras_state(optimizer, variables):
    lists = {
        "velocity": optimizer._velocities,
        "momentum": optimizer._momentums,
        "average_gradient": optimizer._average_gradients,
    }
    return {
        key: {name: np.asarray(v) for name, v in zip(variables, found, strict=True)}
        for key, found in lists.items()
        if found
    }
