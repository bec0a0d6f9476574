"""The layouts in which trainers write the state of a PyTorch optimizer, and the names that they record."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rmsprop_optax import _checks

__all__ = ["Layout", "layout", "named", "written"]

_PREFIXES = ("state.", "param_groups.")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class Layout(NamedTuple):
    """A `state_dict` as PyTorch's own optimizers return it, whatever form it was written in."""

    groups: list[dict[str, Any]]
    entries: dict[Any, dict[str, Any]]  # the statistics of each parameter, by its key in `params`
    keys: list[Any]  # of all groups, one group after the other: numbers, or names
    recorded: list[Any]  # the name of each key in the file, None where it has none
    flat: Mapping[str, Any] | None  # the flattened form, if it was that


def layout(state_dict: Any) -> Layout:
    """Describe a `state_dict` in any of the forms in which trainers write it.

    That is PyTorch's own, by number; by name, as FSDP and torch.distributed.checkpoint write it; flattened to
    `state.weight.square_avg`; or in the list `optimizer_states` of a Lightning checkpoint.
    """
    state_dict = _unwrapped(state_dict)
    flat = state_dict if _is_flat(state_dict) else None
    if flat is not None:
        state_dict = _nested(flat)
    if not {"state", "param_groups"} <= {*state_dict}:
        raise ValueError(
            "`state_dict` must be an optimizer's, with state and param_groups; found "
            f"{', '.join(map(str, list(state_dict)[:5])) or 'nothing'}. A training checkpoint often has it under "
            "`optimizer`; the model's own has no statistics."
        )
    groups = _groups(state_dict)
    keys = [key for group in groups for key in group.get("params", ())]
    if not groups or not all("params" in group for group in groups) or len(set(keys)) != len(keys):
        raise ValueError("`state_dict` has param_groups without `params`, or a parameter twice: the file is not whole.")
    if keys and all(isinstance(key, str) for key in keys):
        return Layout(groups, dict(state_dict["state"]), keys, keys, flat)
    recorded: list[Any] = []
    for i, group in enumerate(groups):
        recorded += group.get("param_names") or [None] * len(group["params"])
        if len(recorded) != sum(len(earlier["params"]) for earlier in groups[: i + 1]):
            raise ValueError(f"`param_groups[{i}]` must have a name in `param_names` for each of `params`.")
    return Layout(groups, {int(key): entry for key, entry in state_dict["state"].items()}, keys, recorded, flat)


def _groups(state_dict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the `param_groups`, or refuse a `state_dict` that is not built as PyTorch builds it."""
    groups, state = state_dict["param_groups"], state_dict["state"]
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Mapping) for group in groups):
        raise TypeError(f"`state_dict` must have a list of dictionaries as param_groups, got {_checks.shown(groups)}.")
    if not isinstance(state, Mapping) or not all(isinstance(entry, Mapping) for entry in state.values()):
        raise TypeError(
            "`state_dict` must have a dictionary as state, from parameters to dictionaries of statistics, got "
            f"{_checks.shown(state)}."
        )
    for i, group in enumerate(groups):
        if "params" in group and not isinstance(group["params"], list | tuple):
            raise TypeError(f"`param_groups[{i}]` must have a list as params, got {_checks.shown(group['params'])}.")
        if not isinstance(group.get("momentum", 0), int | float):
            shown = _checks.shown(group["momentum"])
            raise TypeError(f"`param_groups[{i}]` must have a number as momentum, got {shown}.")
    named = any(isinstance(key, str) for group in groups for key in group.get("params", ()))
    wrong = [key for key in state if not named and not str(key).isdecimal()]
    if wrong:
        raise ValueError(
            f"`state_dict` numbers its parameters in param_groups, and state has {_checks.listed([*map(str, wrong)])}."
        )
    return list(groups)


def named(found: Layout, names: Sequence[str] | Mapping[str, Any] | None, argument: str = "names") -> dict[Any, Any]:
    """Return the name of each key: as the file records it, or as `names` has it, in the optimizer's order.

    A name that contradicts the recorded one is refused. Without either, parameters go by their place: 0, 1, ...
    """
    listed = list(names) if names is not None else found.recorded
    if names is None and None in listed:
        return {key: i for i, key in enumerate(found.keys)}
    if len(listed) != len(found.keys) or len(set(listed)) != len(listed):
        buffers = [name for name in listed if str(name).rpartition(".")[2] in _BUFFERS]
        seen = f" Buffers are no parameters: {', '.join(buffers[:3])}." if buffers else ""
        raise ValueError(
            f"`{argument}` must name the optimizer's {len(found.keys)} parameters, each once and in its order; got "
            f"{len(listed)} names, {len(set(listed))} of them different.{seen} [name for name, _ in "
            "model.named_parameters()] names all that a model trains, model.state_dict() its buffers, too."
        )
    wrong = [pair for pair in zip(found.recorded, listed, strict=True) if pair[0] not in (None, pair[1])]
    if wrong:
        listing = ", ".join(f"{theirs} (`{argument}` has {ours} there)" for theirs, ours in wrong[:3])
        raise ValueError(
            f"`state_dict` records the names of its parameters, and `{argument}` contradicts them: {listing}. Leave "
            "`names` out, and rename in `convert` if need be."
        )
    return dict(zip(found.keys, listed, strict=True))


def written(found: Layout, entries: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a `state_dict` with these statistics, in the form of the one that was read."""
    if found.flat is None:
        return {"state": dict(entries), "param_groups": copy.deepcopy(found.groups)}
    statistics = {f"state.{name}.{field}": x for name, entry in entries.items() for field, x in entry.items()}
    return statistics | {key: copy.deepcopy(x) for key, x in found.flat.items() if key.startswith("param_groups.")}


def _unwrapped(state_dict: Any) -> Mapping[str, Any]:
    """Return the one optimizer of a Lightning checkpoint, or of its list; any other mapping as it is."""
    if isinstance(state_dict, Mapping) and "optimizer_states" in state_dict:
        state_dict = state_dict["optimizer_states"]
    if isinstance(state_dict, list | tuple):
        if len(state_dict) != 1:
            raise ValueError(
                f"`state_dict` is a list of {len(state_dict)} optimizers. Pass one, "
                'checkpoint["optimizer_states"][0] in a Lightning checkpoint.'
            )
        state_dict = state_dict[0]
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"`state_dict` must be a mapping, got {_checks.shown(state_dict)}. Read a file with torch.load(path, "
            'weights_only=True, map_location="cpu").'
        )
    return state_dict


def _is_flat(state_dict: Mapping[str, Any]) -> bool:
    return bool(state_dict) and all(isinstance(key, str) and key.startswith(_PREFIXES) for key in state_dict)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undo the flattening. It forgets the groups: parameters with equal numbers are one again."""
    parts: dict[str, dict[str, dict[str, Any]]] = {"state": {}, "param_groups": {}}
    for key, value in flat.items():
        kind, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        parts[kind].setdefault(name, {})[field] = value
    groups: dict[str, dict[str, Any]] = {}
    for name, numbers in parts["param_groups"].items():
        numbers = {field: x for field, x in numbers.items() if field != "param_names"}
        groups.setdefault(repr(sorted(numbers.items())), numbers | {"params": []})["params"].append(name)
    return {"state": parts["state"], "param_groups": list(groups.values())}
