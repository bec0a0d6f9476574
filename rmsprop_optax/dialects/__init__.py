"""RMSprop as each framework has it: one function for each, with its own argument names, order and defaults.

Called with the numbers of a run, the function takes the path that the framework takes. What two frameworks make of the
same numbers differs in six switches; `VARIANTS` has them for each as a `rmsprop_optax.Variant`:

>>> from rmsprop_optax import dialects
>>> [name for name, variant in dialects.VARIANTS.items() if variant.initial_scale == 1 and not variant.lr_in_momentum]
['sb3']

`ROWS` has, besides, what each calls its arguments and its state, its defaults, and the lines that were read:

>>> row = dialects.ROWS["torch"]
>>> row.function, row.arguments["decay"], row.defaults["decay"], row.state["nu"]
('torch_rmsprop', 'alpha', 0.99, 'square_avg')

The functions hold these in common:

- A learning rate or a weight decay is a number or a schedule, a function from the step, counted from 0, to a number.
- Where a framework keeps no momentum buffer at momentum 0, a Python 0 keeps none here; a traced 0 keeps one, and the
  path is the same. So does `optax.inject_hyperparams`, which traces every number; with a weight decay among them,
  `update` needs the parameters.
- An argument that the framework would silently ignore is refused, and so is one out of its range.
- Arguments that choose an implementation, not a rule, are left out; where that breaks a framework's order, those behind
  them are by keyword only.
- The arithmetic is that of `rmsprop`: float32 or better, finite for finite gradients, `centered` never NaN.

Which function for which framework, what they call things, how to choose eps and how to port a run: docs/dialects.md.
"""

from rmsprop_optax.dialects.others import (
    chainer_rmsprop,
    mindspore_rmsprop,
    mlx_rmsprop,
    optax_rmsprop,
    paddle_rmsprop,
)
from rmsprop_optax.dialects.papers import graves_rmsprop, hinton_rmsprop
from rmsprop_optax.dialects.pytorch import sb3_rmsprop_tf_like, timm_rmsprop_tf, torch_rmsprop
from rmsprop_optax.dialects.rows import ROWS, VARIANTS, Row
from rmsprop_optax.dialects.tensorflow import keras_rmsprop, sonnet_rmsprop, tf1_rmsprop, tf_keras_legacy_rmsprop

__all__ = [
    "ROWS",
    "VARIANTS",
    "Row",
    "chainer_rmsprop",
    "graves_rmsprop",
    "hinton_rmsprop",
    "keras_rmsprop",
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
