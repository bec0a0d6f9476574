"""Graves' RMSprop: centered, with momentum.

The common mistake is to cite the paper for an RMSprop without centering: its rule always divides by the standard
deviation.
"""

from __future__ import annotations  # signatures in help() read as written here

import jax
import optax

from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "graves_rmsprop"]

ROW = Row(
    api="chainer.optimizers.RMSpropGraves",
    version="7.8.1",
    variant=Variant(decoupled_weight_decay=False, complex_pairs=None),
    arguments={"learning_rate": "lr", "decay": "alpha", "momentum": "momentum", "eps": "eps"},
    defaults={"learning_rate": 1e-4, "decay": 0.95, "momentum": 0.9, "eps": 1e-4},
    state={"nu": "n", "mu": "g", "trace": "delta", "count": "t"},
    source="chainer/optimizers/rmsprop_graves.py 65-85",
    function="graves_rmsprop",
    fixed={"centered": True},
    keeps_trace=True,
    negated_trace=True,
    remark="Graves 2013, eq. 38-45",
)


@value
def graves_rmsprop(
    lr: optax.ScalarOrSchedule = 1e-4,
    alpha: jax.typing.ArrayLike = 0.95,
    momentum: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-4,
    *,
    weight_decay: optax.ScalarOrSchedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as in Graves' paper on generating sequences, which introduced the centered form.

    .. math::
        n_t &= \alpha n_{t-1} + (1 - \alpha) g_t^2, \qquad n_0 = 0 \\
        m_t &= \alpha m_{t-1} + (1 - \alpha) g_t, \qquad m_0 = 0 \\
        \Delta_t &= \mu \Delta_{t-1} - \gamma_t g_t / \sqrt{n_t - m_t^2 + \epsilon} \\
        \theta_t &= \theta_{t-1} + \Delta_t

    It differs from `rmsprop` with its defaults:

    1. It is always centered: the gradient is divided by its standard deviation.
    2. It always has momentum, 0.9 unless given; the learning rate is applied before it.
    3. `alpha` is 0.95, `eps` 1e-4 and `lr` 1e-4.
    4. Weight decay is an L2 penalty. Chainer has it as a hook, `WeightDecay(rate)`; here it is an argument.
    5. Complex parameters are refused: the rule is for real ones.

    The paper names no arguments; these are those of `chainer.optimizers.RMSpropGraves`. MXNet's
    `RMSProp(centered=True)` is the same rule with other defaults.

    Args:
      lr: :math:`\gamma`, in [0, inf). A number, which may be traced, or a schedule.
      alpha: :math:`\alpha`, in [0, 1). A number; may be traced.
      momentum: :math:`\mu`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient. A number; may be traced.
      weight_decay: The hook's rate, in [0, inf). A number, which may be traced, or a schedule; `update` then needs the
        parameters. With None there is no hook.

    Returns:
      The transformation. Its state has `variance`, `mu`, `trace` for Chainer's `n` minus `g` squared, `g`, `delta`.

    Raises:
      ValueError: A number is out of range; trees differ in structure or shape.
      TypeError: A number is in half precision; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.graves_rmsprop(lr=0.1, alpha=0.5, eps=0.0)
      >>> print(tx.update(jnp.array([6.0]), tx.init(jnp.zeros(1)))[0])  # -0.1 * 6 / sqrt(18 - 3**2)
      [-0.2]

    References:
      Graves, `Generating sequences with recurrent neural networks <https://arxiv.org/abs/1308.0850>`_, eq. 38-45, as
      written in Chainer 7.8.1, chainer/optimizers/rmsprop_graves.py, lines 65-85; the arguments: lines 123-126.
    """
    return assemble(
        ROW, learning_rate=lr, decay=alpha, eps=eps, momentum=momentum, centered=True, weight_decay=weight_decay
    )
