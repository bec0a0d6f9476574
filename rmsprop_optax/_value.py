"""Let an optimizer compare, hash, pickle and print like the call that made it.

optax's factories return closures, which do none of that. `value` keeps, beside the closures, the call they came from.
Two calls are equal if their arguments are; arguments that do not hash (arrays, trees) compare by identity.
"""

import functools
import inspect
import operator
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec

import jax
import optax

from rmsprop_optax import _checks

_Arguments = ParamSpec("_Arguments")
_Factory = Callable[_Arguments, optax.GradientTransformationExtraArgs]


def value(factory: _Factory[_Arguments]) -> _Factory[_Arguments]:
    """Decorate a factory so that calls with equal arguments return equal optimizers, which hash, pickle and print.

    As static arguments of a jitted function, equal optimizers share one compiled program.
    """
    signature = inspect.signature(factory)

    @functools.wraps(factory)
    def make(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> optax.GradientTransformationExtraArgs:
        _checks.fits(factory.__name__, signature, args, kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        tx = factory(*args, **kwargs)
        call = _Call(make, bound.arguments)
        method = _closure if any(map(_is_traced, jax.tree.leaves(bound.arguments))) else _Method
        return _Value(method(call, "init", tx.init), method(call, "update", tx.update))

    return make


class _Value(optax.GradientTransformationExtraArgs):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        ours, theirs = ([getattr(f, "call", f) for f in tx] if isinstance(tx, _Value) else tx for tx in (self, other))
        return bool(ours == theirs)

    def __hash__(self) -> int:
        return hash(tuple(getattr(f, "call", f) for f in self))

    def __repr__(self) -> str:
        return repr(self.init.call) if hasattr(self.init, "call") else super().__repr__()


class _Call:
    """A factory and the arguments it was called with."""

    def __init__(self, factory: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self.factory, self.arguments = factory, arguments
        self.key = (factory, *(_comparable(argument) for argument in arguments.values()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Call) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={argument!r}" for name, argument in self.arguments.items())
        return f"{self.factory.__name__}({arguments})"


class _Method:
    """`init` or `update` of the transformation that a call makes."""

    def __init__(self, call: _Call, name: str, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.call, self.name, self.function = call, name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.function(*args, **kwargs)
        except TypeError:  # Python's own, if the call doesn't fit the signature
            _fits(self.name, self.function, args, kwargs)
            raise

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Method) and (self.name, self.call) == (other.name, other.call)

    def __hash__(self) -> int:
        return hash((self.name, self.call))

    def __repr__(self) -> str:
        return f"{self.call!r}.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self.call.factory, self.call.arguments, self.name)


def _fits(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    try:
        _checks.fits(name, inspect.signature(function), args, kwargs)
    except TypeError as error:
        raise error from None


def _remake(factory: Callable[..., Any], arguments: dict[str, Any], name: str) -> Any:
    return getattr(_made(factory, arguments), name)


def _made(factory: Any, arguments: Any) -> Any:
    bound = inspect.BoundArguments(inspect.signature(factory), arguments)
    return factory(*bound.args, **bound.kwargs)


def _closure(call: _Call, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `init` or `update` as a function that has traced arguments in a cell of its own.

    Equinox's `closure_to_pytree`, which Optimistix applies, reads and replaces numbers in the cells of functions. In an
    object it would not find them, and a tracer would outlive its trace.
    """
    leaves, treedef = jax.tree.flatten(call.arguments)
    traced = [leaf for leaf in leaves if _is_traced(leaf)]
    rest = _Rest(call, name, function, treedef, [_HOLE if _is_traced(leaf) else leaf for leaf in leaves])

    def method(*args: Any, **kwargs: Any) -> Any:
        return rest.with_traced(traced)(*args, **kwargs)

    method = functools.update_wrapper(method, function)  # and keeps it
    method.call = call  # type: ignore[attr-defined]
    return method


class _Rest:
    """What remains of a method without its traced arguments. It compares and hashes, and keeps no tracer alive."""

    def __init__(self, call: _Call, name: str, function: Any, treedef: Any, leaves: list[Any]) -> None:
        self.call, self.function = weakref.ref(call), weakref.ref(function)
        self.factory, self.name, self.treedef, self.leaves = call.factory, name, treedef, leaves
        self.key = (call.factory, name, treedef, *map(_comparable, leaves))

    def with_traced(self, traced: list[Any]) -> Callable[..., Any]:
        call, function = self.call(), self.function()
        if call is not None and function is not None:
            made_of = filter(_is_traced, jax.tree.leaves(call.arguments))
            if all(map(operator.is_, traced, made_of)):
                return function  # as it was made
        filling = iter(traced)
        leaves = [next(filling) if leaf is _HOLE else leaf for leaf in self.leaves]
        return getattr(_made(inspect.unwrap(self.factory), self.treedef.unflatten(leaves)), self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rest) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


_HOLE = object()


def _is_traced(leaf: Any) -> bool:
    """Say whether an argument is traced, or a method of an optimizer that has one."""
    return isinstance(leaf, jax.core.Tracer) or (
        inspect.isfunction(leaf) and isinstance(getattr(leaf, "call", None), _Call)
    )


def _comparable(argument: Any) -> Any:
    if isinstance(argument, jax.Array):
        return id(argument)
    try:
        hash(argument)
    except TypeError:
        return id(argument)
    return argument
