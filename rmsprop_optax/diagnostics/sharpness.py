"""How near a learning rate is to the edge of stability, from one point of a run."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax.diagnostics.rates import by_path, checked, rate_of, second_of_each

__all__ = ["sharpness"]


@_checks.keywords
def sharpness(
    loss_fn: Callable[[Any], jax.Array],
    params: optax.Params,
    state: optax.OptState,
    learning_rate: jax.typing.ArrayLike,
    *,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    decay: jax.typing.ArrayLike | None = None,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> jax.Array:
    r"""Return the curvature of the loss as the optimizer's steps meet it: the preconditioned sharpness.

    .. math::
        \lambda_{\max}\big(D^{1/2} H D^{1/2}\big), \qquad
        D = \mathrm{diag}\big(\alpha / \sqrt{\nu_t + \epsilon}\big)

    :math:`H` is the Hessian of the loss at `params`, and :math:`D` is what :func:`effective_learning_rate` returns, for
    every variant. :math:`D H` has the same eigenvalues.

    On a quadratic loss with :math:`D` held fixed, steps :math:`-D g` shrink along every direction of positive curvature
    if this is below 2; along a direction where it is above 2 they grow, and change their sign at each step. Networks
    trained on all data at once rise to about 2 and stay near it, with a cross-entropy until the data are fitted. So 2
    is the edge of stability, and a reading says how far from it this rate is at this point. A run above it need not
    diverge: its oscillation makes the mean square larger, which lowers the reading. The number 2 does not apply to
    gradients of small batches, whose noise holds a run at a lower curvature, nor with momentum, which moves the edge.

    The eigenvalue is found by power iteration, from products of the Hessian with a vector: no matrix is formed, and
    what is sharded stays so. A product costs about as much as two gradients.

    Args:
      loss_fn: A function from parameters to a real scalar, twice differentiable, of all data or of one batch.
      params: The parameters: a tree of floating-point arrays.
      state: What `update` returned last. Parameters without a second moment in it count as fixed.
      learning_rate: :math:`\alpha`, in [0, inf). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf), as given to the optimizer. A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      decay: :math:`\beta`, in [0, 1). A number; may be traced. Required if the state counts its steps.
      iterations: How many products to take at most, from 1; as many again if the first eigenvalue found is negative.
      tolerance: The relative error at which to stop, in (0, inf).

    Returns:
      The largest eigenvalue, a float32 or float64 scalar; negative if the loss curves down in every direction. NaN if
      the loss is.

    Raises:
      ValueError: A number out of range; second moments that do not fit `params`, two for one leaf, or none at all.
      TypeError: Leaves that are not real floating-point arrays; a loss that is not a real scalar; not a number.

    References:
      Cohen et al. (2024), arXiv 2410.24206, for RMSprop on all data at once; Cohen et al. (2022), arXiv 2207.14484,
      for Adam.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import diagnostics, rmsprop
      >>> tx = rmsprop(0.1, decay=0.75, eps=0.0)
      >>> params = jnp.array([1.0, 1.0])
      >>> loss_fn = lambda x: jnp.sum(jnp.array([1.0, 4.0]) * x**2) / 2
      >>> _, state = tx.update(jnp.array([1.0, 4.0]), tx.init(params))
      >>> print(diagnostics.sharpness(loss_fn, params, state, 0.1, eps=0.0).round(3))  # 0.2 * 1 and 0.05 * 4
      0.2
    """
    learning_rate, eps, eps_in_sqrt, decay = checked(learning_rate, eps, eps_in_sqrt, decay)
    tolerance = _checks.positive("tolerance", tolerance)
    _check(loss_fn, params, iterations)
    second = second_of_each(state, decay, by_path(params))
    rates = {path: rate_of(learning_rate, x, eps, eps_in_sqrt) for path, x in second.items()}
    root = [jnp.sqrt(rates[path]) if path in rates else jnp.zeros_like(p) for path, p in by_path(params).items()]
    root = jax.tree.unflatten(jax.tree.structure(params), root)

    def product(vector):
        moved = jax.tree.map(lambda d, v, p: (d * v).astype(p.dtype), root, vector, params)
        curved = jax.jvp(jax.grad(loss_fn), (params,), (moved,))[1]
        return jax.tree.map(lambda d, h: d * h, root, curved)

    start = product(optax.tree.random_like(jax.random.key(0), root))
    largest = _dominant(product, start, iterations, tolerance)

    def above_the_lowest():
        shifted = lambda vector: optax.tree.add_scale(product(vector), -largest, vector)  # noqa: E731
        return largest + _dominant(shifted, start, iterations, tolerance)

    return jax.lax.cond(largest < 0, above_the_lowest, lambda: largest)


def _dominant(product: Any, start: Any, iterations: Any, tolerance: Any) -> jax.Array:
    """Return the eigenvalue of largest size, by power iteration.

    `optax.power_iteration` flattens leaves: that fails on Explicit meshes and gathers on others.
    """

    def dot(x, y):
        return sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))

    def unit(x):
        length = jnp.sqrt(dot(x, x))
        return optax.tree.scale(1 / jnp.where(length > 0, length, 1), x)

    def go_on(carry):
        _, value, before, step = carry
        settled = jnp.abs(value - before) <= tolerance * jnp.abs(value)
        return (step < iterations) & ((step < 2) | ~settled)

    def again(carry):
        vector, value, _, step = carry
        image = product(vector)
        return unit(image), dot(vector, image), value, step + 1

    first = unit(start)
    none = jnp.zeros_like(dot(first, first))
    return jax.lax.while_loop(go_on, again, (first, none, none, 0))[1]


def _check(loss_fn: Any, params: Any, iterations: Any) -> None:
    _checks.arrays("params", params, shapes=False, empty=False)
    _checks.inexact("params", params)
    if any(jnp.iscomplexobj(p) for p in jax.tree.leaves(params)):
        raise TypeError("`params` must be real, got complex leaves: pass their real and imaginary parts.")
    if isinstance(iterations, bool) or not isinstance(iterations, int | np.integer) or iterations < 1:
        raise ValueError(f"`iterations` must be an integer from 1, got {_checks.shown(iterations)}.")
    expected = "`loss_fn` must be a function from `params` to a real scalar"
    if not callable(loss_fn):
        raise TypeError(f"{expected}, got {_checks.shown(loss_fn)}.")
    try:
        loss = jax.eval_shape(loss_fn, params)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise TypeError(f"{expected}. Traced, it raised {said}") from error
    if getattr(loss, "shape", None) != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise TypeError(f"{expected}, got {_checks.shown(loss)}.")
