"""RMSprop: the rule in a chain of optax links, inside a fence that keeps every leaf's dtype, shape and place."""

import contextlib
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.transform import ScaleByRmsState, as_precise, moment_like, saturate, scale_by_rms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """What two frameworks disagree on when they are given the same numbers.

    The same call with the same numbers takes another path if one of these differs. The first five are arguments of
    `rmsprop`, with its defaults; the last is `optax.contrib.split_real_and_imaginary` around it, or not.
    `rmsprop_optax.dialects.VARIANTS` has one for each framework.

    Args:
      eps_in_sqrt: Whether eps is added inside the root.
      initial_scale: What the mean square starts at, in units of the squared gradient.
      bias_correction: Whether the mean square is divided by 1 - decay**t.
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
    lr_in_momentum: bool = True
    decoupled_weight_decay: bool = True
    complex_pairs: bool | None = False


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
        b_t &= m b_{t-1} + \alpha_t u_t, &\quad
            \theta_t &= \theta_{t-1} - b_t - \alpha_t \lambda \theta_{t-1}
            && \text{with lr\_in\_momentum (TensorFlow, Keras, optax)} \\
        b_t &= m b_{t-1} + u_t, &\quad
            \theta_t &= \theta_{t-1} - \alpha_t (b_t + \lambda \theta_{t-1})
            && \text{without (PyTorch)}

    The two agree as long as the learning rate is constant. With `nesterov`, :math:`m b_t` plus the newest term stands
    in for :math:`b_t`.

    The arithmetic and the state are float32, or float64 for float64 parameters; updates come back in the gradient's
    dtype. A None gradient leaves its parameter and its state alone. The state is a tuple with one entry per link; its
    `nu`, `mu` and `trace` are found by name with `optax.tree.get`.

    Args:
      learning_rate: :math:`\alpha`, in [0, inf). A number, which may be traced, or a schedule.
      decay: :math:`\beta`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient, or of the gradient without `eps_in_sqrt`.
        A number; may be traced.
      initial_scale: :math:`\nu_0`, in [0, inf). A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      centered: Whether to divide by the standard deviation instead; `nu` is the variance then. Structure.
      momentum: :math:`m`, in [0, 1). None means no trace; a number, 0.0 included, keeps one. May be traced.
      nesterov: Whether the momentum looks ahead. Structure.
      bias_correction: Whether :math:`\nu_t / (1 - \beta^t)` stands in for :math:`\nu_t`. Structure.
      lr_in_momentum: Whether the learning rate is applied before the momentum. Structure.
      weight_decay: :math:`\lambda`, in [0, inf). None means no link; a number, 0.0 included, keeps it. May be traced,
        or a schedule. `update` then needs the parameters.
      decoupled_weight_decay: Whether the decay acts on the parameter, times the learning rate, or through the gradient,
        as an L2 penalty does. Structure.
      weight_decay_mask: A tree of bools with the structure of the parameters or a prefix of it, or a function from
        parameters to one: where to decay. None decays everywhere. Structure.

    Returns:
      A transformation that is a value: equal calls are equal, it hashes, pickles and prints as the call.

    Raises:
      ValueError: A number out of range; `centered` with `bias_correction`; `nesterov` without `momentum`; a mask
        without `weight_decay`; trees that differ in structure or shape; a state of another optimizer.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point or complex.

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
    learning_rate = _number_or_schedule("learning_rate", learning_rate)
    if momentum is not None:
        momentum = _checks.number("momentum", momentum, below=1)
    if weight_decay is not None:
        weight_decay = _number_or_schedule("weight_decay", weight_decay)
    structure = _Structure(
        eps_in_sqrt=_checks.switch("eps_in_sqrt", eps_in_sqrt),
        centered=_checks.switch("centered", centered),
        nesterov=_checks.switch("nesterov", nesterov),
        bias_correction=_checks.switch("bias_correction", bias_correction),
        lr_in_momentum=_checks.switch("lr_in_momentum", lr_in_momentum),
        decoupled_weight_decay=_checks.switch("decoupled_weight_decay", decoupled_weight_decay),
    )
    if structure.nesterov and momentum is None:
        raise ValueError("`nesterov` needs `momentum`, got momentum=None. Pass momentum=0.9, say, or leave it out.")
    if weight_decay_mask is not None and weight_decay is None:
        raise ValueError("`weight_decay_mask` needs `weight_decay`, got weight_decay=None.")
    numbers = _Numbers(learning_rate, weight_decay, momentum, decay, eps, initial_scale)
    return _fence(numbers, structure, weight_decay_mask)


class _Numbers(NamedTuple):
    """May be traced; the first two may be schedules."""

    learning_rate: Any
    weight_decay: Any
    momentum: Any
    decay: Any
    eps: Any
    initial_scale: Any


class _Structure(NamedTuple):
    """May not be traced."""

    eps_in_sqrt: bool
    centered: bool
    nesterov: bool
    bias_correction: bool
    lr_in_momentum: bool
    decoupled_weight_decay: bool


def _chain(n: _Numbers, s: _Structure) -> optax.GradientTransformationExtraArgs:
    """Put the links in order; those in brackets only if asked for.

    The learning rate in the momentum:       [L2] -> scale_by_rms -> -lr -> [trace] -> [decay * -lr]
    The learning rate outside the momentum:  [L2] -> scale_by_rms -> [trace] -> [decay] -> -lr
    """
    scale = scale_by_rms(n.decay, n.eps, n.initial_scale, s.eps_in_sqrt, s.bias_correction, centered=s.centered)
    minus_lr = optax.scale_by_learning_rate(n.learning_rate)
    momentum = [] if n.momentum is None else [_trace(n.momentum, s.nesterov)]
    l2, decay = [], []
    if n.weight_decay is not None and not s.decoupled_weight_decay:
        l2 = [optax.add_decayed_weights(n.weight_decay)]
    elif n.weight_decay is not None:
        rate = _minus_product(n.learning_rate, n.weight_decay) if s.lr_in_momentum else n.weight_decay
        decay = [optax.add_decayed_weights(rate)]
    if s.lr_in_momentum:
        return optax.chain(*l2, scale, minus_lr, *momentum, *decay)
    return optax.chain(*l2, scale, *momentum, *decay, minus_lr)


def _trace(momentum: Any, nesterov: bool) -> optax.GradientTransformation:
    """Return `optax.trace`, its trace born in float32 or better and sharded like the parameters."""

    def init_fn(params):
        return optax.TraceState(jax.tree.map(moment_like, params))

    return optax.GradientTransformation(init_fn, optax.trace(momentum, nesterov).update)


def _fence(n: _Numbers, s: _Structure, mask: Any) -> optax.GradientTransformationExtraArgs:
    """Run the chain leaf by leaf in the precision of the state; a leaf without a gradient is left alone."""
    chain = _chain(n, s)
    layout = functools.cache(lambda: _layout(jax.eval_shape(chain.init, 0.0)))

    def update_fn(updates, state, params=None, **extra_args):
        del extra_args
        moments = _moments(state, layout())
        _check_trees(updates, params, moments)
        treedef: Any  # jaxlib's stub of it has no methods
        leaves, treedef = jax.tree.flatten(updates, is_leaf=lambda leaf: leaf is None)
        columns: dict[str, list[Any]] = {name: treedef.flatten_up_to(tree) for name, tree in moments.items()}
        decaying = [None] * len(leaves) if n.weight_decay is None else _decaying(params, mask, treedef)
        numbers, constants, count = _now(n, state)

        for i, (g, p) in enumerate(zip(leaves, decaying, strict=True)):
            if g is None and columns["nu"][i] is not None:
                leaves[i] = jnp.zeros_like(columns["nu"][i])  # the parameter stays where it is
            elif g is not None:
                here = numbers if p is not None else numbers | {"weight_decay": None}
                moment = {name: column[i] for name, column in columns.items()}
                leaves[i], moment = _update_leaf(g, p, moment, count, here, constants=constants, structure=s)
                for name, leaf in moment.items():
                    columns[name][i] = leaf

        trees = {name: jax.tree.unflatten(treedef, column) for name, column in columns.items()}
        return jax.tree.unflatten(treedef, leaves), tuple(_advance(entry, trees) for entry in state)

    return optax.GradientTransformationExtraArgs(chain.init, update_fn)


@functools.partial(jax.jit, static_argnames=("constants", "structure"))  # traced once per shape and dtype
def _update_leaf(g, p, moments, count, numbers, *, constants, structure):
    """Build the chain from numbers in the leaf's precision and apply it."""
    nu = moments["nu"]
    numbers = {k: v if v is None or jax.typeof(v).weak_type else v.astype(nu.dtype) for k, v in numbers.items()}
    chain = _chain(_Numbers(**numbers, **dict(constants)), structure)
    kept = moments if count is None else moments | {"count": count}
    state = optax.tree.set(jax.eval_shape(chain.init, nu), **kept)
    u, state = chain.update(as_precise(g, nu), state, None if p is None else as_precise(p, nu))
    return saturate(u, jnp.result_type(g)), {name: optax.tree.get(state, name) for name in moments}


def _now(n: _Numbers, state: Any) -> tuple[dict[str, Any], tuple[tuple[str, float], ...], Any]:
    """Return the numbers of this step: those to trace, those to compile in, and the count of the bias correction.

    Compiled in, `decay` gives a `1 - decay` that is exact to float32's last digit.
    """
    step = next((entry.count for entry in state if entry._fields == ("count",)), None)
    numbers = n._replace(initial_scale=0.0)._asdict()
    numbers |= {name: number(step) for name, number in numbers.items() if callable(number)}
    rule = ("decay", "eps", "initial_scale")
    constants = {name: float(numbers[name]) for name in rule if not isinstance(numbers[name], jax.Array)}
    traced = {name: number for name, number in numbers.items() if name not in constants}
    return traced, tuple(constants.items()), next(e.count for e in state if isinstance(e, ScaleByRmsState))


def _advance(entry: Any, trees: dict[str, Any]) -> Any:
    """Put a step's moments into an entry of the state, and count the step if the entry counts."""
    new = {name: tree for name, tree in trees.items() if name in entry._fields}
    if "count" in entry._fields and entry.count is not None:
        new["count"] = optax.safe_increment(entry.count)
    return entry._replace(**new)


def _layout(state: Any) -> list[str]:
    """Name the entries of a state and the fields in use: `["rmsprop_optax.ScaleByRmsState(nu)", ...]`."""
    if not isinstance(state, tuple):
        return [type(state).__name__]
    names = []
    for entry in state:
        used = [name for name in getattr(entry, "_fields", ()) if getattr(entry, name) is not None]
        names.append(f"{type(entry).__module__.partition('.')[0]}.{type(entry).__name__}({', '.join(used)})")
    return names


def _moments(state: Any, layout: list[str]) -> dict[str, Any]:
    """Find the moments of a state by name, or refuse a state with another layout."""
    if _layout(state) != layout:
        raise ValueError(
            f"`state` was not made by init with these options: expected {layout}, got {_layout(state)}. Update with "
            "the options it was made with, move it to these with checkpoint.adapt, or read optax's own with "
            "checkpoint.from_optax."
        )
    return {
        name: getattr(entry, name)
        for entry in state
        for name in ("nu", "mu", "trace")
        if getattr(entry, name, None) is not None
    }


def _check_trees(updates: Any, params: Any, moments: dict[str, Any]) -> None:
    _checks.inexact("updates", updates)
    if params is not None:
        _checks.like("updates", updates, "params", params)
        _checks.same_kind("updates", updates, params)
    for name, tree in moments.items():
        _checks.like("updates", updates, f"state.{name}", tree)
        _checks.moments(f"state.{name}", tree)


def _decaying(params: Any, mask: Any, treedef: Any) -> list[Any]:
    """Return the parameters that decay, None for the others."""
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
    except ValueError as error:
        raise ValueError(f"`weight_decay_mask` must fit the parameters or be a prefix of them. {error}") from None
    return [p if flag else None for p, flag in zip(leaves, treedef.flatten_up_to(flags), strict=True)]


def _number_or_schedule(name: str, rate: Any) -> Any:
    if callable(rate):
        return lambda count: _checks.number(name, rate(count))
    return _checks.number(name, rate, hint=" A schedule, a function from the step to a number, will do too.")


def _minus_product(learning_rate: Any, weight_decay: Any) -> Any:
    if not (callable(learning_rate) or callable(weight_decay)):
        return -learning_rate * weight_decay
    rates = [rate if callable(rate) else optax.constant_schedule(rate) for rate in (learning_rate, weight_decay)]
    return lambda count: -rates[0](count) * rates[1](count)


# So that jax.export can serialize a step that carries this state; optax registers none of its own.
_ScheduledDecay = type(jax.eval_shape(optax.add_decayed_weights(optax.constant_schedule(0.0)).init, None))
for _state in (optax.EmptyState, optax.TraceState, optax.ScaleByScheduleState, _ScheduledDecay):
    with contextlib.suppress(ValueError):  # another library has registered it
        jax.export.register_namedtuple_serialization(_state, serialized_name=f"optax.{_state.__name__}")
