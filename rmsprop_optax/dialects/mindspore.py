"""MindSpore's RMSprop: TensorFlow 1's rule with an L2 penalty that goes by name.

The common mistake is to expect every parameter to decay: those with `beta` or `gamma` in their names do not.
"""

from __future__ import annotations  # signatures in help() read as written here

from typing import Any

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "mindspore_rmsprop"]

ROW = Row(
    api="mindspore.nn.RMSProp",
    version="2.10.0",
    variant=Variant(initial_scale=1.0, decoupled_weight_decay=False, complex_pairs=None),
    arguments={
        "learning_rate": "learning_rate",
        "decay": "decay",
        "momentum": "momentum",
        "eps": "epsilon",
        "centered": "centered",
        "weight_decay": "weight_decay",
    },
    defaults={
        "learning_rate": 0.1,
        "decay": 0.9,
        "momentum": 0.0,
        "eps": 1e-10,
        "centered": False,
        "weight_decay": 0.0,
    },
    state={"nu": "mean_square", "mu": "mean_grad", "trace": "moment", "count": "global_step"},
    source="mindspore/nn/optim/rmsprop.py 238-270",
    function="mindspore_rmsprop",
    keeps_trace=True,
    remark="names with `beta` or `gamma` do not decay",
)


@value
def mindspore_rmsprop(
    learning_rate: optax.ScalarOrSchedule = 0.1,
    decay: jax.typing.ArrayLike = 0.9,
    momentum: jax.typing.ArrayLike = 0.0,
    epsilon: jax.typing.ArrayLike = 1e-10,
    *,
    centered: bool = False,
    loss_scale: jax.typing.ArrayLike = 1.0,
    weight_decay: optax.ScalarOrSchedule = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as `mindspore.nn.RMSProp` does.

    .. math::
        g_t &\leftarrow g_t / \mathtt{loss\_scale} + \lambda \theta_{t-1} \\
        v_t &= \rho v_{t-1} + (1 - \rho) g_t^2, \qquad v_0 = 1 \\
        b_t &= \mu b_{t-1} + \eta_t g_t / \sqrt{v_t + \epsilon} \\
        \theta_t &= \theta_{t-1} - b_t

    It differs from `rmsprop` with its defaults:

    1. The mean square starts at 1, as in TensorFlow 1.
    2. `epsilon` is 1e-10.
    3. It keeps a momentum buffer at momentum 0, too.
    4. Weight decay is an L2 penalty, and leaves out every parameter whose name contains `beta` or `gamma`. A name here
       is the path of the leaf: `norm/gamma`. Flax calls these `bias` and `scale`: rename them, or leave them out with
       `optax.partition`.
    5. `loss_scale` divides the gradient, not the decay.
    6. Complex parameters are refused: MindSpore has no such kernel.

    `mindspore.experimental.optim.RMSprop` is `torch_rmsprop`, argument by argument. `use_locking` is left out; the
    arguments after it are keyword-only.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\rho`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      epsilon: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      centered: Whether to divide by the standard deviation instead. Structure.
      loss_scale: What the loss was multiplied by, in (0, inf). A number; may be traced.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. With a Python 0 there
        is no decay; otherwise `update` needs the parameters.

    Returns:
      The transformation. Its state has `nu` for MindSpore's `mean_square`, or when centered `variance` for
      `mean_square` minus `mean_grad` squared and `mu` for `mean_grad`, and `trace` for `moment`; the trace has the
      opposite sign.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; `centered` is not a bool; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.mindspore_rmsprop(learning_rate=0.1, decay=0.75, epsilon=0.0, loss_scale=1024.0)
      >>> print(tx.update(jnp.array([1024.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 1 / sqrt(0.75 * 1 + 0.25 * 1)
      [-0.1]

    References:
      MindSpore 2.10.0, mindspore/nn/optim/rmsprop.py, lines 238-270, and optimizer.py, lines 267-272 (the names),
      397-418 (decay), 439-456 and 491-499 (loss scale); the arguments: rmsprop.py, lines 219-220.
    """
    scale = _checks.positive("loss_scale", loss_scale, hint=" Leave it 1 if the loss is not scaled.")
    weight_decay = none_if_zero(weight_decay)
    return assemble(
        ROW,
        before=[] if isinstance(scale, float) and scale == 1 else [optax.scale(1 / scale)],
        learning_rate=learning_rate,
        decay=decay,
        eps=epsilon,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
        weight_decay_mask=None if weight_decay is None else _no_beta_or_gamma,
    )


def _no_beta_or_gamma(params: Any) -> Any:
    """Mark the leaves that MindSpore decays, by their paths."""

    def decays(path, leaf):
        del leaf
        name = jax.tree_util.keystr(path)
        return "beta" not in name and "gamma" not in name

    return jax.tree_util.tree_map_with_path(decays, params)
