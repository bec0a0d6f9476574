"""The rule: divide a gradient by the running root of its mean square.

nu <- decay * nu + (1 - decay) * g**2
u  <- g / sqrt(nu + eps)
"""

from __future__ import annotations  # signatures in help() read as written here

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.export
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks, moments
from rmsprop_optax._value import value

__all__ = ["ScaleByRmsState", "ScaleByRmsWithCountState", "ScaleByStddevState", "scale_by_rms"]


class ScaleByRmsState(NamedTuple):
    """What `scale_by_rms` remembers."""

    nu: optax.Updates  #: the mean square; like params, float32 or float64


class ScaleByRmsWithCountState(NamedTuple):
    """What `scale_by_rms` remembers with `bias_correction`."""

    #: steps; shape (), int32
    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    nu: optax.Updates  #: the mean square; like params, float32 or float64


class ScaleByStddevState(NamedTuple):
    """What `scale_by_rms` remembers when `centered`."""

    variance: optax.Updates  #: the mean square less the squared mean; like params, float32 or float64
    mu: optax.Updates  #: the mean; like params, float32 or better, complex for complex


STATES = (ScaleByRmsState, ScaleByRmsWithCountState, ScaleByStddevState)

for _state in STATES:
    with contextlib.suppress(ValueError):  # the module is being reloaded
        jax.export.register_namedtuple_serialization(_state, serialized_name=f"rmsprop_optax.{_state.__name__}")


@value
def scale_by_rms(
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    centered: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Divide gradients by the root of their exponentially weighted mean square.

    .. math::
        \nu_t &= \beta \nu_{t-1} + (1 - \beta) |g_t|^2, \qquad \nu_0 = \mathtt{initial\_scale} \\
        u_t &= g_t / \sqrt{\nu_t + \epsilon}
            && \text{or } g_t / (\sqrt{\nu_t} + \epsilon) \text{ without }\mathtt{eps\_in\_sqrt}

    With `bias_correction`, :math:`\nu_t / (1 - \beta^t)` stands in for :math:`\nu_t`. When `centered`, the variance
    :math:`v_t` does, kept in a form that cannot cancel and equals mean square minus squared mean in exact arithmetic
    (it is 0 for :math:`\beta = 0`):

    .. math::
        \mu_t &= \beta \mu_{t-1} + (1 - \beta) g_t, &\quad \mu_0 &= 0 \\
        v_t &= \beta v_{t-1} + \frac{1 - \beta}{\beta} |g_t - \mu_t|^2, &\quad v_0 &= \mathtt{initial\_scale}

    Arithmetic and state are float32, or float64 for float64 parameters; the update has the gradient's dtype and
    saturates there. Finite gradients give finite states and updates for any `eps`, 0 included, and uncentered updates
    stay within :math:`1/\sqrt{1-\beta}`. For that, a gradient above 2**62 in magnitude (2**510 in float64), infinite
    ones included, counts as 2**62, and what is under the root and below the smallest normal number counts as that
    number, or as 1 if eps is 0; 0 over 0 is 0. A NaN stays in its own element. Complex gradients are divided by one
    root for both parts.

    Args:
      decay: :math:`\beta`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), in units of the squared gradient, or of the gradient without `eps_in_sqrt`.
        A number; may be traced.
      initial_scale: :math:`\nu_0`, in [0, inf), in units of the squared gradient. A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      bias_correction: Whether to divide by :math:`1 - \beta^t`. Structure.
      centered: Whether to divide by the standard deviation instead. Structure.

    Returns:
      The transformation. Calls with equal arguments return equal optimizers, which hash, pickle and print. Its state is
      a `ScaleByRmsState`; with `bias_correction` a `ScaleByRmsWithCountState`, when `centered` a `ScaleByStddevState`.
      The moments have the shapes and shardings of the parameters, and their types never change. A None gradient gives
      a None update and leaves its moments alone.

    Raises:
      ValueError: A number out of range; `centered` with `bias_correction`; trees that differ in structure or shape.
      TypeError: A number in half precision; a switch that is not a bool; leaves that are not floating-point or complex.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import scale_by_rms
      >>> tx = scale_by_rms(decay=0.75, eps=0.0)
      >>> state = tx.init(jnp.zeros(2))
      >>> updates, state = tx.update(jnp.array([3.0, -0.001]), state)
      >>> print(updates, state.nu[0])
      [ 2. -2.] 2.25

    References:
      Hinton, `Neural networks for machine learning, lecture 6e
      <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>`_; the centered form: Graves,
      `Generating sequences with recurrent neural networks <https://arxiv.org/abs/1308.0850>`_, eq. 38-41; its update:
      Welford, `Note on a method for calculating corrected sums of squares and products
      <https://doi.org/10.1080/00401706.1962.10490022>`_.
    """
    rule = Rule.checked(decay, eps, initial_scale, eps_in_sqrt, bias_correction, centered)

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        _check_state(state, rule.state_class)
        old = moments.of(state)
        _checks.inexact("updates", updates)
        check_updates(updates, old)
        numbers = functools.partial(rule.numbers, next_count(state))
        u, new = map_leaves(_scale, updates, old, numbers, rule.eps_in_sqrt)
        return u, advanced(state, new)

    return optax.GradientTransformationExtraArgs(rule.init, update_fn)


class Rule(NamedTuple):
    """The options of the rule, checked."""

    decay: Any
    eps: Any
    initial_scale: Any
    eps_in_sqrt: bool
    bias_correction: bool
    centered: bool

    @classmethod
    def checked(
        cls, decay: Any, eps: Any, initial_scale: Any, eps_in_sqrt: Any, bias_correction: Any, centered: Any
    ) -> Rule:
        """Return the options, or refuse them."""
        rule = cls(
            _checks.number("decay", decay, below=1, hint=" For a plain sum of squares use optax.scale_by_rss."),
            _checks.number("eps", eps),
            _checks.number("initial_scale", initial_scale),
            _checks.switch("eps_in_sqrt", eps_in_sqrt),
            _checks.switch("bias_correction", bias_correction),
            _checks.switch("centered", centered),
        )
        if rule.centered and rule.bias_correction:
            raise ValueError(
                "`centered` and `bias_correction` exclude each other: the corrected variance of the first step is 0 by "
                "construction, so that step would be g / sqrt(eps). Leave one out."
            )
        return rule

    @property
    def state_class(self) -> Any:
        if self.centered:
            return ScaleByStddevState
        return ScaleByRmsWithCountState if self.bias_correction else ScaleByRmsState

    def init(self, params: Any) -> Any:
        """Make the state beside the parameters."""
        _checks.parameters(params)
        second = jax.tree.map(lambda p: moments.zeros_like(p, self.initial_scale, real=True), params)
        if self.centered:
            return ScaleByStddevState(variance=second, mu=jax.tree.map(moments.zeros_like, params))
        if self.bias_correction:
            return ScaleByRmsWithCountState(count=moments.counter(params), nu=second)
        return ScaleByRmsState(nu=second)

    def numbers(self, count: Any, dtype: Any, **more: Any) -> Numbers:
        """Return the numbers of one step. 1 - decay comes before the cast: 0.9999999 is 1 in float32."""
        one_minus_decay, eps = jnp.asarray(1 - self.decay, dtype), jnp.asarray(self.eps, dtype)
        eps_is_enough = self.eps_in_sqrt and isinstance(self.eps, float) and self.eps >= jnp.finfo(jnp.float32).tiny
        more["floor"] = None if eps_is_enough else floor_of(eps)
        if self.centered:
            decay = 1 - one_minus_decay
            more["over_decay"] = jnp.where(decay > 0, one_minus_decay / decay, 0)  # one value alone has no variance
        if count is not None:
            more["correction"] = debias(one_minus_decay, count)
        return Numbers(one_minus_decay, eps, **more)


class Numbers(NamedTuple):
    """The numbers of one step, each a scalar in the precision of a leaf; from the third on None where not in use."""

    one_minus_decay: Any
    eps: Any
    floor: Any = None  # what stands in for less than the smallest normal number under the root
    over_decay: Any = None  # (1 - decay) / decay
    correction: Any = None  # 1 / (1 - decay**count)
    minus_rate: Any = None
    momentum: Any = None
    one_minus_momentum: Any = None  # of a momentum that is an average of the steps; likewise the next
    momentum_correction: Any = None  # 1 / (1 - momentum**count)
    weight_decay: Any = None


def debias(one_minus_decay: jax.Array, count: Any) -> jax.Array:
    """Return 1 / (1 - decay**count), by which an average that started at 0 is too small."""
    return 1 / -jnp.expm1(count.astype(one_minus_decay.dtype) * jnp.log1p(-one_minus_decay))


def averaged(x: jax.Array, mean: jax.Array, one_minus_decay: jax.Array) -> jax.Array:
    """Return decay * mean + (1 - decay) * x; see `_decayed` for the form."""
    return _parts(lambda m, x: m + one_minus_decay * (x - m), mean, x)


def scaled(
    g: jax.Array, old: dict[str, jax.Array], n: Numbers, eps_in_sqrt: bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Apply the rule to one leaf, in the precision of its moments: return the scaled gradient and the new moments."""
    g = _parts(_bounded, g)
    if "variance" in old:
        mu = averaged(g, old["mu"], n.one_minus_decay)
        variance = _decayed(old["variance"], n) + n.over_decay * _square(g - mu)
        denominator = root(variance, n, eps_in_sqrt)
        u = _parts(lambda x: _bounded(x / denominator), g)  # a variance may be far below the squared gradient
        return u, {"variance": variance, "mu": mu}
    nu = _decayed(old["nu"], n) + n.one_minus_decay * _square(g)
    corrected = nu if n.correction is None else nu * n.correction
    denominator = root(corrected, n, eps_in_sqrt)
    return _parts(lambda x: x / denominator, g), {"nu": nu}


def _scale(g, old, param, n, eps_in_sqrt):
    del param
    return scaled(g, old, n, eps_in_sqrt)


def map_leaves(
    equations: Callable[..., Any],
    updates: Any,
    old: dict[str, Any],
    numbers: Callable[[Any], Numbers],
    structure: Any,
    params: list[Any] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Apply the equations of one leaf to each leaf that has a gradient, in the precision of its moments.

    Args:
      equations: From gradient, moments by name, parameter, numbers and structure to the update and the new moments.
      updates: The gradients; a leaf may be None.
      old: The moments by name, each like `updates`.
      numbers: From a dtype to the numbers of this step in that precision.
      structure: What `equations` are compiled for; hashable.
      params: The parameters that `equations` need, in the order of the leaves; None for no parameter.

    Returns:
      The updates, each in its gradient's dtype and None where there is no gradient, and the new moments.
    """
    treedef: Any  # jaxlib's stub of it has no methods
    leaves, treedef = jax.tree.flatten(updates, is_leaf=_is_none)
    columns = {name: treedef.flatten_up_to(tree) for name, tree in old.items()}
    of_dtype = functools.cache(numbers)
    for i, g in enumerate(leaves):
        if g is not None:
            moment = {name: column[i] for name, column in columns.items()}
            n = of_dtype(_second(moment).dtype)
            leaves[i], moment = _leaf(g, moment, params and params[i], n, equations=equations, structure=structure)
            for name, column in columns.items():
                column[i] = moment[name]
    return treedef.unflatten(leaves), {name: treedef.unflatten(column) for name, column in columns.items()}


@functools.partial(jax.jit, static_argnames=("equations", "structure"))  # traced once per shape and dtype
def _leaf(g, old, param, n, *, equations, structure):
    dtype = _second(old).dtype
    param = None if param is None else _precise(param, dtype)
    u, new = equations(_precise(g, dtype), old, param, n, structure)
    return saturate(u, jnp.result_type(g)), new


def _second(moment: dict[str, Any]) -> Any:
    return next(moment[name] for name in moments.SECOND if name in moment)


def next_count(entry: Any) -> Any:
    """Return the number of this step, counted from 1, or None for an entry that does not count."""
    return optax.safe_increment(entry.count) if "count" in entry._fields else None


def advanced(entry: Any, new: dict[str, Any]) -> Any:
    """Put the moments of this step into an entry of the state, and count the step if the entry counts."""
    fields = {name: tree for name, tree in new.items() if name in entry._fields}
    if "count" in entry._fields:
        fields["count"] = next_count(entry)
    after = entry._replace(**fields)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, entry)  # one trace, ever
    chex.assert_equal([leaf.dtype for leaf in jax.tree.leaves(new) if leaf.dtype.itemsize < 4], [])
    return after


def root(s: jax.Array, n: Numbers, eps_in_sqrt: bool) -> jax.Array:
    """Return sqrt(s + eps), or sqrt(s) + eps: never 0, even if eps is.

    The root of 0 has no derivative, so less than the smallest normal number is replaced before the root: the gradient
    that left so little is 0 or next to it.
    """
    s = s + n.eps if eps_in_sqrt else s
    if n.floor is not None:
        s = jax.lax.select(s >= jnp.finfo(s.dtype).tiny, s, jnp.full_like(s, n.floor))
    return jnp.sqrt(s) if eps_in_sqrt else jnp.sqrt(s) + n.eps


def floor_of(eps: jax.Array) -> jax.Array:
    """Return what stands in for less than the smallest normal number: that number, or 1 if eps is 0."""
    return jnp.where(eps > 0, jnp.finfo(eps.dtype).tiny, 1)


def _precise(x, dtype):
    """Cast to the precision of a real dtype; complex numbers stay complex."""
    return _parts(lambda part: part.astype(dtype), x)


def saturate(x: jax.Array, dtype: Any) -> jax.Array:
    """Cast to a dtype; what is too large for it becomes its largest value."""
    if x.dtype == dtype:
        return x
    if jnp.iscomplexobj(x):
        part = jnp.finfo(dtype).dtype
        return jax.lax.complex(saturate(x.real, part), saturate(x.imag, part))
    largest = float(jnp.finfo(dtype).max)
    if largest < float(jnp.finfo(x.dtype).max):
        x = jnp.clip(x, -largest, largest)
    return x.astype(dtype)


def _bounded(x):
    """Clip to a magnitude whose square, and that of a difference of two, is finite: 2**62 in float32.

    It is the gradient that is bounded, not its mean square, which would cost a pass over memory: a donated step with a
    minimum behind the average took three times as long.
    """
    largest = x.dtype.type(2.0 ** (jnp.finfo(x.dtype).maxexp // 2 - 2))
    return jax.lax.min(jax.lax.max(x, -largest), largest)


def _decayed(x, n):
    """Return decay * x. In float32 decay and 1 - decay do not sum to 1, and their sum is the average's gain."""
    return x - n.one_minus_decay * x


def _square(x):
    return x.real * x.real + x.imag * x.imag if jnp.iscomplexobj(x) else x * x


def times(factor: jax.Array, x: jax.Array) -> jax.Array:
    """Multiply a real or complex array by a real number, without promotion."""
    return _parts(lambda part: factor * part, x)


def _parts(function, *arrays):
    """Apply a real function to the real and imaginary parts."""
    if not jnp.iscomplexobj(arrays[0]):
        return function(*arrays)
    return jax.lax.complex(function(*(x.real for x in arrays)), function(*(x.imag for x in arrays)))


def check_updates(updates: Any, old: dict[str, Any]) -> None:
    """Refuse gradients that do not fit the moments, and moments that are not kept in float32 or better."""
    for name, tree in old.items():
        _checks.like("updates", updates, f"state.{name}", tree)
        _checks.moments(f"state.{name}", tree)


def _check_state(state, expected):
    if isinstance(state, expected):
        return
    came = type(state)
    if came not in STATES:
        raise TypeError(
            f"`state` must be the {expected.__name__} that init made, got {came.__module__}.{came.__name__}. Pass "
            "what `init` or the last `update` returned; for optax's own states there is checkpoint.from_optax."
        )
    for option, state_class in (("bias_correction", ScaleByRmsWithCountState), ("centered", ScaleByStddevState)):
        if (came is state_class) != (expected is state_class):
            raise ValueError(
                f"`state` was made with {option}={came is state_class}, this transformation has "
                f"{option}={expected is state_class}. Build it with the options of the state, or move the state to "
                "these with checkpoint.adapt."
            )


def _is_none(leaf):
    return leaf is None
