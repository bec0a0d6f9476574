"""Say in words, before the first step, what a run that moves to another optimizer goes on with."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint.adapting import adapt
from rmsprop_optax.checkpoint.contents import describe

__all__ = ["preview"]


@_checks.keywords
def preview(
    old_state: Any,
    tx: optax.GradientTransformation,
    params: optax.Params,
    *,
    old_tx: optax.GradientTransformation | None = None,
    gradients: optax.Updates | None = None,
    learning_rate: jax.typing.ArrayLike | None = None,
    count: Any = None,
    start: Sequence[str] = (),
    allow_rounding: bool = False,
) -> str:
    r"""Return in words what :func:`adapt` would do with a state, or why it would refuse it and what to write instead.

    With gradients, also the largest difference between the next updates of the old and of the new optimizer:

    .. math::
        \max_i |u_i - u'_i| \quad\text{beside}\quad \max_i |u_i|

    Args:
      old_state: The state to go on from, as for :func:`adapt`.
      tx: The new optimizer.
      params: The parameters.
      old_tx: The transformation that made `old_state`; needed with `gradients`.
      gradients: One recorded gradient, like `params`. None compares no updates.
      learning_rate: As for :func:`adapt`.
      count: As for :func:`adapt`.
      start: As for :func:`adapt`.
      allow_rounding: As for :func:`adapt`.

    Returns:
      Some lines of text, to print.

    Raises:
      ValueError: `gradients` without `old_tx`, or unlike `params`; an `old_tx` that did not make `old_state`.
      TypeError: `tx` or `old_tx` is not a transformation.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from rmsprop_optax import checkpoint, rmsprop
      >>> params, old = {"w": jnp.ones(2)}, optax.rmsprop(0.1)
      >>> print(checkpoint.preview(old.init(params), rmsprop(0.1), params, old_tx=old, gradients=params))
      continued (goes on as it was): 0/nu
      The next update differs by at most 0; the largest element of the old one is 0.316.
    """
    _checks.transformation("tx", tx)
    if old_tx is not None:
        _checks.transformation("old_tx", old_tx)
    if gradients is not None and old_tx is None:
        raise ValueError("`gradients` needs `old_tx`, the transformation that made `old_state`, to compare updates.")
    try:
        state, report = adapt(
            old_state,
            tx,
            params,
            learning_rate=learning_rate,
            count=count,
            start=start,
            allow_rounding=allow_rounding,
        )
    except (TypeError, ValueError) as error:
        return f"refused: {error}"
    if gradients is None:
        return str(report)
    _check_step(old_tx, gradients, old_state, params)
    old_update, new_update = (_update(old_tx, gradients, old_state, params), _update(tx, gradients, state, params))
    difference = _largest(jax.tree.map(lambda a, b: jnp.asarray(a) - jnp.asarray(b), old_update, new_update))
    return (
        f"{report}\nThe next update differs by at most {difference:.3g}; the largest element of the old one is "
        f"{_largest(old_update):.3g}."
    )


def _check_step(old_tx: Any, gradients: Any, old_state: Any, params: Any) -> None:
    """Refuse gradients that are not like the parameters, and a transformation that did not make the state."""
    _checks.like("gradients", gradients, "params", params)
    _checks.arrays("gradients", gradients, shapes=False)
    _checks.same_kind("gradients", gradients, params)
    trained = lambda g, p: g if jnp.issubdtype(jnp.result_type(p), jnp.inexact) else None  # noqa: E731
    _checks.inexact("gradients", jax.tree.map(trained, gradients, params, is_leaf=lambda g: g is None))
    init = old_tx.init
    for _ in describe(old_state).members:
        init = jax.vmap(init)
    made = jax.eval_shape(init, params)
    expected: Any = jax.tree.structure(made)
    if expected != jax.tree.structure(old_state):
        owners = [_checks.listed(sorted({item.owner for item in describe(one).items})) for one in (made, old_state)]
        raise ValueError(
            f"`old_tx` must be the transformation that made `old_state`: its init makes {owners[0]}, and "
            f"`old_state` has {owners[1]}. Pass the one with the options and parameters of that run."
        )


def _update(tx: Any, gradients: Any, state: Any, params: Any) -> Any:
    """Return the next update; for an ensemble, those of all its members."""
    update = optax.with_extra_args_support(tx).update
    for _ in describe(state).members:
        update = jax.vmap(update)
    return update(gradients, state, params)[0]


def _largest(tree: Any) -> float:
    return max((float(np.max(np.abs(leaf), initial=0)) for leaf in jax.tree.leaves(tree)), default=0.0)
