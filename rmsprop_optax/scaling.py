"""From one batch size to another: what learning rate, decay and eps become."""

from __future__ import annotations  # signatures in help() read as written here

from typing import Any

import jax

from rmsprop_optax import _checks

__all__ = ["decay", "rescaled"]


def __dir__() -> list[str]:
    return __all__


@_checks.keywords
def decay(half_life: jax.typing.ArrayLike, batch_size: jax.typing.ArrayLike) -> Any:
    r"""Return the decay with which a mean square forgets half of what it holds after `half_life` examples.

    .. math::
        \beta = 2^{-B / h}

    where :math:`B` is the size of a batch and :math:`h` the half-life. With the half-life held fixed, `nu` averages
    over the same number of examples at every batch size.

    Args:
      half_life: :math:`h`, above 0, in examples, or in tokens. A number; may be traced.
      batch_size: :math:`B`, above 0, in the same unit. A number; may be traced.

    Returns:
      The decay, in [0, 1), a float if both are Python numbers, otherwise a scalar array.

    Raises:
      ValueError: A number that is not above 0.
      TypeError: What is not a number.

    References:
      Marek et al. (2025), arXiv 2507.07101; their code computes it in pretraining/optimizer.py of
      https://github.com/martin-marek/batch-size, lines 87-88, for Adam.

    Example:
      >>> from rmsprop_optax import rmsprop, scaling
      >>> scaling.decay(half_life=1000, batch_size=100)
      0.9330329915368074
      >>> tx = rmsprop(1e-3, decay=scaling.decay(half_life=1000, batch_size=1))
    """
    half_life, batch_size = _checks.positive("half_life", half_life), _checks.positive("batch_size", batch_size)
    return 2.0 ** -(batch_size / half_life)


@_checks.keywords
def rescaled(
    batch_size: jax.typing.ArrayLike,
    new_batch_size: jax.typing.ArrayLike,
    *,
    learning_rate: jax.typing.ArrayLike,
    decay: jax.typing.ArrayLike,
    eps: jax.typing.ArrayLike,
    eps_in_sqrt: bool = True,
) -> dict[str, Any]:
    r"""Return the hyperparameters for another batch size, by the square-root rule.

    With :math:`\kappa` the new batch size over the old:

    .. math::
        \alpha' = \sqrt\kappa\, \alpha, \qquad
        \beta' = \beta^\kappa, \qquad
        \epsilon' = \epsilon / \kappa
        \quad\text{or, without }\mathtt{eps\_in\_sqrt}\text{,}\quad
        \epsilon' = \epsilon / \sqrt\kappa

    Where noise outweighs the mean of the gradients, `nu` is about their variance, which is :math:`1/\kappa` of what it
    was. So eps, which stands beside `nu` or beside its root, shrinks with it, and one step is as many learning rates
    long as before. One new step replaces :math:`\kappa` old ones, whose noise adds up to :math:`\sqrt\kappa` steps. The
    half-life of `nu` in examples stays what it was; Malladi et al. write :math:`1 - \kappa (1 - \beta)`, which is the
    same to first order, and is below 0 where :math:`\kappa (1 - \beta) > 1`.

    It holds while noise outweighs the mean of the gradients, steps are small, and `nu` averages over several batches
    (:math:`\kappa (1 - \beta)` well below 1). Beyond the batch size at which noise no longer dominates, a larger rate
    gains nothing. Change the number of steps of a schedule yourself: there are :math:`1/\kappa` as many.

    Args:
      batch_size: The batch size that the numbers are for, above 0, in examples or in tokens. A number; may be traced.
      new_batch_size: The batch size that new ones are for, above 0, in the same unit. A number; may be traced.
      learning_rate: :math:`\alpha`, in [0, inf): of a schedule, its peak. A number; may be traced.
      decay: :math:`\beta`, in [0, 1). A number; may be traced.
      eps: :math:`\epsilon`, in [0, inf). A number; may be traced.
      eps_in_sqrt: Whether eps is added inside the root. Structure.

    Returns:
      A dict from `learning_rate`, `decay`, `eps` and `eps_in_sqrt` to their values, as `rmsprop` takes them.

    Raises:
      ValueError: A number out of range.
      TypeError: What is not a number; a switch that is not a bool.

    References:
      Malladi et al. (2022), arXiv 2205.10287, the square-root scaling rule for RMSprop, with eps outside the root.

    Example:
      >>> from rmsprop_optax import rmsprop, scaling
      >>> numbers = scaling.rescaled(32, 128, learning_rate=1e-3, decay=0.99, eps=1e-8)
      >>> print(numbers)
      {'learning_rate': 0.002, 'decay': 0.96059601, 'eps': 2.5e-09, 'eps_in_sqrt': True}
      >>> tx = rmsprop(**numbers)
    """
    peak = " Of a schedule, pass its peak, and scale its values by what becomes of it."
    kappa = _checks.positive("new_batch_size", new_batch_size) / _checks.positive("batch_size", batch_size)
    root = kappa**0.5
    eps_in_sqrt = _checks.switch("eps_in_sqrt", eps_in_sqrt)
    return {
        "learning_rate": root * _checks.number("learning_rate", learning_rate, hint=peak),
        "decay": _checks.number("decay", decay, below=1) ** kappa,
        "eps": _checks.number("eps", eps) / (kappa if eps_in_sqrt else root),
        "eps_in_sqrt": eps_in_sqrt,
    }
