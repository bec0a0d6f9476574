"""DreamerV3's RMSprop: each gradient clipped by its parameter's norm, both averages corrected, eps next to nothing.

The common mistake is to take its `beta1` for Adam's: it averages the steps, after the division by the root, not the
gradients.
"""

from __future__ import annotations  # signatures in help() read as written here

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.alias import Variant
from rmsprop_optax.dialects._assembly import assemble, none_if_zero
from rmsprop_optax.dialects.clipping import clip_adaptive
from rmsprop_optax.dialects.row import Row

__all__ = ["ROW", "dreamer_v3_rmsprop"]

ROW = Row(
    api="dreamerv3 Agent._make_opt",
    version="f8817c4",
    variant=Variant(
        eps_in_sqrt=False, bias_correction=True, average_momentum=True, lr_in_momentum=False, complex_pairs=None
    ),
    arguments={
        "learning_rate": "lr",
        "eps": "eps",
        "momentum": "beta1",
        "decay": "beta2",
        "weight_decay": "wd",
    },
    defaults={"learning_rate": 4e-5, "decay": 0.999, "eps": 1e-20, "momentum": 0.9, "weight_decay": 0.0},
    state={"nu": "nu", "ema": "mu", "count": "step"},
    source="embodied/jax/opt.py 109-164, dreamerv3/agent.py 342-379",
    function="dreamer_v3_rmsprop",
    keeps_trace=True,
    remark="`agc` clips each gradient by its parameter's norm; `warmup`; ignores `momentum`; `nesterov` looks ahead",
)


@value
def dreamer_v3_rmsprop(
    lr: optax.ScalarOrSchedule = 4e-5,
    agc: jax.typing.ArrayLike = 0.3,
    eps: jax.typing.ArrayLike = 1e-20,
    beta1: jax.typing.ArrayLike = 0.9,
    beta2: jax.typing.ArrayLike = 0.999,
    *,
    nesterov: bool = False,
    wd: optax.ScalarOrSchedule = 0.0,
    wdregex: Any = r"/kernel$",
    schedule: str = "const",
    warmup: int = 1000,
    anneal: int = 0,
) -> optax.GradientTransformationExtraArgs:
    r"""Step as the optimizer that DreamerV3's agent makes.

    .. math::
        g'_t &= g_t / \max(1, \|g_t\| / (\text{agc} \max(10^{-3}, \|\theta_{t-1}\|))) \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g'^2_t, \qquad v_0 = 0 \\
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) \frac{g'_t}{\sqrt{v_t / (1 - \beta_2^t)} + \epsilon}, \qquad m_0 = 0 \\
        \theta_t &= \theta_{t-1} - \eta_t \left( \frac{m_t}{1 - \beta_1^t} + \lambda \theta_{t-1} \right)

    It differs from `rmsprop` with its defaults:

    1. The norm of each gradient is first clipped to `agc` times that of its parameter, which counts as 1e-3 or more.
    2. The mean square is corrected for its bias, and `eps` is 1e-20 outside the root.
    3. The momentum is an average of the steps, corrected for its bias; the learning rate is applied after it. With
       `nesterov`, :math:`\beta_1 m_t` plus the newest term stands in for :math:`m_t`, divided by the same
       :math:`1 - \beta_1^t`; Adam's form divides otherwise.
    4. Weight decay is decoupled, and acts where `wdregex` says.
    5. The learning rate rises linearly from 0 over `warmup` steps, so the first step has none.
    6. Complex parameters are refused: the code squares them without taking the magnitude.

    DreamerV3's `momentum` is left out: the code never reads it. Where a mean square would be too small for float32, the
    code divides by eps alone; here updates stay within the bounds of `scale_by_rms`.

    Args:
      lr: :math:`\eta`, in [0, inf). A number, which may be traced, or a schedule, which the warm-up multiplies.
      agc: In [0, inf), in norms of the parameter. A number; may be traced. A Python 0 clips nothing. `update` needs the
        parameters unless it is 0.
      eps: :math:`\epsilon`, in [0, inf), in units of the gradient. A number; may be traced.
      beta1: :math:`\beta_1`, in [0, 1). A number; may be traced.
      beta2: :math:`\beta_2`, in [0, 1). A number; may be traced.
      nesterov: Whether the momentum looks ahead. Structure.
      wd: :math:`\lambda`, in [0, inf). A number, which may be traced, or a schedule. A Python 0 means no link. `update`
        needs the parameters otherwise.
      wdregex: Where to decay: a regular expression that is searched in the path of each parameter, `layer/kernel`; or a
        mask as in `rmsprop`. Structure.
      schedule: "const", or "linear" or "cosine", which fall from the end of the warm-up to step `anneal`: the one to
        :math:`0.1\eta`, the other to :math:`0.1\eta^2`, as the code does, which passes optax a rate where it takes a
        share of one. Structure.
      warmup: The steps of the warm-up, 0 for none. A whole number. Structure.
      anneal: The last step of the fall. A whole number above `warmup`; only with a schedule that falls. Structure.

    Returns:
      The transformation. Behind the clipping its state has `nu`, `ema` for the code's `mu`, and their counts.

    Raises:
      ValueError: A number is out of range; a schedule that falls without `anneal`, or a constant one with it; a
        schedule for `lr` beside one by name; a regular expression that is invalid or starts with a digit; trees differ.
      TypeError: A number is in half precision; `nesterov` is not a bool; a leaf is not floating-point.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import dialects
      >>> tx = dialects.dreamer_v3_rmsprop(lr=0.1, warmup=0)
      >>> params = jnp.ones(1)
      >>> updates, _ = tx.update(jnp.array([6.0]), tx.init(params), params)
      >>> print(f"{updates[0]:.3f}")  # the first step is one learning rate
      -0.100

    References:
      danijar/dreamerv3 at f8817c4, embodied/jax/opt.py, lines 109-164, and dreamerv3/agent.py, lines 342-379: the chain
      and the arguments. Hafner et al., `Mastering diverse domains through world models
      <https://arxiv.org/abs/2301.04104>`_, calls the optimizer LaProp.
    """
    wd = none_if_zero(wd)
    limit = none_if_zero(_checks.number("agc", agc))
    return assemble(
        ROW,
        before=[] if limit is None else [clip_adaptive(limit, 1e-3)],
        learning_rate=_rate(lr, schedule, warmup, anneal),
        decay=beta2,
        eps=eps,
        momentum=beta1,
        nesterov=nesterov,
        weight_decay=wd,
        weight_decay_mask=None if wd is None else _mask(wdregex),
    )


def _rate(lr: Any, schedule: Any, warmup: Any, anneal: Any) -> Any:
    """Return the learning rate with its warm-up and its fall, or refuse them."""
    _checks.one_of("schedule", schedule, ("const", "linear", "cosine"))
    warmup, anneal = _steps("warmup", warmup), _steps("anneal", anneal)
    if (schedule == "const") != (anneal == 0):
        raise ValueError(
            f"`anneal` must be the last step of a schedule that falls, got anneal={anneal:g} with schedule="
            f'{schedule!r}. Pass schedule="linear" or "cosine" with it, or neither.'
        )
    if anneal and anneal <= warmup:
        raise ValueError(f"`anneal` must be above `warmup`, {warmup:g}, got {anneal:g}: it counts from the first step.")
    if callable(lr) and anneal:
        raise ValueError('`lr` is a schedule and `schedule` names another. Leave `schedule` at "const".')
    if callable(lr):
        peak = lambda count: _checks.number("lr", lr(count))  # noqa: E731
    else:
        number = _checks.number("lr", lr)
        peak = lambda count: number  # noqa: E731
        if not warmup and not anneal:
            return number

    def rate(count):
        done = jnp.clip(1.0 * (count - warmup) / max(anneal - warmup, 1), 0, 1)  # times 1.0 it may be float64
        left = 1 - done if schedule == "linear" else 0.5 * (1 + jnp.cos(jnp.pi * done))
        last = 0.1 if schedule == "linear" else 0.1 * peak(count)  # a share, and the code passes a rate for it
        fallen = peak(count) * (last + (1 - last) * left) if anneal else peak(count)
        return jnp.where(count < warmup, peak(count) * count / max(warmup, 1), fallen) if warmup else fallen

    return rate


def _steps(name: str, steps: Any) -> int:
    """Return a whole number of steps, or refuse it."""
    if isinstance(steps, jax.Array):
        raise TypeError(f"`{name}` must be a Python number of steps, got {steps!r}.")
    number = _checks.number(name, steps)
    if number != int(number):
        raise ValueError(f"`{name}` must be a whole number of steps, got {steps!r}.")
    return int(number)


def _mask(wdregex: Any) -> Any:
    """Return a mask that decays the parameters in whose path an expression is found."""
    if not isinstance(wdregex, str):
        return wdregex
    if not wdregex or wdregex[0].isnumeric():
        raise ValueError(f"`wdregex` must be an expression that does not start with a digit, got {wdregex!r}.")
    try:
        pattern = re.compile(wdregex)
    except re.error as error:
        raise ValueError(f"`wdregex` must be a regular expression, got {wdregex!r}: {error}.") from None

    def mask(params):
        found = lambda path: pattern.search(jax.tree_util.keystr(path, simple=True, separator="/"))  # noqa: E731
        return jax.tree_util.tree_map_with_path(lambda path, _: bool(found(path)), params)

    return mask
