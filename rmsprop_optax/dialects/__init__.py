"""RMSprop as each framework has it: one function for each, with its own argument names, order and defaults.

Called with the numbers of a run, the function follows the framework's path. Frameworks that are given the same numbers
differ in seven switches; `VARIANTS` has them for each as a `rmsprop_optax.Variant`:

>>> from rmsprop_optax import dialects
>>> [name for name, variant in dialects.VARIANTS.items() if variant.initial_scale == 1 and not variant.lr_in_momentum]
['sb3']

`ROWS` also has the names of a framework's arguments and of its state, its defaults, and the lines that were read:

>>> row = dialects.ROWS["torch"]
>>> row.function, row.arguments["decay"], row.defaults["decay"], row.state["nu"]
('torch_rmsprop', 'alpha', 0.99, 'square_avg')

What the functions have in common:

- Calls with equal arguments return equal optimizers, which hash, pickle and print.
- A learning rate or a weight decay is a number or a schedule, a function from the step, counted from 0, to a number.
- Where a framework keeps no momentum buffer at momentum 0, a Python 0 keeps none here. A traced 0 keeps one, and the
  path is the same. `optax.inject_hyperparams` traces every number, so it keeps one, too; with a weight decay among the
  numbers, `update` needs the parameters.
- An argument that the framework would silently ignore is refused, and so is one out of its range.
- Arguments that choose an implementation, not a rule, are left out; where that breaks a framework's order, the
  arguments after them are keyword-only.
- The arithmetic is that of `rmsprop`: float32 or better, finite for finite gradients, `centered` never NaN.

The guide "Which RMSprop is this?" of the documentation compares the frameworks, their names and their defaults, and
says how to choose eps and how to port a run.
"""

from collections.abc import Mapping
from types import MappingProxyType

from rmsprop_optax import _checks
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects import (
    chainer,
    dreamer_v3,
    graves,
    hinton,
    keras,
    levanter,
    mindspore,
    mlx,
    optax,
    paddle,
    sb3,
    sonnet,
    tf1,
    tf_keras_legacy,
    timm,
    torch,
    without_function,
)
from rmsprop_optax.dialects.chainer import chainer_rmsprop
from rmsprop_optax.dialects.dreamer_v3 import dreamer_v3_rmsprop
from rmsprop_optax.dialects.graves import graves_rmsprop
from rmsprop_optax.dialects.hinton import hinton_rmsprop
from rmsprop_optax.dialects.keras import keras_rmsprop
from rmsprop_optax.dialects.levanter import levanter_rmsprop
from rmsprop_optax.dialects.mindspore import mindspore_rmsprop
from rmsprop_optax.dialects.mlx import mlx_rmsprop
from rmsprop_optax.dialects.optax import optax_rmsprop
from rmsprop_optax.dialects.paddle import paddle_rmsprop
from rmsprop_optax.dialects.row import Row
from rmsprop_optax.dialects.sb3 import sb3_rmsprop_tf_like
from rmsprop_optax.dialects.sonnet import sonnet_rmsprop
from rmsprop_optax.dialects.tf1 import tf1_rmsprop
from rmsprop_optax.dialects.tf_keras_legacy import tf_keras_legacy_rmsprop
from rmsprop_optax.dialects.timm import timm_rmsprop_tf
from rmsprop_optax.dialects.torch import torch_rmsprop

__all__ = [
    "ROWS",
    "VARIANTS",
    "Row",
    "chainer_rmsprop",
    "dreamer_v3_rmsprop",
    "graves_rmsprop",
    "hinton_rmsprop",
    "keras_rmsprop",
    "levanter_rmsprop",
    "mindspore_rmsprop",
    "mlx_rmsprop",
    "optax_rmsprop",
    "paddle_rmsprop",
    "sb3_rmsprop_tf_like",
    "sonnet_rmsprop",
    "tf1_rmsprop",
    "tf_keras_legacy_rmsprop",
    "timm_rmsprop_tf",
    "torch_rmsprop",
]

#: A row for each framework, in the order of the guide's tables. Its key is the name of its file.
#:
#: :meta hide-value:
ROWS: Mapping[str, Row] = MappingProxyType(
    _checks.Known(
        "framework",
        {
            "torch": torch.ROW,
            "timm": timm.ROW,
            "sb3": sb3.ROW,
            "pfrl": without_function.PFRL,
            "bitsandbytes": without_function.BITSANDBYTES,
            "fastai": without_function.FASTAI,
            "tf1": tf1.ROW,
            "tf_keras_legacy": tf_keras_legacy.ROW,
            "keras": keras.ROW,
            "keras_2_2": without_function.KERAS_2_2,
            "optax": optax.ROW,
            "sonnet": sonnet.ROW,
            "paddle": paddle.ROW,
            "mindspore": mindspore.ROW,
            "mindspore_experimental": without_function.MINDSPORE_EXPERIMENTAL,
            "mlx": mlx.ROW,
            "dreamer_v3": dreamer_v3.ROW,
            "levanter": levanter.ROW,
            "chainer": chainer.ROW,
            "graves": graves.ROW,
            "hinton": hinton.ROW,
            "mxnet": without_function.MXNET,
            "mxnet_centered": without_function.MXNET_CENTERED,
            "tfjs": without_function.TFJS,
            "jax_rmsprop": without_function.JAX_RMSPROP,
            "jax_rmsprop_momentum": without_function.JAX_RMSPROP_MOMENTUM,
            "flax_optim": without_function.FLAX_OPTIM,
            "trax": without_function.TRAX,
            "autograd": without_function.AUTOGRAD,
            "lasagne": without_function.LASAGNE,
            "climin": without_function.CLIMIN,
        },
    )
)

#: The switches of each row.
#:
#: :meta hide-value:
VARIANTS: Mapping[str, Variant] = MappingProxyType(
    _checks.Known("framework", {name: row.variant for name, row in ROWS.items()})
)


def __dir__() -> list[str]:
    return __all__
