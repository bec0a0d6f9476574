"""From the `state_dict` of torch.optim.RMSprop, timm's RMSpropTF and Stable-Baselines3's RMSpropTFLike, and back."""

from __future__ import annotations  # signatures in help() read as written here

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optax

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint import contents, hyperparameters
from rmsprop_optax.checkpoint.contents import Contents, agreed, joined
from rmsprop_optax.checkpoint.converting import Convert, check_convert, check_names, numpy_of, reverted
from rmsprop_optax.checkpoint.filling import no_codes, whole
from rmsprop_optax.checkpoint.statistics import in_our_terms
from rmsprop_optax.checkpoint.torch_groups import compare_groups
from rmsprop_optax.checkpoint.torch_layouts import Layout, layout, named, written
from rmsprop_optax.checkpoint.variance import mean_square
from rmsprop_optax.dialects import ROWS

__all__ = ["from_torch", "to_torch"]

_THEIRS = ROWS["torch"].state  # nu: square_avg, mu: grad_avg, trace: momentum_buffer
_FAMILY = tuple(name for name, row in ROWS.items() if row.state == ROWS["torch"].state)


@_checks.keywords
def from_torch(
    state_dict: Mapping[str, Any],
    convert: Convert = None,
    *,
    names: Sequence[str] | Mapping[str, Any] | None = None,
    tx: optax.GradientTransformation | Sequence[optax.GradientTransformation] | None = None,
    framework: str | None = None,
) -> dict[str, Any]:
    r"""Read the moments from the `state_dict()` of `torch.optim.RMSprop`, or of one with its layout.

    `square_avg` becomes `nu`, or if centered, less `grad_avg` squared, `variance`; `grad_avg` becomes `mu`,
    `momentum_buffer` becomes `trace`, its sign changed where the learning rate is in the buffer (timm), and the largest
    `step` becomes `count`. Half precision becomes float32. Nothing is unpickled here: read files with
    `torch.load(path, weights_only=True, map_location="cpu")`.

    Args:
      state_dict: The optimizer's, not the model's: a mapping with `state` and `param_groups`, of tensors or arrays. Its
        parameters are numbered, or named as FSDP and torch.distributed.checkpoint have them, flattened
        (`state.weight.square_avg`) or not. A Lightning checkpoint, or the list `optimizer_states` in it, is read if it
        has one optimizer.
      convert: A function that converts the model's weights, a dictionary from names to NumPy arrays, to parameters.
        It is applied to each statistic, so it may rename, reshape, transpose, split and join, and nothing else. None
        leaves a dictionary by name.
      names: The names of the optimizer's parameters, if the file does not record them: one list in the order of
        `param_groups`, the names of one group after those of the other. With one group that is
        `[name for name, _ in model.named_parameters()]` as a rule. A dictionary from these names to the weights, in
        that order, has the shapes compared, too; its order is free where the file records the names. None takes the
        recorded names, and otherwise, without `convert`, the numbers 0, 1, ...
      tx: The new optimizer, made by `rmsprop` or a function of `dialects` or `recipes`: its arguments are compared with
        those in `param_groups`, the learning rate, too, and its `weight_decay_mask` group by group. For
        `optax.partition`, a list with one optimizer for each group. None compares nothing.
      framework: torch, timm, sb3 or pfrl, whose switches `tx` is compared with; None takes it from `tx` and
        `param_groups`.

    Returns:
      A dictionary for :func:`restore`, from `nu`, or `variance` and `mu`, and `trace` if there is one, to a tree of
      NumPy arrays as `convert` returns it; from `count` to an int; from `lr_in_momentum` to a bool if there is a trace.

    Raises:
      ValueError: Missing or extra parameters, or statistics; names that contradict those in the file; names or shapes
        in another order; statistics of another optimizer; other hyperparameters; groups that keep different statistics;
        a `convert` that loses, doubles or changes numbers; damaged values; sharded tensors.
      TypeError: An argument that is not a mapping; a `convert` that casts.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from rmsprop_optax import checkpoint, dialects
      >>> group = {"lr": 0.1, "alpha": 0.99, "momentum": 0, "centered": False, "params": [0]}
      >>> state_dict = {"state": {0: {"step": 7, "square_avg": np.ones((2, 3))}}, "param_groups": [group]}
      >>> tx = dialects.torch_rmsprop(lr=0.1)
      >>> moments = checkpoint.from_torch(state_dict, lambda w: {"kernel": w["weight"].T}, names=["weight"], tx=tx)
      >>> moments["nu"]["kernel"].shape, moments["count"]
      ((3, 2), 7)

    References:
      PyTorch 2.13.0, torch/optim/rmsprop.py, lines 106-142 (the state); timm 1.0.31, timm/optim/rmsprop_tf.py, lines
      136-150; stable-baselines3 2.9.2, stable_baselines3/common/sb2_compat/rmsprop_tf_like.py, lines 88-135.
    """
    check_convert(convert)
    check_names(names)
    found = layout(state_dict)
    groups, entries = found.groups, found.entries
    name_of = _by_name(found, names, "names") if isinstance(names, Mapping) else named(found, names)
    if convert is not None and names is None and None in found.recorded:
        raise ValueError(
            f"`state_dict` numbers its {len(found.keys)} parameters and `convert` takes names. Pass `names`, those of "
            "the optimizer's parameters in its order: [name for name, _ in model.named_parameters()] if it has one "
            "group, and otherwise the names of each group, one group after the other."
        )
    fields = _fields(groups)
    _check_entries(entries, name_of, fields)
    arrays = {
        field: {name: numpy_of(entries[key][_THEIRS[field]]) for key, name in name_of.items()} for field in fields
    }
    if isinstance(names, Mapping):
        _check_shapes("names", names, arrays["nu"])
    count = max(whole(numpy_of(entries[key]["step"]), f"`step` of {name}") for key, name in name_of.items())

    framework = _framework(framework, groups, tx)
    inside = _inside(groups, ROWS[framework].variant.lr_in_momentum)
    if tx is not None:
        compare_groups(framework, groups, name_of, arrays["nu"], convert, tx, count)
    return in_our_terms(arrays, _THEIRS, convert, lr_in_momentum=inside, count=count)


@_checks.keywords
def to_torch(
    state: Any,
    state_dict: Mapping[str, Any],
    weights: Mapping[str, Any],
    convert: Convert = None,
    *,
    count: int | None = None,
    as_tensor: Callable[[np.ndarray], Any] | None = None,
) -> dict[str, Any]:
    r"""Return a `state_dict` for `load_state_dict` of a PyTorch RMSprop, with the moments of `state`.

    The way back of :func:`from_torch`. What `convert` does is found out and undone, so the function is the same.

    Args:
      state: A state of `rmsprop` or of a function of `dialects`, in any chain.
      state_dict: What `state_dict()` of the new PyTorch optimizer returns: its `param_groups` are kept.
      weights: From the names of the optimizer's parameters to weights; only the shapes are read. Where `state_dict`
        records the names, `dict(model.named_parameters())` will do; otherwise they stand in the optimizer's order, the
        weights of one group after those of the other.
      convert: The function that converts weights to parameters, as for :func:`from_torch`.
      count: The steps taken, if `state` doesn't count them: without a schedule or a bias correction it does not.
        PyTorch's RMSprop keeps the number and does not calculate with it. A whole number.
      as_tensor: What converts a NumPy array to a tensor, `torch.as_tensor`; None leaves arrays, which PyTorch doesn't
        load.

    Returns:
      A new dictionary in the form of `state_dict`. PyTorch casts the moments to the parameter's dtype as it loads.

    Raises:
      ValueError: Options in `param_groups` that need other moments than `state` has; other parameters or shapes; names
        that contradict those in `state_dict`; no count.

    Example:
      >>> import jax.numpy as jnp
      >>> from rmsprop_optax import checkpoint, dialects
      >>> state = dialects.torch_rmsprop(lr=0.1).init({"kernel": jnp.zeros((3, 2))})
      >>> fresh = {"state": {}, "param_groups": [{"lr": 0.1, "momentum": 0, "centered": False, "params": [0]}]}
      >>> weights = {"weight": jnp.zeros((2, 3))}
      >>> full = checkpoint.to_torch(state, fresh, weights, lambda w: {"kernel": w["weight"].T}, count=0)
      >>> full["state"][0]["square_avg"].shape
      (2, 3)

    References:
      PyTorch 2.13.0, torch/optim/rmsprop.py, lines 106-142, and torch/optim/optimizer.py, load_state_dict.
    """
    check_convert(convert)
    if as_tensor is not None and not callable(as_tensor):
        raise TypeError(f"`as_tensor` must be a function such as torch.as_tensor, got {_checks.shown(as_tensor)}.")
    _check_weights(weights)
    if count is not None and np.shape(whole(count)):
        raise ValueError(f"`count` must be one whole number, got {_checks.shown(count)}.")
    theirs = layout(state_dict)
    name_of = _names_of_weights(theirs, weights)
    found = contents.describe_rmsprop("`state`", state, of_optax=False)
    no_codes("`state`", found)
    step: Any = agreed(found.counts) if found.counts else count
    if step is None:
        raise ValueError("`state` does not count its steps. Pass `count`, the steps taken.")
    if np.shape(step):
        raise ValueError(
            f"`state` is that of an ensemble of {len(step)}. PyTorch has an optimizer for each member: pass one at a "
            "time, jax.tree.map(lambda x: x[0], state)."
        )
    if count is not None and whole(count) != step:
        raise ValueError(f"`count` must be that of `state`, {step}, or left out; got {count}.")
    moments = _for_groups(theirs.groups, found)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    arrays = {_THEIRS[field]: reverted(convert, tree, shapes) for field, tree in moments.items()}
    make = (lambda x: x) if as_tensor is None else as_tensor
    entries = {
        key: {"step": make(np.array(step, np.float32)), **{field: make(tree[name]) for field, tree in arrays.items()}}
        for key, name in name_of.items()
    }
    return written(theirs, entries)


def _check_weights(weights: Any) -> None:
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"`weights` must be a dictionary from names to weights, got {_checks.shown(weights)}. Pass "
            "dict(model.named_parameters())."
        )
    for name, weight in weights.items():
        if not hasattr(weight, "shape"):
            raise TypeError(f"`weights` at {name} must be an array or a tensor, got {_checks.shown(weight)}.")


def _for_groups(groups: list[dict[str, Any]], found: Contents) -> dict[str, dict[str, Any]]:
    """Return the moments in PyTorch's terms, or refuse groups that want others."""
    wanted, moments = _fields(groups), {}
    for name, tree in found.moments.items():
        moments[name] = joined({path: item.value for path, item in tree.items()})
    if "variance" in moments:
        moments["nu"] = {path: mean_square(leaf, moments["mu"][path]) for path, leaf in moments.pop("variance").items()}
    if "ema" in moments:
        raise ValueError(
            "`state` has `ema`, an average of the steps, and PyTorch's momentum is their sum. Without the average, "
            "checkpoint.adapt moves the state to an optimizer with average_momentum=False, and reports what it drops."
        )
    if set(wanted) != set(moments):
        raise ValueError(
            f"`param_groups` must ask for the moments of `state`, {', '.join(moments)}; centered="
            f"{groups[0].get('centered', False)} and momentum={groups[0].get('momentum', 0)} ask for "
            f"{', '.join(wanted)}. Build the PyTorch optimizer with the options of the run."
        )
    inside = _inside(groups, False)
    if found.lr_in_momentum is not None and found.lr_in_momentum != inside:
        raise ValueError(
            f"`state` has a trace with lr_in_momentum={found.lr_in_momentum}, this PyTorch optimizer has one with "
            f"lr_in_momentum={inside}. Change the order with checkpoint.adapt before."
        )
    if "trace" in moments and inside:
        moments["trace"] = {path: -np.asarray(leaf) for path, leaf in moments["trace"].items()}
    return moments


def _names_of_weights(theirs: Layout, weights: Mapping[str, Any]) -> dict[Any, str]:
    """Return the name of each of the optimizer's parameters: by the names in the file, otherwise in the order there."""
    if len(weights) != len(theirs.keys):
        raise ValueError(f"`weights` must have the optimizer's {len(theirs.keys)} parameters, got {len(weights)}.")
    name_of = _by_name(theirs, weights, "weights")
    present = [(name, theirs.entries.get(key, {}).get(_THEIRS["nu"])) for key, name in name_of.items()]
    _check_shapes("weights", weights, {name: x for name, x in present if x is not None})
    return name_of


def _by_name(found: Layout, weights: Mapping[str, Any], argument: str) -> dict[Any, Any]:
    """Return the name of each key; weights that go by the recorded names may stand in any order."""
    recorded = None not in found.recorded and set(found.recorded) == set(weights)
    return named(found, found.recorded if recorded else list(weights), argument)


def _check_shapes(argument: str, weights: Mapping[str, Any], statistics: Mapping[str, Any]) -> None:
    """Refuse weights whose order is not the optimizer's, where their shapes show it."""
    for name, x in statistics.items():
        if tuple(x.shape) != tuple(weights[name].shape):
            raise ValueError(
                f"`{_THEIRS['nu']}` of {name} has shape {tuple(x.shape)} in the file, but `{argument}` has shape "
                f"{tuple(weights[name].shape)} for it, so they are in another order. It is that of `param_groups`: the "
                "parameters of one group after those of the other."
            )


def _fields(groups: list[Any]) -> tuple[str, ...]:
    """Return which moments the groups keep."""
    asked = {(bool(group.get("centered", False)), float(group.get("momentum", 0)) > 0) for group in groups}
    if len(asked) > 1:
        raise ValueError(
            "The `param_groups` differ in centered or momentum > 0, so they keep different statistics. Read them one "
            "by one: a `state_dict` with one group and the state of its parameters."
        )
    centered, momentum = asked.pop()
    return ("nu", *(("mu",) if centered else ()), *(("trace",) if momentum else ()))


def _inside(groups: list[Any], default: bool) -> bool:
    """Return whether the learning rate is in the momentum, or refuse groups that differ in it."""
    orders = {bool(group.get("lr_in_momentum", default)) for group in groups}
    if len(orders) > 1:
        raise ValueError("The `param_groups` differ in lr_in_momentum, so their buffers mean different things.")
    return orders.pop()


def _check_entries(entries: dict[Any, Any], name_of: dict[Any, Any], fields: tuple[str, ...]) -> None:
    """Refuse statistics of another optimizer, and missing and extra ones."""
    expected = {_THEIRS[field] for field in fields} | {"step"}
    for index, entry in entries.items():
        found = {key for key, value in entry.items() if value is not None}
        if found != expected:
            missing, extra = sorted(expected - found), sorted(found - expected)
            raise ValueError(
                f"The statistics of {name_of.get(index, index)} must be {', '.join(sorted(expected))}; missing: "
                f"{', '.join(missing) or 'none'}; unexpected: {', '.join(extra) or 'none'}. These are another "
                "optimizer's, or `centered` and `momentum` have been changed, or the file is not whole."
            )
    missing = [name for key, name in name_of.items() if key not in entries]
    extra = [key for key in entries if key not in name_of]
    if missing or extra:
        raise ValueError(
            f"Each parameter must have statistics; missing: {', '.join(map(str, missing[:5])) or 'none'}; unexpected: "
            f"{', '.join(map(str, extra[:5])) or 'none'}. Those that never had a gradient have none: take them out of "
            "`params`, and mask them here with optax.masked; before the first step, init is the state."
        )


def _framework(framework: str | None, groups: list[Any], tx: Any) -> str:
    if framework is None:
        dialect = hyperparameters.framework_of(tx[0] if type(tx) in (list, tuple) and tx else tx)
        framework = dialect if dialect in _FAMILY else "timm" if "lr_in_momentum" in groups[0] else "torch"
    if not isinstance(framework, str) or framework not in _FAMILY:
        raise ValueError(f"`framework` must be one of {', '.join(_FAMILY)}, got {_checks.shown(framework)}.")
    return framework
