"""The rule: divide a gradient by the running root of its mean square.

nu <- decay * nu + (1 - decay) * g**2
u  <- g / sqrt(nu + eps)
"""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks
from rmsprop_optax._value import value
from rmsprop_optax.placement import beside


class ScaleByRmsState(NamedTuple):
    """What `scale_by_rms` remembers; a field it does not need is None."""

    count: jax.Array | None  # type: ignore[assignment]  # hides tuple.count. Shape (), int32: steps, to correct bias
    nu: optax.Updates  # like params, float32 or float64: the mean square, or the variance when centered
    mu: optax.Updates | None  # like params, float32 or better, complex for complex: the mean, when centered


with contextlib.suppress(ValueError):  # the module is being reloaded
    jax.export.register_namedtuple_serialization(ScaleByRmsState, serialized_name="rmsprop_optax.ScaleByRmsState")


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
        \nu_t &= \beta \nu_{t-1} + (1 - \beta) |g_t|^2, \qquad \nu_0 = \text{initial\_scale} \\
        u_t &= g_t / \sqrt{\nu_t + \epsilon}
            && \text{or } g_t / (\sqrt{\nu_t} + \epsilon) \text{ without eps\_in\_sqrt}

    With `bias_correction`, :math:`\nu_t / (1 - \beta^t)` stands in for :math:`\nu_t`. When `centered`, `nu` is the
    variance, kept in a form that cannot cancel and equals mean square minus squared mean in exact arithmetic (it is 0
    for :math:`\beta = 0`):

    .. math::
        \mu_t = \beta \mu_{t-1} + (1 - \beta) g_t, \qquad \mu_0 = 0, \qquad
        \nu_t = \beta \nu_{t-1} + \frac{1 - \beta}{\beta} |g_t - \mu_t|^2

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
      A transformation that is a value (see `rmsprop_optax._value`). Its state is a `ScaleByRmsState` whose arrays have
      the shapes and shardings of the parameters, and whose types never change. A None gradient keeps its state.

    Raises:
      ValueError: A number out of range; `centered` with `bias_correction`; trees that differ in structure or shape.
      TypeError: A number in half precision, a switch that is no bool, leaves that are not floating-point or complex.

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
    decay = _checks.number("decay", decay, below=1, hint=" For a plain sum of squares use optax.scale_by_rss.")
    eps = _checks.number("eps", eps)
    initial_scale = _checks.number("initial_scale", initial_scale)
    eps_in_sqrt = _checks.switch("eps_in_sqrt", eps_in_sqrt)
    bias_correction = _checks.switch("bias_correction", bias_correction)
    centered = _checks.switch("centered", centered)
    if centered and bias_correction:
        raise ValueError(
            "`centered` and `bias_correction` exclude each other: the corrected variance of the first step is 0 by "
            "construction, so that step would be g / sqrt(eps). Leave one out."
        )

    positive = eps_in_sqrt and isinstance(eps, float) and eps >= jnp.finfo(jnp.float32).tiny

    def init_fn(params):
        _checks.inexact("params", params)
        return ScaleByRmsState(
            count=jnp.zeros([], jnp.int32) if bias_correction else None,
            nu=jax.tree.map(lambda p: moment_like(p, initial_scale, real=True), params),
            mu=jax.tree.map(moment_like, params) if centered else None,
        )

    def update_fn(updates, state, params=None, **extra_args):
        del params, extra_args
        _check(updates, state, counted=bias_correction, centered=centered)
        count = optax.safe_increment(state.count) if bias_correction else None

        def scale(g, nu, mu=None):
            if g is None:
                return _Scaled(None, nu, mu)
            return _scale(g, nu, mu, count, 1 - decay, eps, eps_in_sqrt=eps_in_sqrt, positive=positive)

        moments = (state.nu, state.mu) if centered else (state.nu,)
        scaled = jax.tree.map(scale, updates, *moments, is_leaf=lambda leaf: leaf is None)
        u, nu, mu = (
            jax.tree.map(lambda leaf, i=i: leaf[i], scaled, is_leaf=lambda leaf: isinstance(leaf, _Scaled))
            for i in range(3)
        )
        return u, ScaleByRmsState(count=count, nu=nu, mu=mu if centered else None)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


class _Scaled(NamedTuple):
    update: Any
    nu: Any
    mu: Any


@functools.partial(jax.jit, static_argnames=("eps_in_sqrt", "positive"))  # traced once per shape and dtype
def _scale(g, nu, mu, count, one_minus_decay, eps, *, eps_in_sqrt, positive):
    dtype = jnp.result_type(g)
    one_minus_decay, eps = (jnp.asarray(number, nu.dtype) for number in (one_minus_decay, eps))

    def decayed(x):  # decay * x; in float32 decay and 1 - decay do not sum to 1, and their sum is the average's gain
        return x - one_minus_decay * x

    g = _parts(_bounded, as_precise(g, nu))
    if mu is None:
        nu = decayed(nu) + one_minus_decay * _square(g)
    else:
        mu = _parts(lambda m, x: m + one_minus_decay * (x - m), mu, g)
        decay = 1 - one_minus_decay
        nu = decayed(nu) + jnp.where(decay > 0, one_minus_decay / decay, 0) * _square(g - mu)

    s = nu
    if count is not None:
        s = nu / -jnp.expm1(count.astype(nu.dtype) * jnp.log1p(-one_minus_decay))  # nu / (1 - decay**count)
    denominator = root(s, eps, eps_in_sqrt=eps_in_sqrt, positive=positive)
    u = _parts(lambda x: x / denominator, g)
    if mu is not None:
        u = _parts(_bounded, u)  # a variance may be far below the squared gradient
    return _Scaled(saturate(u, dtype), nu, mu)


def root(s: jax.Array, eps: jax.Array, *, eps_in_sqrt: bool, positive: bool = False) -> jax.Array:
    """Return sqrt(s + eps), or sqrt(s) + eps: never 0, even if eps is, unless `positive` says that it can't be."""
    s = s + eps if eps_in_sqrt else s
    if not positive:  # the root of 0 has no derivative, and the gradient that left so little is 0 or next to it
        tiny = jnp.finfo(s.dtype).tiny
        s = jnp.where(s >= tiny, s, jnp.where(eps > 0, tiny, 1))
    return jnp.sqrt(s) if eps_in_sqrt else jnp.sqrt(s) + eps


def moment_like(param: Any, fill: Any = 0.0, *, real: bool = False) -> jax.Array:
    """Return a moment of a parameter's shape and sharding, in float32 or better."""
    dtype = jnp.result_type(param)
    wide = jnp.float64 if jnp.finfo(dtype).bits == 64 else jnp.float32
    if jnp.issubdtype(dtype, jnp.complexfloating) and not real:
        wide = jnp.complex128 if wide == jnp.float64 else jnp.complex64
    return beside(param, jnp.full_like(param, fill, dtype=wide))


def as_precise(x: Any, moment: jax.Array) -> jax.Array:
    """Cast to a moment's precision; complex numbers stay complex."""
    return _parts(lambda part: part.astype(moment.dtype), jnp.asarray(x))


def saturate(x: jax.Array, dtype: Any) -> jax.Array:
    """Cast to a dtype; what is too large for it becomes its largest value."""
    if jnp.iscomplexobj(x):
        part = jnp.finfo(dtype).dtype
        return jax.lax.complex(saturate(x.real, part), saturate(x.imag, part))
    largest = float(jnp.finfo(dtype).max)
    if largest < float(jnp.finfo(x.dtype).max):
        x = jnp.clip(x, -largest, largest)
    return x.astype(dtype)


def _bounded(x):
    """Clip to a magnitude whose square, and that of a difference of two, is finite: 2**62 in float32."""
    largest = 2.0 ** (jnp.finfo(x.dtype).maxexp // 2 - 2)
    return jax.lax.clamp(x.dtype.type(-largest), x, x.dtype.type(largest))


def _square(x):
    return x.real * x.real + x.imag * x.imag if jnp.iscomplexobj(x) else x * x


def _parts(function, *arrays):
    """Apply a real function to the real and imaginary parts."""
    if not jnp.iscomplexobj(arrays[0]):
        return function(*arrays)
    return jax.lax.complex(function(*(x.real for x in arrays)), function(*(x.imag for x in arrays)))


def _check(updates, state, *, counted, centered):
    if not isinstance(state, ScaleByRmsState):
        came = f"{type(state).__module__}.{type(state).__name__}"
        raise TypeError(
            f"`state` must be the ScaleByRmsState that init made, got {came}. For optax's own states there is "
            "checkpoint.from_optax."
        )
    for option, wanted, field in (("bias_correction", counted, state.count), ("centered", centered, state.mu)):
        if wanted != (field is not None):
            raise ValueError(
                f"`state` was made with {option}={not wanted}, this transformation has {option}={wanted}. Build it "
                "with the options of the state, or move the state to these with checkpoint.adapt."
            )
    _checks.like("updates", updates, "state.nu", state.nu)
    _checks.moments("state.nu", state.nu)
    if centered:
        _checks.like("state.mu", state.mu, "state.nu", state.nu)
        _checks.moments("state.mu", state.mu)
