"""The layouts in which Keras 3 and tf_keras keep the variables of an optimizer: by path, or by number."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint.converting import numpy_of

__all__ = ["Layout", "check_config", "inner_config", "layout"]

SLOTS = {"nu": "velocity", "trace": "momentum", "mu": "average_gradient"}  # in the order in which Keras makes them
EXTRAS = {
    "average": "averages of the weights (use_ema)",
    "gradient_accumulator": "accumulated gradients (gradient_accumulation_steps)",
}  # made before the slots, in this order
LOSS_SCALE = ("step_counter", "dynamic_scale")
_HEADER = ("iteration", "learning_rate")
_WORDS = "|".join((*SLOTS.values(), *EXTRAS))
_KERAS_3 = re.compile(rf"(?:.*/)?([^/]+?)_({_WORDS})")  # rm_sprop/dense_kernel_velocity
_TF_KERAS = re.compile(rf"(?:[^/]+/)?({_WORDS})/(.+)")  # RMSprop/velocity/dense/kernel:0
_CONFIG = ("rho", "momentum", "epsilon", "centered", "learning_rate", "use_ema", "gradient_accumulation_steps")
_OTHERS = "They are another optimizer's, or of other weights, or the file is not whole."


class Layout(NamedTuple):
    """The variables of an RMSprop of Keras."""

    iteration: np.ndarray
    learning_rate: np.ndarray | None  # None with a LearningRateSchedule, and in tf_keras
    moments: dict[str, dict[str, np.ndarray]]  # from nu, trace, mu to arrays by the name of the weight
    extras: list[str]  # what else there is, in words


def layout(variables: Any, names: list[str], config: Mapping[str, Any] | None) -> Layout:
    """Describe the variables: by their paths if they have any, otherwise by their place as `config` tells it."""
    variables, scaled = _inside(variables)
    if not isinstance(variables, Mapping):
        found = _by_place([numpy_of(x) for x in variables], names, config)
    elif all(re.fullmatch(r"\d+", str(key)) for key in variables):
        keys = sorted(variables, key=int)
        if [int(key) for key in keys] != list(range(len(keys))):
            raise ValueError(f"`variables` must be numbered 0, 1, ..., got {', '.join(map(str, keys))}.")
        found = _by_place([numpy_of(variables[key]) for key in keys], names, config)
    else:
        found = _by_path({str(path): numpy_of(x) for path, x in variables.items()}, names)
    return found._replace(extras=[*found.extras, *(["the loss scale"] if scaled else [])])


def _inside(variables: Any) -> tuple[Any, bool]:
    """Return the variables in a file that h5py opened, and whether those of a LossScaleOptimizer are left behind."""
    if isinstance(variables, str | bytes) or not isinstance(variables, Mapping | Sequence):
        raise TypeError(
            f"`variables` must be a mapping or a sequence of arrays, got {_checks.shown(variables)}. Open a file with "
            "h5py and pass that."
        )
    scaled = False
    for group in ("optimizer_weights", "optimizer", "inner_optimizer", "vars"):
        if isinstance(variables, Mapping) and isinstance(variables.get(group), Mapping):
            scaled |= group == "inner_optimizer"
            variables = variables[group]
    attributes = getattr(variables, "attrs", {})
    listed = [attributes[key] for key in sorted(attributes, key=len) if re.fullmatch(r"weight_names\d*", key)]
    if listed:  # a legacy .h5: the order is in the attribute, in several if it is long
        paths = [path.decode() if isinstance(path, bytes) else str(path) for part in listed for path in part]
        variables = {path: variables[path][()] for path in paths}
    return variables, scaled


def _by_path(variables: Mapping[str, np.ndarray], names: list[str]) -> Layout:
    """Read each variable by what its path says that it is."""
    paths = {path: path.removesuffix(":0") for path in variables}
    last = {path: short.rpartition("/")[2] for path, short in paths.items()}
    of_scale = {path.rpartition("/")[0] for path in paths if last[path] == "dynamic_scale"}
    own = [path for path in paths if path.rpartition("/")[0] not in of_scale]
    header = {role: [path for path in own if last[path] == role] for role in _HEADER}
    rest = [path for path in own if last[path] not in (*_HEADER, *LOSS_SCALE)]
    parsed = _parsed(rest, paths)
    if parsed is None or len(header["iteration"]) != 1 or len(header["learning_rate"]) > 1:
        raise ValueError(
            "`variables` must be iteration, learning_rate if it is not a schedule, and velocity, momentum and "
            f"average_gradient of each weight; got {', '.join([*variables][:4])}. {_OTHERS}"
        )
    _check_order({path: slot for path, (slot, _) in parsed.items()})
    trees: dict[str, dict[str, np.ndarray]] = {}
    for path, (slot, weight) in parsed.items():
        trees.setdefault(slot, {})[weight] = variables[path]
    moments = {field: _matched(trees[slot], names, slot) for field, slot in SLOTS.items() if slot in trees}
    if "nu" not in moments:
        raise ValueError(f"`variables` have no velocity. {_OTHERS}")
    rate = header["learning_rate"]
    extras = [words for slot, words in EXTRAS.items() if slot in trees] + (["the loss scale"] if of_scale else [])
    return Layout(variables[header["iteration"][0]], variables[rate[0]] if rate else None, moments, extras)


def _parsed(rest: list[str], paths: Mapping[str, str]) -> dict[str, tuple[str, str]] | None:
    """Return what each variable is, and of which weight: in the manner of Keras 3, or of tf_keras."""
    new = {path: _KERAS_3.fullmatch(paths[path]) for path in rest}
    if all(new.values()):
        return {path: (found[2], found[1]) for path, found in new.items() if found}
    old = {path: _TF_KERAS.fullmatch(paths[path]) for path in rest}
    if all(old.values()):
        return {path: (found[1], found[2].replace("/", "_")) for path, found in old.items() if found}
    return None


def _check_order(slots: dict[str, str]) -> None:
    """Refuse Adam, which has the same two names in the reverse order, and what has been sorted."""
    of_moments = {path: slot for path, slot in slots.items() if slot in SLOTS.values()}
    expected = sorted(of_moments.values(), key=[*SLOTS.values()].index)
    for (path, slot), wanted in zip(of_moments.items(), expected, strict=True):
        if slot != wanted:
            raise ValueError(
                f"`variables` must be in Keras' order: expected one that ends in {wanted}, got {path}. They are "
                "another optimizer's, or have been sorted."
            )


def _matched(tree: dict[str, np.ndarray], names: list[str], slot: str) -> dict[str, np.ndarray]:
    """Return the arrays by the given names, in which a slash is an underscore."""
    short = {name: name.removesuffix(":0").replace("/", "_") for name in names}
    if set(short.values()) == set(tree) and len(set(short.values())) == len(names):
        return {name: tree[short[name]] for name in names}
    if len(names) == len(tree) == 1:
        return dict(zip(names, tree.values(), strict=True))
    raise ValueError(
        f"`names` must be the paths of the {len(tree)} weights with a {slot}, {', '.join([*tree][:5])} with a "
        f"slash for some underscores, got {', '.join(names[:5])}. They are [v.path for v in "
        "model.trainable_variables]: rename in `convert`."
    )


def _by_place(listed: list[np.ndarray], names: list[str], config: Mapping[str, Any] | None) -> Layout:
    """Read variables by their place, where there is just one way to do so."""
    config = config if config is None else inner_config(config)
    fields, extras = _blocks(config)
    n, blocks = len(names), len(fields) + len(extras)
    first = len(listed) - blocks * n
    header = {1: "i", 2: "if", 5: "ififi", 6: "ififif"}.get(first, "")  # a LossScaleOptimizer has four more
    scalars = [x for x in listed[:first] if x.shape == ()] if header else []
    if config is None and len(listed) > 2 + n and len(listed) - 2 * n >= 1:
        raise ValueError(
            "`variables` are more than one for each weight in `names`, and nothing in them says which: momentum, "
            "average gradient, averages of the weights or accumulated gradients. Pass `config`, optimizer.get_config()."
        )
    fits = len(scalars) == first and [x.dtype.kind for x in scalars] == [*header]
    scheduled = isinstance((config or {}).get("learning_rate"), Mapping)
    if fits and scheduled != (first in (1, 5)):  # a float is the learning rate, unless there can't be one
        fits = first in (1, 5) and listed[first].shape != ()
    if not header or not fits or len(set(names)) != n or n == 0:
        slots = ", ".join((*extras, *(SLOTS[field] for field in fields)))
        raise ValueError(
            f"`variables` must be iteration, learning_rate unless it is a schedule, and {slots} of each of {n} "
            f"different `names`: {2 + blocks * n} arrays, got {len(listed)}. {_OTHERS}"
        )
    arrays = [dict(zip(names, listed[first + k * n : first + (k + 1) * n], strict=True)) for k in range(blocks)]
    moments = dict(zip(fields, arrays[len(extras) :], strict=True))
    words = [EXTRAS[slot] for slot in extras] + (["the loss scale"] if first > 2 else [])
    own = scalars[4:] or scalars
    return Layout(own[0], own[1] if len(own) > 1 else None, moments, words)


def check_config(config: Any) -> None:
    """Refuse what is not the configuration of an RMSprop, and entries in it that should be numbers and are not."""
    if config is None:
        return
    if not isinstance(config, Mapping):
        raise TypeError(f"`config` must be what optimizer.get_config() returns, got {_checks.shown(config)}.")
    config = inner_config(config)
    if "name" in config and "rho" not in config:
        raise ValueError(f"`config` must be that of an RMSprop, got that of {config['name']}, which has no `rho`.")
    if config and not set(config) & {*_CONFIG}:
        raise ValueError(
            f"`config` must be that of an RMSprop, with {', '.join(_CONFIG)}, got "
            f"{_checks.listed([*map(str, config)])}. Pass optimizer.get_config()."
        )
    for key, least in (("momentum", 0), ("rho", 0), ("gradient_accumulation_steps", 1)):
        number = config.get(key)
        whole = key != "gradient_accumulation_steps" or isinstance(number, int)
        if number is not None and not (isinstance(number, int | float) and whole and number >= least):
            kind = "a number" if least == 0 else "a whole number"
            raise ValueError(f"`config` must have {kind} from {least} as {key}, got {_checks.shown(number)}.")


def inner_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the configuration of the optimizer in a LossScaleOptimizer, or its own."""
    inner = config.get("inner_optimizer")
    return inner.get("config", {}) if isinstance(inner, Mapping) else config


def _blocks(config: Mapping[str, Any] | None) -> tuple[list[str], list[str]]:
    """Return the moments and the other blocks that an optimizer with this configuration keeps."""
    config = config or {}
    momentum = config.get("momentum") or 0
    switches = {"nu": True, "trace": not isinstance(momentum, int | float) or momentum > 0}
    switches["mu"] = bool(config.get("centered"))
    present = {"average": config.get("use_ema"), "gradient_accumulator": config.get("gradient_accumulation_steps")}
    return [field for field in SLOTS if switches[field]], [slot for slot in EXTRAS if present[slot]]
