"""From the `state_dict` of torch.optim.RMSprop, timm's RMSpropTF and Stable-Baselines3's RMSpropTFLike, and back."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optax

from rmsprop_optax.checkpoint import contents, hyperparameters
from rmsprop_optax.checkpoint.contents import Contents, agreed, joined
from rmsprop_optax.checkpoint.converting import Convert, numpy_of, reverted
from rmsprop_optax.checkpoint.filling import no_codes, whole
from rmsprop_optax.checkpoint.statistics import in_our_terms
from rmsprop_optax.checkpoint.variance import mean_square
from rmsprop_optax.dialects import ROWS

__all__ = ["from_torch", "to_torch"]

_THEIRS = ROWS["torch"].state  # nu: square_avg, mu: grad_avg, trace: momentum_buffer
_FAMILY = tuple(name for name, row in ROWS.items() if row.state == ROWS["torch"].state)
_OFF = ("maximize", "caution", "corrected_weight_decay")


def from_torch(
    state_dict: Mapping[str, Any],
    convert: Convert = None,
    *,
    names: Sequence[str] | None = None,
    tx: optax.GradientTransformation | None = None,
    framework: str | None = None,
) -> dict[str, Any]:
    r"""Read the moments from the `state_dict()` of `torch.optim.RMSprop`, or of one with its layout.

    `square_avg` becomes `nu`, or if centered, less `grad_avg` squared, `variance`; `grad_avg` becomes `mu`,
    `momentum_buffer` becomes `trace`, its sign changed where the learning rate is in the buffer (timm), and the largest
    `step` becomes `count`. Half precision becomes float32. Nothing is unpickled here: read files with
    `torch.load(path, weights_only=True, map_location="cpu")`.

    Args:
      state_dict: The optimizer's, not the model's: a mapping with `state` and `param_groups`, of tensors or arrays.
      convert: The function that makes the parameters of the model's weights, a dictionary from names to NumPy arrays.
        It is applied to each statistic, so it may rename, reshape, transpose, split and join, and nothing else. None
        leaves a dictionary by name.
      names: The names of the optimizer's parameters in its order, `[name for name, _ in model.named_parameters()]` as
        a rule. None takes those that the optimizer was given, and otherwise its numbers 0, 1, ...
      tx: What carries on, made by `rmsprop` or a function of `dialects`: its arguments are compared with those in
        `param_groups`, the learning rate, too. None compares nothing.
      framework: torch, timm, sb3 or pfrl, whose switches `tx` is compared with; None takes it from `tx` and
        `param_groups`.

    Returns:
      For :func:`restore`: from `nu`, or `variance` and `mu`, and `trace` if there is one, to a tree of NumPy arrays
      as `convert` returns it; from `count` to an int; from `lr_in_momentum` to a bool if there is a trace.

    Raises:
      ValueError: Missing or extra parameters, or statistics; those of another optimizer; other hyperparameters; groups
        that keep different statistics; a `convert` that loses, doubles or changes numbers; damaged values.
      TypeError: What is no mapping; a `convert` that casts.

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
    groups, entries = _parts(state_dict)
    indices = [index for group in groups for index in group["params"]]
    named = _named(groups, indices, names)
    fields = _fields(groups)
    _check_entries(entries, indices, named, fields)
    arrays = {field: {name: numpy_of(entries[i][_THEIRS[field]]) for i, name in named.items()} for field in fields}
    count = max(whole(numpy_of(entries[index]["step"])) for index in indices)

    framework = _framework(framework, groups, tx)
    inside = bool(groups[0].get("lr_in_momentum", ROWS[framework].variant.lr_in_momentum))
    if tx is not None:
        for i, group in enumerate(groups):
            hyperparameters.compare(framework, group, tx, count, f"`param_groups[{i}]`", _OFF)
    return in_our_terms(arrays, _THEIRS, convert, lr_in_momentum=inside, count=count)


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
      weights: From the names of the optimizer's parameters, in its order, to weights; only the shapes are read.
        `dict(model.named_parameters())` as a rule.
      convert: The function that makes parameters of weights, as for :func:`from_torch`.
      count: The steps taken, if `state` doesn't count them. A whole number.
      as_tensor: What makes a tensor of a NumPy array, `torch.as_tensor`; None leaves arrays, which PyTorch doesn't
        load.

    Returns:
      A new dictionary with `state` and `param_groups`. PyTorch casts the moments to the parameter's dtype as it loads.

    Raises:
      ValueError: Options in `param_groups` that need other moments than `state` has; other parameters or shapes; no
        count.

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
    groups, _ = _parts(state_dict)
    indices = [index for group in groups for index in group["params"]]
    if len(indices) != len(weights):
        raise ValueError(f"`weights` must have the optimizer's {len(indices)} parameters, got {len(weights)}.")
    found = contents.describe_rmsprop(state, of_optax=False)
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
    moments = _for_groups(groups, found)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    arrays = {_THEIRS[field]: reverted(convert, tree, shapes) for field, tree in moments.items()}
    make = (lambda x: x) if as_tensor is None else as_tensor
    filled = {
        index: {"step": make(np.array(step, np.float32)), **{key: make(tree[name]) for key, tree in arrays.items()}}
        for index, name in zip(indices, weights, strict=True)
    }
    return {"state": filled, "param_groups": copy.deepcopy(groups)}


def _for_groups(groups: list[dict[str, Any]], found: Contents) -> dict[str, dict[str, Any]]:
    """Return the moments in PyTorch's terms, or refuse groups that want others."""
    wanted, moments = _fields(groups), {}
    for name, tree in found.moments.items():
        moments[name] = joined({path: item.value for path, item in tree.items()})
    if "variance" in moments:
        moments["nu"] = {path: mean_square(leaf, moments["mu"][path]) for path, leaf in moments.pop("variance").items()}
    if set(wanted) != set(moments):
        raise ValueError(
            f"`param_groups` must ask for the moments of `state`, {', '.join(moments)}; centered="
            f"{groups[0].get('centered', False)} and momentum={groups[0].get('momentum', 0)} ask for "
            f"{', '.join(wanted)}. Build the PyTorch optimizer with the options of the run."
        )
    inside = bool(groups[0].get("lr_in_momentum", False))
    if found.lr_in_momentum is not None and found.lr_in_momentum != inside:
        raise ValueError(
            f"`state` has a trace with lr_in_momentum={found.lr_in_momentum}, this PyTorch optimizer has one with "
            f"lr_in_momentum={inside}. Change the order with checkpoint.adapt before."
        )
    if "trace" in moments and inside:
        moments["trace"] = {path: -np.asarray(leaf) for path, leaf in moments["trace"].items()}
    return moments


def _parts(state_dict: Any) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"`state_dict` must be a mapping, got {type(state_dict).__name__}. Read a file with torch.load(path, "
            'weights_only=True, map_location="cpu").'
        )
    if not {"state", "param_groups"} <= {*state_dict}:
        raise ValueError(
            "`state_dict` must be an optimizer's, with state and param_groups; found "
            f"{', '.join(map(str, list(state_dict)[:5])) or 'nothing'}. A training checkpoint often has it under "
            "`optimizer`; the model's own has no statistics."
        )
    groups = list(state_dict["param_groups"])
    if not groups or not all("params" in group for group in groups):
        raise ValueError("`state_dict` has param_groups without `params`: the file is not whole.")
    return groups, {int(index): entry for index, entry in state_dict["state"].items()}


def _named(groups: list[Any], indices: list[int], names: Sequence[str] | None) -> dict[int, Any]:
    if names is None and all("param_names" in group for group in groups):
        names = [name for group in groups for name in group["param_names"]]
    listed: list[Any] = list(range(len(indices))) if names is None else list(names)
    if len(listed) != len(indices) or len(set(listed)) != len(listed):
        raise ValueError(
            f"`names` must name the optimizer's {len(indices)} parameters, each once and in its order; got "
            f"{len(listed)} names, {len(set(listed))} of them different."
        )
    return dict(zip(indices, listed, strict=True))


def _fields(groups: list[Any]) -> tuple[str, ...]:
    """Return which moments the groups keep."""
    kept = {(bool(group.get("centered", False)), float(group.get("momentum", 0)) > 0) for group in groups}
    if len(kept) > 1:
        raise ValueError(
            "The `param_groups` differ in centered or momentum > 0, so they keep different statistics. Read them one "
            "by one: a `state_dict` with one group and the state of its parameters."
        )
    centered, momentum = kept.pop()
    return ("nu", *(("mu",) if centered else ()), *(("trace",) if momentum else ()))


def _check_entries(entries: dict[int, Any], indices: list[int], named: dict[int, Any], fields: tuple[str, ...]) -> None:
    """Refuse statistics of another optimizer, and missing and extra ones."""
    expected = {_THEIRS[field] for field in fields} | {"step"}
    for index, entry in entries.items():
        found = {key for key, value in entry.items() if value is not None}
        if found != expected:
            missing, extra = sorted(expected - found), sorted(found - expected)
            raise ValueError(
                f"The statistics of {named.get(index, index)} must be {', '.join(sorted(expected))}; missing: "
                f"{', '.join(missing) or 'none'}; unexpected: {', '.join(extra) or 'none'}. These are another "
                "optimizer's, or `centered` and `momentum` have been changed, or the file is not whole."
            )
    missing, extra = [named[i] for i in indices if i not in entries], [i for i in entries if i not in named]
    if missing or extra:
        raise ValueError(
            f"Each parameter must have statistics; missing: {', '.join(map(str, missing[:5])) or 'none'}; unexpected: "
            f"{', '.join(map(str, extra[:5])) or 'none'}. Those that never had a gradient have none: take them out of "
            "`params`, and mask them here with optax.masked; before the first step, init is the state."
        )


def _framework(framework: str | None, groups: list[Any], tx: Any) -> str:
    if framework is None:
        dialect = hyperparameters.framework_of(tx)
        framework = dialect if dialect in _FAMILY else "timm" if "lr_in_momentum" in groups[0] else "torch"
    if framework not in _FAMILY:
        raise ValueError(f"`framework` must be one of {', '.join(_FAMILY)}, got {framework!r}.")
    return framework
