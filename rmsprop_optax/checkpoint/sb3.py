"""From the zip file of an agent of Stable-Baselines3."""

from __future__ import annotations  # signatures in help() read as written here

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

from rmsprop_optax import _checks
from rmsprop_optax.checkpoint.converting import Convert, check_convert, check_names, numpy_of
from rmsprop_optax.checkpoint.torch import from_torch

__all__ = ["Agent", "from_sb3"]

_FRAMEWORKS = {"RMSprop": "torch", "RMSpropTFLike": "sb3"}


class Agent(NamedTuple):
    """What the file of an agent holds for a run that goes on here."""

    params: Any  #: the policy's weights as `convert` returns them, of NumPy arrays
    moments: dict[str, Any]  #: for `restore`
    framework: str  #: torch or sb3, whose RMSprop it is
    settings: dict[str, Any]  #: its numbers under PyTorch's names, and `max_grad_norm` of the agent


@_checks.keywords
def from_sb3(
    path: str | os.PathLike[str] | IO[bytes],
    convert: Convert = None,
    *,
    names: Sequence[str] | None = None,
    tx: Any = None,
) -> Agent:
    r"""Read weights, moments and settings from the zip file that `agent.save(path)` of Stable-Baselines3 wrote.

    Nothing is unpickled: the class and its arguments are read from the text beside the pickles, and PyTorch, which must
    be installed, reads its own parts with `weights_only=True`.

    Args:
      path: The file.
      convert: A function that converts the policy's weights, a dictionary from names to NumPy arrays, to parameters.
        It is applied to the weights and to each statistic, so it may rename, reshape, transpose, split and join, and
        nothing else. None leaves a dictionary by name.
      names: The names of the optimizer's parameters in its order, if it does not have all of the policy, as DQN's does
        not: `[f"q_net.{name}" for name, _ in agent.policy.q_net.named_parameters()]`.
      tx: The new optimizer, compared with the file as :func:`from_torch` does it. None compares nothing.

    Returns:
      `params`; `moments` for :func:`restore`; `framework`, "torch" for `torch.optim.RMSprop` and "sb3" for
      `RMSpropTFLike`; `settings`, the optimizer's numbers under its own names, and the agent's `max_grad_norm`.

    Raises:
      TypeError: `path` is not one, `convert` not a function, or `names` not a list of strings.
      ValueError: The file is not an agent's; its optimizer is not an RMSprop; and what :func:`from_torch` refuses.
      ImportError: PyTorch is not installed.

    Example:
      >>> from rmsprop_optax import checkpoint
      >>> checkpoint.from_sb3("no_such_agent.zip")
      Traceback (most recent call last):
      FileNotFoundError: [Errno 2] No such file or directory: 'no_such_agent.zip'

    References:
      stable-baselines3 2.9.2, stable_baselines3/common/save_util.py (data_to_json, save_to_zip_file) and
      stable_baselines3/a2c/a2c.py, lines 126-128.
    """
    check_convert(convert)
    check_names(names)
    if not isinstance(path, str | os.PathLike) and not hasattr(path, "seek"):
        raise TypeError(f"`path` must be the path of a file or an open file, got {_checks.shown(path)}.")
    if (hasattr(path, "seek") or os.path.isfile(path)) and not zipfile.is_zipfile(path):
        raise ValueError(
            f"`path` must be the zip file that `agent.save` wrote, got {_checks.shown(path)}, which is not a zip file."
        )
    with zipfile.ZipFile(path) as file:
        missing = [part for part in ("data", "policy.pth", "policy.optimizer.pth") if part not in file.namelist()]
        if missing:
            raise ValueError(
                f"The file at `path` has no {', '.join(missing)}; found {_checks.listed(file.namelist())}. An agent "
                "with several optimizers has a part for each: read that with torch.load, and pass it to from_torch."
            )
        data = json.loads(file.read("data"))
        framework = _framework(data)
        policy, state_dict = (_tensors(file, part) for part in ("policy.pth", "policy.optimizer.pth"))
    weights = _of_optimizer(policy, names, sum(len(group["params"]) for group in state_dict["param_groups"]))
    moments = from_torch(state_dict, convert, names=weights, tx=tx, framework=framework)
    arrays = {name: numpy_of(x) for name, x in weights.items()}
    settings = {key: x for key, x in state_dict["param_groups"][0].items() if key not in ("params", "param_names")}
    settings |= {"max_grad_norm": data["max_grad_norm"]} if "max_grad_norm" in data else {}
    return Agent(arrays if convert is None else convert(arrays), moments, framework, settings)


def _framework(data: Mapping[str, Any]) -> str:
    """Return whose RMSprop the agent has, by the name of its class."""
    known: Any = data.get("policy_kwargs")
    written = str(known.get("optimizer_class", "")) if isinstance(known, Mapping) else ""
    name = written.removesuffix("'>").rpartition(".")[2]
    if name not in _FRAMEWORKS:
        raise ValueError(
            f"The agent's optimizer must be torch.optim.RMSprop or RMSpropTFLike, got {written or 'its default, Adam'}."
        )
    return _FRAMEWORKS[name]


def _tensors(file: zipfile.ZipFile, part: str) -> Any:
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        raise ImportError("from_sb3 needs PyTorch to read its part of the file: pip install torch.") from None
    with file.open(part) as stream:
        return torch.load(stream, weights_only=True, map_location="cpu")


def _of_optimizer(policy: Mapping[str, Any], names: Sequence[str] | None, number: int) -> dict[str, Any]:
    """Return the optimizer's weights in its order: each once, as an extractor that two heads share is in it twice."""
    if names is not None:
        unknown = [name for name in names if name not in policy]
        if unknown:
            raise ValueError(
                f"`names` must be names of the policy's weights; unknown: {', '.join(unknown[:5])}; it has "
                f"{', '.join([*policy][:5])}, ..."
            )
        return {name: policy[name] for name in names}
    weights: dict[str, Any] = {}
    seen = set()
    for name, x in policy.items():
        memory = (x.data_ptr(), x.storage_offset(), x.shape) if x.numel() else name
        if memory not in seen:
            seen.add(memory)
            weights[name] = x
    if len(weights) != number:
        raise ValueError(
            f"The optimizer has {number} parameters and the policy {len(weights)}. Pass `names`, those of the "
            f"optimizer's parameters in its order; the policy has {', '.join([*weights][:5])}, ..."
        )
    return weights
