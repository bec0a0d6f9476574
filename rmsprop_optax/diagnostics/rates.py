"""What each element of a gradient is multiplied by, from the second moments in a state."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import _checks, moments
from rmsprop_optax.transform import Numbers, floor_of, root

__all__ = ["Second", "by_path", "checked", "effective_learning_rate", "rate_of", "second_of_each", "seconds"]


@_checks.keywords
def effective_learning_rate(
    state: optax.OptState,
    learning_rate: jax.typing.ArrayLike,
    *,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_in_sqrt: bool = True,
    decay: jax.typing.ArrayLike | None = None,
) -> dict[str, Any]:
    r"""Return what each element of a gradient is multiplied by.

    .. math::
        \alpha / \sqrt{\nu_t + \epsilon}
        \qquad\text{or, without }\mathtt{eps\_in\_sqrt}\text{,}\qquad
        \alpha / (\sqrt{\nu_t} + \epsilon)

    In place of :math:`\nu_t` stands :math:`\nu_t / (1 - \beta^t)` where the state counts its steps to correct the bias,
    and the variance where the state is centered. Both are found by name anywhere in the state: in a chain, a partition,
    a mask, under `optax.inject_hyperparams`, in optax's own states and in Adam's.

    Args:
      state: What `update` returned with the updates of this step.
      learning_rate: :math:`\alpha` at this step, in [0, inf). A number, which may be traced.
      eps: :math:`\epsilon`, in [0, inf), as given to the optimizer. A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.
      decay: :math:`\beta`, in [0, 1). A number; may be traced. Required if the state counts its steps
        (`bias_correction`, Adam), ignored otherwise.

    Returns:
      A dict from the path of each `nu` and `variance` in the state to a tree of its structure, shapes and dtypes.

    Raises:
      ValueError: The state has neither; a number is out of range; `decay` is missing.
      TypeError: A second moment is in codes or in half precision: decode it with `compression.decompress`. The learning
        rate is a schedule: call it.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import diagnostics, rmsprop
      >>> tx = rmsprop(0.1, decay=0.75, eps=0.0)
      >>> _, state = tx.update(jnp.array([1.0, 10.0]), tx.init(jnp.zeros(2)))
      >>> diagnostics.effective_learning_rate(state, 0.1, eps=0.0)
      {'0/ScaleByRmsState.nu': Array([0.2 , 0.02], dtype=float32)}
    """
    learning_rate, eps, eps_in_sqrt, decay = checked(learning_rate, eps, eps_in_sqrt, decay)
    return {
        moment.path: jax.tree.map(lambda x: rate_of(learning_rate, x, eps, eps_in_sqrt), moment.second)
        for moment in seconds(state, decay)
    }


def checked(learning_rate: Any, eps: Any, eps_in_sqrt: Any, decay: Any) -> tuple[Any, Any, bool, Any]:
    """Return what the rate of a second moment is made of, or refuse it."""
    return (
        _checks.number("learning_rate", learning_rate, hint=" For a schedule pass its value at this step."),
        _checks.number("eps", eps),
        _checks.switch("eps_in_sqrt", eps_in_sqrt),
        None if decay is None else _checks.number("decay", decay, below=1),
    )


class Second(NamedTuple):
    """A second moment in a state: where it is, and its tree."""

    path: str
    second: Any  # the mean square or the variance, its bias corrected: the update divides by its root


def seconds(state: Any, decay: Any) -> list[Second]:
    """Find each second moment by name; correct its bias and center it where the update does."""
    found = []
    _checks.state("`state`", state)
    for key, entry in moments.entries(state):
        name, of = moments.second(entry), moments.of(entry)
        if name is None:
            continue
        path = f"{_checks.leaf_name(key)}/" if key else ""
        path += f"{type(entry).__name__}.{name}"
        _checks.moments(f"state/{path}", of[name])
        weight: Any = 1.0
        if "count" in entry._fields:
            if decay is None:
                raise ValueError(
                    f"`decay` is needed, got None: `state` counts steps at {path}, so the bias is corrected."
                )
            weight = _weight(decay, entry.count)
        second = jax.tree.map(lambda x, weight=weight: x / weight, of[name])
        if "ScaleByRStdDev" in type(entry).__name__:  # optax's keeps the mean square and divides by the deviation
            second = jax.tree.map(
                lambda x, m, weight=weight: jnp.maximum(x - jnp.abs(m / weight) ** 2, 0), second, of["mu"]
            )
        found.append(Second(path, second))
    if not found:
        names = " or ".join(f"`{name}`" for name in moments.SECOND)
        classes = ", ".join(dict.fromkeys(type(entry).__name__ for _, entry in moments.entries(state)))
        raise ValueError(
            f"`state` must have a field named {names} somewhere, got {classes or f'a {type(state).__name__}'}. Pass "
            "what `update` returned."
        )
    return found


def second_of_each(state: Any, decay: Any, params: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Return the second moment of each parameter that has one, both by path; those without elements are left out."""
    found: dict[str, jax.Array] = {}
    for moment in seconds(state, decay):
        for path, second in by_path(moment.second).items():
            where = f"`state/{moment.path}` at {path}"
            if not second.size:
                continue
            if path not in params:
                raise ValueError(
                    f"{where} has no leaf at the same path in `params`. Pass the parameters of this state."
                )
            if path in found:
                raise ValueError(
                    f"{where} is one of two second moments of that leaf. Pass the part of the state to measure."
                )
            if second.shape != params[path].shape:
                raise ValueError(f"{where} has shape {second.shape}, but in `params` it is {params[path].shape}.")
            found[path] = second
    return found


def _weight(decay: Any, count: Any) -> jax.Array:
    """Return 1 - decay**count, computed from `1 - decay`, which is exact; before the first step the value after it."""
    return -jnp.expm1(jnp.maximum(count, 1) * jnp.log1p(-(1 - decay)))


def rate_of(learning_rate: Any, nu: Any, eps: Any, eps_in_sqrt: bool) -> jax.Array:
    eps = jnp.asarray(eps, nu.dtype)
    return learning_rate / root(nu, Numbers(None, eps, floor_of(eps)), eps_in_sqrt)


def by_path(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.asarray(leaf) for path, leaf in leaves}
