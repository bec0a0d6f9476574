"""Let an optimizer compare, hash, pickle and print like the call that made it.

optax's factories return closures, which do none of that. `value` keeps, beside the closures, the call they came from.
Two calls are equal if their arguments are; arguments that do not hash (arrays, trees) compare by identity.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

import jax
import optax

_Arguments = ParamSpec("_Arguments")
_Factory = Callable[_Arguments, optax.GradientTransformationExtraArgs]


def value(factory: _Factory[_Arguments]) -> _Factory[_Arguments]:
    """Decorate a factory so that calls with equal arguments return equal optimizers, which hash, pickle and print.

    As static arguments of a jitted function, equal optimizers share one compiled program.
    """
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def make(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> optax.GradientTransformationExtraArgs:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            known = ", ".join(signature.parameters)
            raise TypeError(f"{factory.__name__}: {error}. Its arguments are {known}.") from None
        bound.apply_defaults()
        tx = factory(*args, **kwargs)
        call = _Call(make, bound.arguments)
        return _Value(_Method(call, "init", tx.init), _Method(call, "update", tx.update))

    return make


class _Value(optax.GradientTransformationExtraArgs):
    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.init.call) if isinstance(self.init, _Method) else super().__repr__()


class _Call:
    """A factory and the arguments it was called with."""

    def __init__(self, factory: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.factory, self.arguments = factory, arguments
        self.key = (factory, *(_comparable(argument) for argument in arguments.values()))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={argument!r}" for name, argument in self.arguments.items())
        return f"{self.factory.__name__}({arguments})"


class _Method:
    """`init` or `update` of the transformation that a call makes."""

    def __init__(self, call: _Call, name: str, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.call, self.name, self.function = call, name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Method) and (self.name, self.call.key) == (other.name, other.call.key)

    def __hash__(self) -> int:
        return hash((self.name, self.call.key))

    def __repr__(self) -> str:
        return f"{self.call!r}.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.call.factory, self.call.arguments, self.name)


def _remake(factory: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    return getattr(factory(**arguments), name)


def _comparable(argument: Any) -> Any:
    if isinstance(argument, jax.Array):
        return id(argument)
    try:
        hash(argument)
    except TypeError:
        return id(argument)
    return argument
