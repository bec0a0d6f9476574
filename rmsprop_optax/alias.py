"""RMSprop: the rule and what stands before and behind it, as equations in the order of the chain."""

from __future__ import annotations  # signatures in help() read as written here

import contextlib
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks, moments
from rmsprop_optax._value import value
from rmsprop_optax.transform import (
    Rule,
    advanced,
    averaged,
    check_updates,
    debias,
    map_leaves,
    next_count,
    scaled,
    times,
)

__all__ = ["Variant", "rmsprop"]


@_checks.init
@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """Where two frameworks differ when given the same numbers.

    With the same numbers, they follow different paths if one of these differs. The first six are arguments of
    `rmsprop`, with its defaults; the last is `optax.contrib.split_real_and_imaginary` around it, or not.
    `rmsprop_optax.dialects.VARIANTS` has one for each framework.

    Args:
      eps_in_sqrt: Whether eps is added inside the root.
      initial_scale: What the mean square starts at, in units of the squared gradient.
      bias_correction: Whether the mean square is divided by 1 - decay**t.
      average_momentum: Whether the momentum is a bias-corrected average of the steps, not their sum.
      lr_in_momentum: Whether the learning rate is applied before the momentum.
      decoupled_weight_decay: Whether weight decay acts on the parameter, not through the gradient.
      complex_pairs: Whether the parts of a complex number are two numbers with a mean square each; False gives them
        one, of the magnitude; None means that the framework has no rule for complex parameters.

    Example:
      >>> from rmsprop_optax import Variant, dialects
      >>> dialects.VARIANTS["tf1"] == Variant(initial_scale=1.0, complex_pairs=None)
      True
    """

    eps_in_sqrt: bool = True
    initial_scale: float = 0.0
    bias_correction: bool = False
    average_momentum: bool = False
    lr_in_momentum: bool = True
    decoupled_weight_decay: bool = True
    complex_pairs: bool | None = False

    def __post_init__(self) -> None:
        for name, choice in vars(self).items():
            if name == "initial_scale":
                _checks.number(name, choice)
            elif name != "complex_pairs" or choice is not None:
                _checks.switch(name, choice)


@value
def rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: jax.typing.ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    average_momentum: bool = False,
    lr_in_momentum: bool = True,
    weight_decay: optax.ScalarOrSchedule | None = None,
    decoupled_weight_decay: bool = True,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Divide the learning rate of each parameter by the running root mean square of its gradient.

    With the defaults, :math:`\alpha` being `learning_rate`, :math:`\beta` `decay` and :math:`\theta` a parameter:

    .. math::
        \nu_t &= \beta \nu_{t-1} + (1 - \beta) g_t^2, \qquad \nu_0 = 0 \\
        \theta_t &= \theta_{t-1} - \alpha g_t / \sqrt{\nu_t + \epsilon}

    The first nine arguments are those of `optax.rmsprop`, in its order and with its defaults. With everything on, where
    :math:`m` is `momentum`, :math:`\lambda` is `weight_decay` and :math:`u_t` is what :func:`scale_by_rms` makes of
    :math:`g_t`, or of :math:`g_t + \lambda \theta_{t-1}` without `decoupled_weight_decay`:

    .. math::
        b_t &= m b_{t-1} + \alpha_t u_t \\
        \theta_t &= \theta_{t-1} - b_t - \alpha_t \lambda \theta_{t-1}

    with `lr_in_momentum`, as in TensorFlow, Keras and optax, and without, as in PyTorch,

    .. math::
        b_t &= m b_{t-1} + u_t \\
        \theta_t &= \theta_{t-1} - \alpha_t (b_t + \lambda \theta_{t-1})

    The two agree as long as the learning rate is constant. With `nesterov`, :math:`m b_t` plus the newest term stands
    in for :math:`b_t`.

    With `average_momentum`, the momentum is a bias-corrected average of the same terms, as in DreamerV3: with
    :math:`s_t` for :math:`\alpha_t u_t`, or :math:`u_t` without `lr_in_momentum`, this stands in for :math:`b_t`:

    .. math::
        e_t = m e_{t-1} + (1 - m) s_t, \qquad \frac{e_t}{1 - m^t}

    and with `nesterov` :math:`(m e_t + (1 - m) s_t) / (1 - m^t)`.

    This is DreamerV3's form of `nesterov`, not that of Adam (NAdam), which divides :math:`m e_t` by
    :math:`1 - m^{t+1}`: its first step is :math:`1 + m` times as long. On a steady gradient an average makes steps of
    the length that they have without momentum, a sum makes them :math:`1/(1-m)` times as long.

    The arithmetic and the state are float32, or float64 for float64 parameters; updates come back in the gradient's
    dtype. A None gradient leaves its parameter and its state alone. The state is a tuple with one entry per link; its
    `nu`, or `variance` and `mu` when centered, and its `trace` or `ema` are found by name with `optax.tree.get`.

    Args:
      learning_rate: :math:`\alpha`, finite. A number, which may be traced, or a schedule. A negative one ascends; with
        `weight_decay`, which would then make weights grow, it is refused where it is known before the step runs.
      decay: :math:`\beta`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient, or of the gradient without `eps_in_sqrt`.
        A number; may be traced.
      initial_scale: :math:`\nu_0`, in [0, inf). A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      centered: Whether to divide by the standard deviation instead. Structure.
      momentum: :math:`m`, in [0, 1). None means no momentum; a number, 0.0 included, keeps a trace or an average. May
        be traced.
      nesterov: Whether the momentum looks ahead. Structure.
      bias_correction: Whether :math:`\nu_t / (1 - \beta^t)` stands in for :math:`\nu_t`. Structure.
      average_momentum: Whether the momentum is a bias-corrected average of the steps, not their sum. The state then
        has an `optax.EmaState`: the average before its correction, `ema`, and its number of steps, `count`, which
        beside that of a schedule or of `bias_correction` is not the only one. Structure.
      lr_in_momentum: Whether the learning rate is applied before the momentum. Structure.
      weight_decay: :math:`\lambda`, in [0, inf). None means no link; a number, 0.0 included, keeps it. May be traced,
        or a schedule. `update` then needs the parameters.
      decoupled_weight_decay: Whether the decay acts on the parameter, times the learning rate, or through the gradient,
        as an L2 penalty does. Structure.
      weight_decay_mask: A tree of bools with the structure of the parameters or a prefix of it, or a function from
        parameters to one: where to decay. None decays everywhere. Structure.

    Returns:
      The transformation. Calls with equal arguments return equal optimizers, which hash, pickle and print as the call.

    Raises:
      ValueError: A number out of range; `centered` with `bias_correction`; `nesterov` or `average_momentum` without
        `momentum`; a mask without `weight_decay`; trees that differ in structure or shape; a state of another
        optimizer.
      TypeError: A number in half precision; a switch that is not a bool; leaves that are not floating-point or complex.

    Example:
      >>> import jax, optax
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import rmsprop
      >>> tx = rmsprop(learning_rate=0.1)
      >>> params = {"w": jnp.array([3.0, -4.0])}
      >>> state = tx.init(params)
      >>> grads = jax.grad(lambda p: jnp.sum(p["w"] ** 2))(params)
      >>> updates, state = jax.jit(tx.update)(grads, state)
      >>> print(optax.apply_updates(params, updates)["w"])
      [ 2.6837723 -3.6837723]

    References:
      Hinton, `Neural networks for machine learning, lecture 6e
      <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>`_; momentum: Graves, `Generating
      sequences with recurrent neural networks <https://arxiv.org/abs/1308.0850>`_, eq. 38-45; decoupled decay:
      Loshchilov and Hutter, `Decoupled weight decay regularization <https://arxiv.org/abs/1711.05101>`_.
    """
    rule = Rule.checked(decay, eps, initial_scale, eps_in_sqrt, bias_correction, centered)
    learning_rate = _rate(learning_rate, ascends=weight_decay is None)
    if momentum is not None:
        momentum = _checks.number("momentum", momentum, below=1)
    if weight_decay is not None:
        weight_decay = _number_or_schedule("weight_decay", weight_decay)
    s = _Structure(
        eps_in_sqrt=rule.eps_in_sqrt,
        nesterov=_checks.switch("nesterov", nesterov),
        lr_in_momentum=_checks.switch("lr_in_momentum", lr_in_momentum),
        decoupled_weight_decay=_checks.switch("decoupled_weight_decay", decoupled_weight_decay),
    )
    average_momentum = _checks.switch("average_momentum", average_momentum)
    for name, asked in {"nesterov": s.nesterov, "average_momentum": average_momentum}.items():
        if asked and momentum is None:
            raise ValueError(f"`{name}` needs `momentum`, got momentum=None. Pass momentum=0.9, say, or leave it out.")
    if weight_decay_mask is not None and weight_decay is None:
        raise ValueError("`weight_decay_mask` needs `weight_decay`, got weight_decay=None.")
    links = _links(rule, learning_rate, momentum, weight_decay, s, average_momentum)
    init_fn = optax.chain(*links.values()).init
    layout = functools.cache(lambda: _classes(jax.eval_shape(init_fn, ())))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        _check_state(state, layout())
        entries = dict(zip(links, state, strict=True))
        old = moments.of(entries["rule"]) | moments.of(entries.get("momentum"))
        _check_trees(updates, params, old)
        decaying = None if weight_decay is None else _decaying(updates, params, weight_decay_mask)
        numbers = functools.partial(
            _numbers, rule, entries, {"rate": learning_rate, "momentum": momentum, "decay": weight_decay}
        )
        u, new = map_leaves(_step, updates, old, numbers, s, decaying)
        return _still(u, params, old), tuple(advanced(entry, new) for entry in state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


class _Structure(NamedTuple):
    """What a step is compiled for."""

    eps_in_sqrt: bool
    nesterov: bool
    lr_in_momentum: bool
    decoupled_weight_decay: bool


def _step(g, old, p, n, s):
    """Make the update of one leaf, line by line in the order of the chain; p is None where nothing decays."""
    if p is not None and not s.decoupled_weight_decay:
        g = g + n.weight_decay * p
    u, new = scaled(g, old, n, s.eps_in_sqrt)
    if s.lr_in_momentum:
        u = n.minus_rate * u
    if "ema" in old:
        ema = averaged(u, old["ema"], n.one_minus_momentum)
        u = times(n.momentum_correction, averaged(u, ema, n.one_minus_momentum) if s.nesterov else ema)
        new["ema"] = ema
    elif "trace" in old:
        trace = u + n.momentum * old["trace"]
        u = u + n.momentum * trace if s.nesterov else trace
        new["trace"] = trace
    if p is not None and s.decoupled_weight_decay:
        u = u + n.minus_rate * n.weight_decay * p if s.lr_in_momentum else u + n.weight_decay * p
    if not s.lr_in_momentum:
        u = n.minus_rate * u
    return u, new


def _links(
    rule: Rule, learning_rate: Any, momentum: Any, weight_decay: Any, s: _Structure, average: bool
) -> dict[str, Any]:
    """Name the links of the chain in order. They lay out the state, and nothing else: the equations are in `_step`.

    The learning rate in the momentum:       [decay, L2] rule rate [momentum] [decay]
    The learning rate outside the momentum:  [decay, L2] rule [momentum] [decay] rate
    """

    def trace(params):
        return optax.TraceState(jax.tree.map(moments.zeros_like, params))

    def ema(params):
        return optax.EmaState(moments.counter(params), jax.tree.map(moments.zeros_like, params))

    def counting(link):  # all that optax's schedules remember is a count, which it makes on one device
        return lambda params: jax.tree.map(lambda _: moments.counter(params), link.init(params))

    names = ["rule", "rate", "momentum", "decay"] if s.lr_in_momentum else ["rule", "momentum", "decay", "rate"]
    if not s.decoupled_weight_decay:
        names = ["decay", *(name for name in names if name != "decay")]
    inits = {"rule": rule.init, "rate": counting(optax.scale_by_learning_rate(learning_rate))}
    if momentum is not None:
        inits["momentum"] = ema if average else trace
    if weight_decay is not None:
        inits["decay"] = counting(optax.add_decayed_weights(weight_decay))
    unused = optax.identity().update
    return {name: optax.GradientTransformation(inits[name], unused) for name in names if name in inits}


def _numbers(rule: Rule, entries: dict[str, Any], hyperparameters: dict[str, Any], dtype: Any) -> Any:
    """Return the numbers of this step in the precision of a leaf; a schedule counts in its own link."""

    def now(name):
        number = hyperparameters[name]
        number = number(entries[name].count) if callable(number) else number
        weak = number is None or isinstance(number, float) or jax.typeof(number).weak_type
        return number if weak else number.astype(dtype)  # a weak number takes whatever dtype it meets

    more = {"minus_rate": -now("rate"), "momentum": now("momentum"), "weight_decay": now("decay")}
    count = next_count(entries["momentum"]) if "momentum" in entries else None
    if count is not None:  # an average
        more["one_minus_momentum"] = jnp.asarray(1 - hyperparameters["momentum"], dtype)
        more["momentum_correction"] = debias(more["one_minus_momentum"], count)
    return rule.numbers(next_count(entries["rule"]), dtype, **more)


def _still(u: Any, params: Any, old: dict[str, Any]) -> Any:
    """Return the updates with a zero where there was no gradient, so that adding them leaves the parameter alone."""
    if u is None or all(leaf is not None for leaf in jax.tree.leaves(u, is_leaf=_is_none)):
        return u
    second = next(old[name] for name in moments.SECOND if name in old)

    def zero(u, moment, p):
        if u is not None or moment is None:
            return u
        return 0.0 if isinstance(p, float) else jnp.zeros_like(moment)

    return jax.tree.map(zero, u, second, second if params is None else params, is_leaf=_is_none)


def _classes(state: Any) -> list[str]:
    """Name the classes of a state's entries: `["rmsprop_optax.ScaleByRmsState", ...]`."""
    entries = state if type(state) is tuple else (state,)
    return [f"{type(entry).__module__.partition('.')[0]}.{type(entry).__name__}" for entry in entries]


def _check_state(state: Any, expected: list[str]) -> None:
    """Refuse a state that was made with other options, or by another optimizer."""
    if (came := _classes(state)) != expected:
        came = came[:6] if len(came) < 7 else [*came[:5], f"and {len(came) - 5} more"]
        raise ValueError(
            f"`state` was not made by init with these options: expected {expected}, got {came}. Update with the "
            "options it was made with, move it to these with checkpoint.adapt, or read optax's own with "
            "checkpoint.from_optax."
        )


def _check_trees(updates: Any, params: Any, old: dict[str, Any]) -> None:
    _checks.inexact("updates", updates)
    check_updates(updates, old)
    if params is not None:
        second = next(name for name in moments.SECOND if name in old)
        _checks.like("params", params, f"state.{second}", old[second])
        _checks.like("updates", updates, "params", params)
        _checks.inexact("params", params)
        _checks.same_kind("updates", updates, params)


def _decaying(updates: Any, params: Any, mask: Any) -> list[Any]:
    """Return the parameters that decay, in the order of the updates, None for the others."""
    treedef: Any = jax.tree.structure(updates, is_leaf=_is_none)
    if params is None:
        raise ValueError("`params` must be passed to update, got None: weight decay shrinks them.")
    leaves = treedef.flatten_up_to(params)
    if mask is None:
        return leaves
    if callable(mask) and all(map(callable, jax.tree.leaves(mask))):  # a module full of bools may be callable, too
        mask = mask(params)
    for flag in jax.tree.leaves(mask):
        _checks.switch("weight_decay_mask", flag)
    try:
        flags = jax.tree.map(lambda flag, subtree: jax.tree.map(lambda _: flag, subtree), mask, params)
    except ValueError:
        raise ValueError(_checks.no_prefix("weight_decay_mask", mask, params)) from None
    return [p if flag else None for p, flag in zip(leaves, treedef.flatten_up_to(flags), strict=True)]


def _rate(rate: Any, *, ascends: bool) -> Any:
    """Return a learning rate, or refuse it; a negative one where nothing decays is a rate of ascent."""

    def checked(rate, hint=""):
        rate = _checks.number("learning_rate", rate, signed=True, hint=hint)
        if not ascends and _checks.negative(rate):
            raise ValueError(
                f"`learning_rate` must not be negative with `weight_decay`, got {rate!r}: the decay would make weights "
                "grow. To ascend with decay, turn the gradient instead: optax.chain(optax.scale(-1), "
                "rmsprop(rate, weight_decay=...))."
            )
        return rate

    return (lambda count: checked(rate(count))) if callable(rate) else checked(rate, _SCHEDULE_WILL_DO)


def _number_or_schedule(name: str, rate: Any) -> Any:
    if callable(rate):
        return lambda count: _checks.number(name, rate(count))
    return _checks.number(name, rate, hint=_SCHEDULE_WILL_DO)


def _is_none(leaf: Any) -> bool:
    return leaf is None


_SCHEDULE_WILL_DO = " A schedule, a function from the step to a number, will do too."

# So that jax.export can serialize a step that carries this state; optax registers none of its own.
_ScheduledDecay = type(jax.eval_shape(optax.add_decayed_weights(optax.constant_schedule(0.0)).init, None))
for _state in (optax.EmptyState, optax.TraceState, optax.EmaState, optax.ScaleByScheduleState, _ScheduledDecay):
    with contextlib.suppress(ValueError):  # another library has registered it
        jax.export.register_namedtuple_serialization(_state, serialized_name=f"optax.{_state.__name__}")
