"""The frameworks that have a row and no function: call `rmsprop` with the switches of their row.

The common mistake is to pass a row's `defaults` to `rmsprop` without its `variant`.
"""

import dataclasses

from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects import torch
from rmsprop_optax.dialects.row import Row

__all__ = [
    "AUTOGRAD",
    "BITSANDBYTES",
    "CLIMIN",
    "FASTAI",
    "FLAX_OPTIM",
    "JAX_RMSPROP",
    "JAX_RMSPROP_MOMENTUM",
    "KERAS_2_2",
    "LASAGNE",
    "MINDSPORE_EXPERIMENTAL",
    "MXNET",
    "MXNET_CENTERED",
    "PFRL",
    "TFJS",
    "TRAX",
]

PFRL = Row(
    api="pfrl.optimizers.RMSpropEpsInsideSqrt",
    version="0.4.0",
    variant=Variant(lr_in_momentum=False, decoupled_weight_decay=False, complex_pairs=None),
    arguments=torch.ROW.arguments,
    defaults=torch.ROW.defaults,
    state=torch.ROW.state,
    source="pfrl/optimizers/rmsprop_eps_inside_sqrt.py 28-62",
)

BITSANDBYTES = Row(
    api="bitsandbytes.optim.RMSprop32bit",
    version="0.50.2",
    variant=Variant(eps_in_sqrt=False, decoupled_weight_decay=False, complex_pairs=None),
    arguments={"learning_rate": "lr", "decay": "alpha", "eps": "eps", "weight_decay": "weight_decay"},
    defaults={"learning_rate": 1e-2, "decay": 0.99, "eps": 1e-8, "weight_decay": 0},
    state={"nu": "state1", "count": "step"},
    source="bitsandbytes/optim/rmsprop.py 117-170",
    remark="takes `momentum` and ignores it",
)

FASTAI = Row(
    api="fastai.optimizer.RMSProp",
    version="2.8.12",
    variant=Variant(eps_in_sqrt=False, complex_pairs=None),
    arguments={"learning_rate": "lr", "decay": "sqr_mom", "weight_decay": "wd"},
    defaults={"decay": 0.99, "weight_decay": 0.0},
    state={"nu": "sqr_avg"},
    source="fastai/optimizer.py 190-211",
    fixed={"eps": 1e-8},
    set_by={"decoupled_weight_decay": "decouple_wd"},
    remark="takes `eps` and ignores it; `mom` averages the gradient itself, which has no switch here",
)

KERAS_2_2 = Row(
    api="keras.optimizers.RMSprop",
    version="2.2.4",
    variant=Variant(eps_in_sqrt=False, complex_pairs=None),
    arguments={"learning_rate": "lr", "decay": "rho", "eps": "epsilon"},
    defaults={"learning_rate": 1e-3, "decay": 0.9, "eps": 1e-7},
    state={"nu": "accumulator"},
    source="keras/optimizers.py 241-277",
    remark="its `clipnorm` is one norm over all gradients; `epsilon=None` is 1e-7",
)

MINDSPORE_EXPERIMENTAL = Row(
    api="mindspore.experimental.optim.RMSprop",
    version="2.10.0",
    variant=dataclasses.replace(torch.ROW.variant, complex_pairs=None),
    arguments=torch.ROW.arguments,
    defaults=torch.ROW.defaults,
    state={},
    source="mindspore/experimental/optim/rmsprop.py 20-35",
    remark="PyTorch's, argument by argument",
)

MXNET = Row(
    api="mxnet.optimizer.RMSProp",
    version="1.9.1",
    variant=Variant(decoupled_weight_decay=False, complex_pairs=None),
    arguments={"learning_rate": "learning_rate", "decay": "gamma1", "eps": "epsilon", "weight_decay": "wd"},
    defaults={"learning_rate": 1e-3, "decay": 0.9, "eps": 1e-8, "weight_decay": 0.0},
    state={"nu": "n"},
    source="mxnet/optimizer/optimizer.py 1724-1761",
    remark="ignores `gamma2` unless centered",
)

MXNET_CENTERED = Row(
    api="mxnet.optimizer.RMSProp(centered=True)",
    version="1.9.1",
    variant=Variant(decoupled_weight_decay=False, complex_pairs=None),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "gamma1",
        "momentum": "gamma2",
        "eps": "epsilon",
        "weight_decay": "wd",
    },
    defaults={"learning_rate": 1e-3, "decay": 0.9, "momentum": 0.9, "eps": 1e-8, "weight_decay": 0.0},
    state={"nu": "n", "mu": "g", "trace": "delta"},
    source="mxnet/optimizer/optimizer.py 1724-1765",
    fixed={"centered": True},
    keeps_trace=True,
    negated_trace=True,
)

TFJS = Row(
    api="tf.train.rmsprop (JavaScript)",
    version="4.22.0",
    variant=Variant(complex_pairs=None),
    arguments={"learning_rate": "learningRate", "decay": "decay", "momentum": "momentum", "eps": "epsilon"},
    defaults={"decay": 0.9, "momentum": 0.0, "eps": 1e-7},
    state={"nu": "rms", "trace": "momentum"},
    source="@tensorflow/tfjs-core dist/optimizers/rmsprop_optimizer.js 86-108",
    keeps_trace=True,
    remark="centered, it subtracts eps inside the root, which has no switch here",
)

JAX_RMSPROP = Row(
    api="jax.example_libraries.optimizers.rmsprop",
    version="0.10.2",
    variant=Variant(complex_pairs=None),
    arguments={"learning_rate": "step_size", "decay": "gamma", "eps": "eps"},
    defaults={"decay": 0.9, "eps": 1e-8},
    state={"nu": "avg_sq_grad"},
    source="jax/example_libraries/optimizers.py 331-355",
)

JAX_RMSPROP_MOMENTUM = Row(
    api="jax.example_libraries.optimizers.rmsprop_momentum",
    version="0.10.2",
    variant=Variant(complex_pairs=None),
    arguments={"learning_rate": "step_size", "decay": "gamma", "eps": "eps", "momentum": "momentum"},
    defaults={"decay": 0.9, "eps": 1e-8, "momentum": 0.9},
    state={"nu": "avg_sq_grad", "trace": "mom"},
    source="jax/example_libraries/optimizers.py 359-389",
    keeps_trace=True,
)

FLAX_OPTIM = Row(
    api="flax.optim.RMSProp",
    version="0.5.3",
    variant=Variant(eps_in_sqrt=False, complex_pairs=None),
    arguments={"learning_rate": "learning_rate", "decay": "beta2", "eps": "eps", "centered": "centered"},
    defaults={"learning_rate": None, "decay": 0.9, "eps": 1e-8, "centered": False},
    state={"nu": "v", "mu": "mg"},
    source="flax/optim/rmsprop.py 42-81",
    remark="removed since",
)

TRAX = Row(
    api="trax.optimizers.RMSProp",
    version="1.4.1",
    variant=Variant(eps_in_sqrt=False, initial_scale=1.0, complex_pairs=None),
    arguments={"learning_rate": "learning_rate", "decay": "gamma", "eps": "eps"},
    defaults={"learning_rate": 1e-3, "decay": 0.9, "eps": 1e-8},
    state={"nu": "avg_sq_grad"},
    source="trax/optimizers/rms_prop.py 30-50",
)

AUTOGRAD = Row(
    api="autograd.misc.optimizers.rmsprop",
    version="1.9.1",
    variant=Variant(eps_in_sqrt=False, initial_scale=1.0, complex_pairs=None),
    arguments={"learning_rate": "step_size", "decay": "gamma", "eps": "eps"},
    defaults={"learning_rate": 0.1, "decay": 0.9, "eps": 1e-8},
    state={},
    source="autograd/misc/optimizers.py 48-57",
)

LASAGNE = Row(
    api="lasagne.updates.rmsprop",
    version="0.1",
    variant=Variant(complex_pairs=None),
    arguments={"learning_rate": "learning_rate", "decay": "rho", "eps": "epsilon"},
    defaults={"learning_rate": 1.0, "decay": 0.9, "eps": 1e-6},
    state={"nu": "accu"},
    source="lasagne/updates.py 387-442",
)

CLIMIN = Row(
    api="climin.RmsProp",
    version="0.1a1",
    variant=Variant(initial_scale=1.0, complex_pairs=None),
    arguments={"learning_rate": "step_rate", "decay": "decay"},
    defaults={"decay": 0.9},
    state={"nu": "moving_mean_squared"},
    source="climin/rmsprop.py 99-172",
    fixed={"eps": 1e-8},
    remark="its `momentum` takes the gradient at a shifted point, which has no switch here",
)
