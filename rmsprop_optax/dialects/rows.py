"""What each framework does, as data: one row for each, which the tests replay and the documentation prints."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from rmsprop_optax.alias import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One framework's RMSprop: its switches, and what it calls its arguments and its state.

    Args:
      api: The class or function, as its users write it.
      version: The release that was read and run.
      variant: Its switches, at its defaults.
      arguments: From `learning_rate`, `decay`, `eps`, `momentum`, `centered`, `weight_decay` to its own names, in the
        order of its signature. What is absent it does not have.
      defaults: From our names to its default values; what is absent is required.
      state: From `nu`, `mu`, `trace`, `count` to its own names. Its `nu` is the mean square, centered or not.
      source: The file and the lines that were read.
      function: The name of the function here that takes its arguments; None if there is only this row.
      fixed: What it has built in, under our names.
      moved_by: From a switch to the argument of its own that moves it.
      keeps_trace: Whether it keeps a momentum buffer at momentum 0.
      negated_trace: Whether its buffer is added to the parameter, not subtracted.
      remark: What the switches do not say.
    """

    api: str
    version: str
    variant: Variant
    arguments: Mapping[str, str]
    defaults: Mapping[str, Any]
    state: Mapping[str, str]
    source: str
    function: str | None = None
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    moved_by: Mapping[str, str] = dataclasses.field(default_factory=dict)
    keeps_trace: bool = False
    negated_trace: bool = False
    remark: str = ""


def _named(learning_rate: str, decay: str, eps: str, *more: str, **renamed: str) -> dict[str, str]:
    """Name the arguments in a framework's order; those in `more` it calls what we do."""
    return {"learning_rate": learning_rate, "decay": decay, "eps": eps} | {name: name for name in more} | renamed


_TORCH = Variant(eps_in_sqrt=False, lr_in_momentum=False, decoupled_weight_decay=False, complex_pairs=True)
_TORCH_ARGUMENTS = _named("lr", "alpha", "eps", "weight_decay", "momentum", "centered")
_TORCH_DEFAULTS = {
    "learning_rate": 1e-2, "decay": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0, "centered": False,
}  # fmt: skip
_TORCH_STATE = {"nu": "square_avg", "mu": "grad_avg", "trace": "momentum_buffer", "count": "step"}
_ONES = Variant(initial_scale=1.0, complex_pairs=None)
_ZEROS = Variant(complex_pairs=None)
_OUTSIDE = Variant(eps_in_sqrt=False, complex_pairs=None)
_TF_ARGUMENTS = {
    "learning_rate": "learning_rate", "decay": "decay", "momentum": "momentum", "eps": "epsilon",
    "centered": "centered",
}  # fmt: skip
_TF_DEFAULTS = {"decay": 0.9, "momentum": 0.0, "eps": 1e-10, "centered": False}
_TF_STATE = {"nu": "rms", "mu": "mg", "trace": "momentum"}
_KERAS_ARGUMENTS = _TF_ARGUMENTS | {"decay": "rho"}
_KERAS_DEFAULTS = {"learning_rate": 1e-3, "decay": 0.9, "momentum": 0.0, "eps": 1e-7, "centered": False}
_GRAVES_STATE = {"nu": "n", "mu": "g", "trace": "delta"}

ROWS: Mapping[str, Row] = MappingProxyType({
    "torch": Row(
        api="torch.optim.RMSprop", version="2.13.0", function="torch_rmsprop", variant=_TORCH,
        arguments=_TORCH_ARGUMENTS, defaults=_TORCH_DEFAULTS, state=_TORCH_STATE,
        source="torch/optim/rmsprop.py 301-339",
    ),
    "timm": Row(
        api="timm.optim.RMSpropTF", version="1.0.31", function="timm_rmsprop_tf",
        variant=Variant(initial_scale=1.0, decoupled_weight_decay=False, complex_pairs=None),
        arguments=_TORCH_ARGUMENTS, defaults=_TORCH_DEFAULTS | {"decay": 0.9, "eps": 1e-10}, state=_TORCH_STATE,
        moved_by={"lr_in_momentum": "lr_in_momentum", "decoupled_weight_decay": "decoupled_decay"},
        source="timm/optim/rmsprop_tf.py 141-147, 254-295",
    ),
    "sb3": Row(
        api="stable_baselines3 RMSpropTFLike", version="2.9.2", function="sb3_rmsprop_tf_like",
        variant=Variant(initial_scale=1.0, lr_in_momentum=False, decoupled_weight_decay=False, complex_pairs=None),
        arguments=_TORCH_ARGUMENTS, defaults=_TORCH_DEFAULTS, state=_TORCH_STATE,
        source="stable_baselines3/common/sb2_compat/rmsprop_tf_like.py 100-135",
    ),
    "pfrl": Row(
        api="pfrl.optimizers.RMSpropEpsInsideSqrt", version="0.4.0",
        variant=Variant(lr_in_momentum=False, decoupled_weight_decay=False, complex_pairs=None),
        arguments=_TORCH_ARGUMENTS, defaults=_TORCH_DEFAULTS, state=_TORCH_STATE,
        source="pfrl/optimizers/rmsprop_eps_inside_sqrt.py 28-62",
    ),
    "bitsandbytes": Row(
        api="bitsandbytes.optim.RMSprop32bit", version="0.50.2",
        variant=Variant(eps_in_sqrt=False, decoupled_weight_decay=False, complex_pairs=None),
        arguments=_named("lr", "alpha", "eps", "weight_decay"),
        defaults={"learning_rate": 1e-2, "decay": 0.99, "eps": 1e-8, "weight_decay": 0},
        state={"nu": "state1", "count": "step"}, source="bitsandbytes/optim/rmsprop.py 117-170",
        remark="takes `momentum` and ignores it",
    ),
    "fastai": Row(
        api="fastai.optimizer.RMSProp", version="2.8.12", variant=_OUTSIDE,
        arguments={"learning_rate": "lr", "decay": "sqr_mom", "weight_decay": "wd"},
        defaults={"decay": 0.99, "weight_decay": 0.0}, fixed={"eps": 1e-8}, state={"nu": "sqr_avg"},
        moved_by={"decoupled_weight_decay": "decouple_wd"}, source="fastai/optimizer.py 190-211",
        remark="takes `eps` and ignores it; `mom` averages the gradient itself, which has no switch here",
    ),
    "tf1": Row(
        api="tf.compat.v1.train.RMSPropOptimizer", version="2.21.0", function="tf1_rmsprop", variant=_ONES,
        arguments=_TF_ARGUMENTS, defaults=_TF_DEFAULTS, state=_TF_STATE, keeps_trace=True,
        source="tensorflow/python/training/rmsprop.py 136-235",
    ),
    "tf_keras_legacy": Row(
        api="tf_keras.optimizers.legacy.RMSprop", version="2.21.0", function="tf_keras_legacy_rmsprop",
        variant=_OUTSIDE, arguments=_KERAS_ARGUMENTS, defaults=_KERAS_DEFAULTS,
        state=_TF_STATE | {"count": "iter"}, moved_by={"eps_in_sqrt": "momentum"},
        source="tf_keras/src/optimizers/legacy/rmsprop.py 144-250",
        remark="also tf.keras 2.0 to 2.10; eps is inside the root as soon as momentum is above 0",
    ),
    "keras": Row(
        api="keras.optimizers.RMSprop", version="3.15.1", function="keras_rmsprop", variant=_ZEROS,
        arguments=_KERAS_ARGUMENTS | {"weight_decay": "weight_decay"},
        defaults=_KERAS_DEFAULTS | {"weight_decay": None},
        state={"nu": "velocity", "mu": "average_gradient", "trace": "momentum", "count": "iteration"},
        source="keras/src/optimizers/rmsprop.py 109-154", remark="also tf.keras since 2.11 and tf_keras 2.21.0",
    ),
    "keras_2_2": Row(
        api="keras.optimizers.RMSprop", version="2.2.4", variant=_OUTSIDE,
        arguments=_named("lr", "rho", "epsilon"), defaults={"learning_rate": 1e-3, "decay": 0.9, "eps": 1e-7},
        state={"nu": "accumulator"}, source="keras/optimizers.py 241-277",
        remark="its `clipnorm` is one norm over all gradients; `epsilon=None` is 1e-7",
    ),
    "optax": Row(
        api="optax.rmsprop", version="0.2.8", function="optax_rmsprop", variant=Variant(),
        arguments={"learning_rate": "learning_rate", "decay": "decay", "eps": "eps", "centered": "centered",
                   "momentum": "momentum"},
        defaults={"decay": 0.9, "eps": 1e-8, "centered": False, "momentum": None},
        state={"nu": "nu", "mu": "mu", "trace": "trace", "count": "count"}, negated_trace=True, keeps_trace=True,
        moved_by={"eps_in_sqrt": "eps_in_sqrt", "initial_scale": "initial_scale",
                  "bias_correction": "bias_correction"},
        source="optax/_src/alias.py 2016-2046", remark="`nesterov` looks ahead",
    ),
    "sonnet": Row(
        api="sonnet.optimizers.RMSProp", version="2.0.2", function="sonnet_rmsprop", variant=_ZEROS,
        arguments=_TF_ARGUMENTS, defaults=_TF_DEFAULTS, state={"nu": "ms", "mu": "mg", "trace": "mom"},
        keeps_trace=True, source="sonnet/src/optimizers/rmsprop.py 28-37",
    ),
    "paddle": Row(
        api="paddle.optimizer.RMSProp", version="3.3.1", function="paddle_rmsprop",
        variant=Variant(decoupled_weight_decay=False, complex_pairs=None),
        arguments=_named("learning_rate", "rho", "epsilon", "momentum", "centered", "weight_decay"),
        defaults={"decay": 0.95, "eps": 1e-6, "momentum": 0.0, "centered": False, "weight_decay": None},
        state={"nu": "mean_square", "mu": "mean_grad", "trace": "momentum"}, keeps_trace=True,
        source="python/paddle/optimizer/rmsprop.py 177-298", remark="its documentation says Nesterov; it is not",
    ),
    "mindspore": Row(
        api="mindspore.nn.RMSProp", version="2.10.0", function="mindspore_rmsprop",
        variant=Variant(initial_scale=1.0, decoupled_weight_decay=False, complex_pairs=None),
        arguments=_TF_ARGUMENTS | {"weight_decay": "weight_decay"},
        defaults=_TF_DEFAULTS | {"learning_rate": 0.1, "weight_decay": 0.0}, keeps_trace=True,
        state={"nu": "mean_square", "mu": "mean_grad", "trace": "moment", "count": "global_step"},
        source="mindspore/nn/optim/rmsprop.py 219-270", remark="names with `beta` or `gamma` do not decay",
    ),
    "mindspore_experimental": Row(
        api="mindspore.experimental.optim.RMSprop", version="2.10.0",
        variant=dataclasses.replace(_TORCH, complex_pairs=None), arguments=_TORCH_ARGUMENTS,
        defaults=_TORCH_DEFAULTS, state={}, source="mindspore/experimental/optim/rmsprop.py 20-35",
        remark="PyTorch's, argument by argument",
    ),
    "mlx": Row(
        api="mlx.optimizers.RMSprop", version="0.32.4", function="mlx_rmsprop", variant=_OUTSIDE,
        arguments=_named("learning_rate", "alpha", "eps"), defaults={"decay": 0.99, "eps": 1e-8},
        state={"nu": "v", "count": "step"}, source="python/mlx/optimizers/optimizers.py 342-354",
    ),
    "chainer": Row(
        api="chainer.optimizers.RMSprop", version="7.8.1", function="chainer_rmsprop",
        variant=Variant(eps_in_sqrt=False, decoupled_weight_decay=False, complex_pairs=None),
        arguments=_named("lr", "alpha", "eps"), defaults={"learning_rate": 1e-2, "decay": 0.99, "eps": 1e-8},
        state={"nu": "ms", "count": "t"}, moved_by={"eps_in_sqrt": "eps_inside_sqrt"},
        source="chainer/optimizers/rmsprop.py 68-90", remark="weight decay and clipping are hooks",
    ),
    "graves": Row(
        api="chainer.optimizers.RMSpropGraves", version="7.8.1", function="graves_rmsprop",
        variant=Variant(decoupled_weight_decay=False, complex_pairs=None),
        arguments={"learning_rate": "lr", "decay": "alpha", "momentum": "momentum", "eps": "eps"},
        defaults={"learning_rate": 1e-4, "decay": 0.95, "momentum": 0.9, "eps": 1e-4}, fixed={"centered": True},
        state=_GRAVES_STATE | {"count": "t"}, keeps_trace=True, negated_trace=True,
        source="chainer/optimizers/rmsprop_graves.py 65-85", remark="Graves 2013, eq. 38-45",
    ),
    "hinton": Row(
        api="Hinton, lecture 6e", version="2012", function="hinton_rmsprop", variant=_ZEROS,
        arguments={"learning_rate": "learning_rate", "decay": "decay"}, defaults={"decay": 0.9},
        fixed={"eps": 0.0}, state={"nu": "MeanSquare"}, source="a transcript of the lecture",
        remark="no eps; says nothing of the start",
    ),
    "mxnet": Row(
        api="mxnet.optimizer.RMSProp", version="1.9.1",
        variant=dataclasses.replace(_ZEROS, decoupled_weight_decay=False),
        arguments=_named("learning_rate", "gamma1", "epsilon", weight_decay="wd"),
        defaults={"learning_rate": 1e-3, "decay": 0.9, "eps": 1e-8, "weight_decay": 0.0}, state={"nu": "n"},
        source="mxnet/optimizer/optimizer.py 1724-1761", remark="ignores `gamma2` unless centered",
    ),
    "mxnet_centered": Row(
        api="mxnet.optimizer.RMSProp(centered=True)", version="1.9.1",
        variant=dataclasses.replace(_ZEROS, decoupled_weight_decay=False),
        arguments={"learning_rate": "learning_rate", "decay": "gamma1", "momentum": "gamma2", "eps": "epsilon",
                   "weight_decay": "wd"},
        defaults={"learning_rate": 1e-3, "decay": 0.9, "momentum": 0.9, "eps": 1e-8, "weight_decay": 0.0},
        fixed={"centered": True}, state=_GRAVES_STATE, keeps_trace=True, negated_trace=True,
        source="mxnet/optimizer/optimizer.py 1724-1765",
    ),
    "tfjs": Row(
        api="tf.train.rmsprop (JavaScript)", version="4.22.0", variant=_ZEROS,
        arguments={"learning_rate": "learningRate", "decay": "decay", "momentum": "momentum", "eps": "epsilon"},
        defaults={"decay": 0.9, "momentum": 0.0, "eps": 1e-7}, state={"nu": "rms", "trace": "momentum"},
        keeps_trace=True, source="@tensorflow/tfjs-core dist/optimizers/rmsprop_optimizer.js 86-108",
        remark="centered, it subtracts eps inside the root, which has no switch here",
    ),
    "jax_rmsprop": Row(
        api="jax.example_libraries.optimizers.rmsprop", version="0.10.2", variant=_ZEROS,
        arguments=_named("step_size", "gamma", "eps"), defaults={"decay": 0.9, "eps": 1e-8},
        state={"nu": "avg_sq_grad"}, source="jax/example_libraries/optimizers.py 331-355",
    ),
    "jax_rmsprop_momentum": Row(
        api="jax.example_libraries.optimizers.rmsprop_momentum", version="0.10.2", variant=_ZEROS,
        arguments=_named("step_size", "gamma", "eps", "momentum"),
        defaults={"decay": 0.9, "eps": 1e-8, "momentum": 0.9}, state={"nu": "avg_sq_grad", "trace": "mom"},
        keeps_trace=True, source="jax/example_libraries/optimizers.py 359-389",
    ),
    "flax_optim": Row(
        api="flax.optim.RMSProp", version="0.5.3", variant=_OUTSIDE,
        arguments=_named("learning_rate", "beta2", "eps", "centered"),
        defaults={"learning_rate": None, "decay": 0.9, "eps": 1e-8, "centered": False},
        state={"nu": "v", "mu": "mg"}, source="flax/optim/rmsprop.py 42-81", remark="removed since",
    ),
    "trax": Row(
        api="trax.optimizers.RMSProp", version="1.4.1",
        variant=Variant(eps_in_sqrt=False, initial_scale=1.0, complex_pairs=None),
        arguments=_named("learning_rate", "gamma", "eps"),
        defaults={"learning_rate": 1e-3, "decay": 0.9, "eps": 1e-8},
        state={"nu": "avg_sq_grad"}, source="trax/optimizers/rms_prop.py 30-50",
    ),
    "autograd": Row(
        api="autograd.misc.optimizers.rmsprop", version="1.9.1",
        variant=Variant(eps_in_sqrt=False, initial_scale=1.0, complex_pairs=None),
        arguments=_named("step_size", "gamma", "eps"), defaults={"learning_rate": 0.1, "decay": 0.9, "eps": 1e-8},
        state={}, source="autograd/misc/optimizers.py 48-57",
    ),
    "lasagne": Row(
        api="lasagne.updates.rmsprop", version="0.1", variant=_ZEROS,
        arguments=_named("learning_rate", "rho", "epsilon"),
        defaults={"learning_rate": 1.0, "decay": 0.9, "eps": 1e-6},
        state={"nu": "accu"}, source="lasagne/updates.py 387-442",
    ),
    "climin": Row(
        api="climin.RmsProp", version="0.1a1", variant=_ONES,
        arguments={"learning_rate": "step_rate", "decay": "decay"}, defaults={"decay": 0.9}, fixed={"eps": 1e-8},
        state={"nu": "moving_mean_squared"}, source="climin/rmsprop.py 99-172",
        remark="its `momentum` takes the gradient at a shifted point, which has no switch here",
    ),
})  # fmt: skip

VARIANTS: Mapping[str, Variant] = MappingProxyType({name: row.variant for name, row in ROWS.items()})
