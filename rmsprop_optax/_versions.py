"""Versions of jax, jaxlib, optax and chex that are too old are refused at import, with the command that helps.

pip never installs them with this package, but it lets a later command bring them. They are looked up before any of
these packages is imported, because an old optax fails on a new jax with an error of its own. A package whose version
is unknown is not refused.
"""

import importlib.metadata
import re

_OLDEST = {"jax": "0.7.0", "jaxlib": "0.7.0", "optax": "0.2.6", "chex": "0.1.91"}  # those of pyproject.toml


def _numbers(version: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a release. A release candidate or nightly build has those of the release to come."""
    found = re.match(r"\d+(\.\d+)*", version or "")
    return tuple(map(int, found[0].split("."))) if found else None


def _refuse_old() -> None:
    old = {}
    for name, oldest in _OLDEST.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found, needed = _numbers(version), _numbers(oldest)
        if found is not None and needed is not None and found + (0,) * len(needed) < needed:
            old[name] = version
    if old:
        needs = ", ".join(f"{name} {_OLDEST[name]} or later (found {version})" for name, version in old.items())
        newer = " ".join(f'"{name}>={_OLDEST[name]}"' for name in old)
        gpu = " With a GPU or TPU, install jax with its extra, such as jax[cuda12]." if "jax" in old else ""
        raise ImportError(f"rmsprop_optax needs {needs}. Run: python -m pip install --upgrade {newer}.{gpu}")


_refuse_old()
