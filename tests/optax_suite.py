"""optax's own tests of rmsprop, run on ours: a pytest plugin, and the files to name beside it.

    pytest -p optax_suite $(python tests/optax_suite.py)

The plugin puts our function in the place of optax's before the tests are imported, and leaves out other optimizers.
"""

import inspect
import pathlib
import typing

import jax
import optax
from optax._src import alias

FILES = ("_src/alias_test.py", "contrib/_common_test.py", "_src/sharding_test.py", "_src/float64_test.py")


def files():
    """Return the paths of the installed optax's tests that use rmsprop."""
    folder = pathlib.Path(optax.__file__).parent
    return [str(folder / name) for name in FILES]


def only_rmsprop(cases):
    """Keep the cases of rmsprop. What names no optimizer stays whole, and absl wants at least one case."""
    cases = list(cases)
    if not all(isinstance(case, dict) and "opt_name" in case for case in cases):
        return cases
    return [case for case in cases if case["opt_name"] == "rmsprop"] or cases[:1]


class Version(str):
    """A release, compared by its numbers: optax's tests compare texts, and skip what 0.10 can do and 0.7 could."""

    def __lt__(self, other):
        return [int(x) for x in self.split(".")] < [int(x) for x in other.split(".")]


def of_another(item):
    """Return whether a test is of another optimizer."""
    if any(f"{kind}Test::" in item.nodeid for kind in ("Sharding", "Float64", "LBFGS")):
        return not item.nodeid.endswith("rmsprop")
    numbers = getattr(item.function, "__x_params_repr__", "")
    return "opt_name" in numbers and "rmsprop" not in numbers


def pytest_configure(config):
    from absl.testing import parameterized

    from rmsprop_optax import rmsprop

    optax.rmsprop = alias.rmsprop = rmsprop
    inspect.unwrap(rmsprop).__annotations__ |= typing.get_type_hints(rmsprop)  # texts, and a test wants the types
    jax.__version__ = Version(jax.__version__)
    product = parameterized.product
    parameterized.product = lambda *cases, **grid: product(*map(only_rmsprop, cases), **grid)


def pytest_collection_modifyitems(config, items):
    """Deselect the cases that name another optimizer."""
    others = [item for item in items if of_another(item)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


if __name__ == "__main__":
    print(" ".join(files()))
