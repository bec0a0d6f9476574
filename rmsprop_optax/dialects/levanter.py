"""Levanter's RMSprop: all gradients clipped together, both averages corrected, decay away from norms and biases.

The common mistake is to believe its docstring, whose equations are a heavy ball with eps in the root: the code averages
the steps, corrects that average, and adds eps outside.
"""

from __future__ import annotations  # signatures in help() read as written here

import re
from typing import Any

import jax
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.clipping import clip_norm
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "levanter_rmsprop"]

ROW = Row(
    api="levanter RMSPropMomentumConfig",
    version="9263f81",
    variant=Variant(
        eps_in_sqrt=False, bias_correction=True, average_momentum=True, lr_in_momentum=False, complex_pairs=None
    ),
    arguments={
        "learning_rate": "learning_rate",
        "weight_decay": "weight_decay",
        "momentum": "beta1",
        "decay": "beta2",
        "eps": "eps",
    },
    defaults={"learning_rate": 6e-4, "weight_decay": 0.1, "decay": 0.99, "eps": 1e-30, "momentum": 0.9},
    state={"nu": "mean_square", "ema": "momentum", "count": "count"},
    source="src/levanter/optim/rmsprop.py 23-54, 98-134",
    function="levanter_rmsprop",
    keeps_trace=True,
    remark="its docstring's equations (heavy ball, eps in the root) are not its code; `max_grad_norm` clips to 1",
)

_NOT_BY_DEFAULT = ("LayerNorm", "RMSNorm", "RmsNorm", "Embedding")


@value
def levanter_rmsprop(
    learning_rate: optax.ScalarOrSchedule = 6e-4,
    weight_decay: optax.ScalarOrSchedule = 0.1,
    *,
    weight_decay_modules: Any = None,
    default_weight_decay_mask: bool | None = None,
    beta1: jax.typing.ArrayLike = 0.9,
    beta2: jax.typing.ArrayLike = 0.99,
    eps: jax.typing.ArrayLike = 1e-30,
    max_grad_norm: jax.typing.ArrayLike | None = 1.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as the optimizer that Levanter's `RMSPropMomentumConfig` builds.

    .. math::
        g'_t &= g_t / \max(1, \|g_t\| / \mathtt{max\_grad\_norm}) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g'^2_t, \qquad v_0 = 0 \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) \frac{g'_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}, \qquad m_0 = 0 \\
        \theta_t &= \theta_{t-1} - \eta_t \left( \frac{m_t}{1 - \beta_1^t} + \lambda \theta_{t-1} \right)

    These equations are those of the code. The docstring there has others: a heavy ball, with eps in the root.

    It differs from `rmsprop` with its defaults:

    1. The norm of all gradients together is first clipped to 1.
    2. The mean square is corrected for its bias, and `eps` is 1e-30 outside the root.
    3. The momentum is an average of the steps, corrected for its bias; the learning rate is applied after it.
    4. Weight decay is decoupled and 0.1. Unless told otherwise it leaves out parameters whose path has "LayerNorm",
       "RMSNorm", "RmsNorm" or "Embedding" in it, or ends in "bias".
    5. Complex parameters are refused: the code squares them without taking the magnitude.

    Levanter's fields for the schedule are left out: pass one as `learning_rate`. Paths are written with dots,
    `layer.weight`; Levanter also looks at the names of classes, which trees of arrays do not have.

    Args:
      learning_rate: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule.
      weight_decay: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. A Python 0 means no
        link; otherwise `update` needs the parameters.
      weight_decay_modules: Where to decay: a regular expression that must match from the start of a path, or a list of
        words, one of which must be in it; or a mask as in `rmsprop`. None leaves it to the default. Structure.
      default_weight_decay_mask: Whether the default of 4. holds for paths that `weight_decay_modules` does not name.
        None means that it does if there are no `weight_decay_modules`; False, without any, decays everything.
        Structure.
      beta1: :math:`\beta_1`, in [0, 1). A number; may be traced.
      beta2: :math:`\beta_2`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient. A number; may be traced.
      max_grad_norm: Above 0. A number; may be traced. None clips nothing.

    Returns:
      The transformation. Behind the clipping its state has `nu` for Levanter's `mean_square`, `ema` for `momentum`, and
      their counts.

    Raises:
      ValueError: A number is out of range; a regular expression is invalid; trees differ in structure or shape.
      TypeError: A number is in half precision; a list has something other than words; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.levanter_rmsprop(learning_rate=0.1)
      >>> params = {"weight": jnp.ones(1), "bias": jnp.ones(1)}
      >>> updates, _ = tx.update(params, tx.init(params), params)
      >>> print(f"{updates['weight'][0]:.3f} {updates['bias'][0]:.3f}")  # -0.1 * (1 + 0.1 * 1), and -0.1
      -0.110 -0.100

    References:
      stanford-crfm/levanter at 9263f81, src/levanter/optim/rmsprop.py, lines 23-54 and 98-134; the docstring: lines
      68-78; the mask and the other arguments: src/levanter/optim/config.py, lines 111-142 and 148-237.
    """
    decay = none_if_zero(weight_decay)
    mask = _mask(weight_decay_modules, default_weight_decay_mask)
    return assemble(
        ROW,
        before=clip_norm("max_grad_norm", max_grad_norm),
        learning_rate=learning_rate,
        decay=beta2,
        eps=eps,
        momentum=beta1,
        weight_decay=decay,
        weight_decay_mask=None if decay is None else mask,
    )


def _mask(modules: Any, default: Any) -> Any:
    """Return a mask from paths; None decays everything."""
    if default is not None:
        default = _checks.switch("default_weight_decay_mask", default)
    if modules is not None and not isinstance(modules, str) and not _is_list_of_words(modules):
        if default is not None:
            raise ValueError("`default_weight_decay_mask` is for paths; a mask in `weight_decay_modules` has them all.")
        return modules
    if modules is None and default is False:
        return None
    defaults = default is True or (default is None and modules is None)
    named = _named(modules)

    def decays(path, leaf):
        del leaf
        where = jax.tree_util.keystr(path, simple=True, separator=".")
        if named(where) or not defaults:
            return named(where)
        return not (any(word in where for word in _NOT_BY_DEFAULT) or where.endswith("bias"))

    return lambda params: jax.tree_util.tree_map_with_path(decays, params)


def _is_list_of_words(modules: Any) -> bool:
    if not isinstance(modules, list | tuple):
        return False
    words = [isinstance(word, str) for word in modules]
    if any(words) and not all(words):
        raise TypeError(f"`weight_decay_modules` must be a list of words, got {modules!r}.")
    return all(words)


def _named(modules: Any) -> Any:
    """Return a function that says whether a path is named by an expression or by a list of words."""
    if not isinstance(modules, str):
        return lambda path: any(word in path for word in modules or ())
    try:
        pattern = re.compile(modules)
    except re.error as error:
        raise ValueError(f"`weight_decay_modules` must be a regular expression, got {modules!r}: {error}.") from None
    return lambda path: pattern.match(path) is not None
