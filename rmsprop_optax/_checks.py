"""What is refused, and the sentence that says so.

Numbers and switches are checked where an optimizer is built, trees where it is traced. The message names the argument
or the leaf's path, what was expected, what came, and what to do. All of it is plain Python, which nothing switches off.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Class = TypeVar("_Class")

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def number(name: str, value: Any, *, below: float | None = None, signed: bool = False, hint: str = "") -> Any:
    """Return a hyperparameter as a float or a floating-point scalar array, or refuse it.

    The range, [0, below) or [0, inf), or with `signed` what is finite, is checked on Python and NumPy scalars; a
    `jax.Array` may be traced, so only its shape and dtype are. NumPy scalars become Python floats: no kind of number
    changes a dtype later.
    """
    interval = "(-inf, inf)" if signed else f"[0, {'inf' if below is None else below})"
    expected = f"`{name}` must be a number in {interval}"
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        if value.shape != ():
            raise ValueError(f"{expected}, got shape {value.shape}. For values per leaf use optax.partition.")
        if jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4:
            raise TypeError(
                f"{expected} in float32 or better, got {value.dtype}, where 0.999 may be 1 and 1e-8 may be 0. "
                "Under optax.inject_hyperparams pass hyperparam_dtype=jnp.float32."
            )
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
            return value
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer):
            return value.astype(jnp.float32)
        if isinstance(value, jax.Array):
            raise TypeError(f"{expected}, got dtype {value.dtype}.{hint}")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        if callable(value) and not hint:
            hint = " For a schedule wrap the optimizer's factory in optax.inject_hyperparams."
        if is_torch(value):
            hint = " Convert it: tensor.item()."
        raise TypeError(f"{expected}, got {shown(value)}.{hint}")
    least = -_FLOAT32_MAX if signed else 0
    if not (least <= value <= _FLOAT32_MAX and (below is None or value < below)):  # nan fails too
        if below is None and (_FLOAT32_MAX < value < float("inf") or (signed and float("-inf") < value < least)):
            expected = f"`{name}` must be a number that float32 holds, at most 3.4e38"
        raise ValueError(f"{expected}, got {shown(value)}.{hint}")
    return float(value)


def negative(value: Any) -> bool:
    """Say whether a number is known to be negative: one that is traced is not known."""
    return not isinstance(value, jax.core.Tracer) and bool(value < 0)


def switch(name: str, value: Any) -> bool:
    """Return a switch, or refuse what only looks like one."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"`{name}` must be True or False, got {shown(value)}. It decides structure, so it can't be traced."
        )
    return bool(value)


def one_of(name: str, choice: Any, known: Sequence[str]) -> None:
    """Refuse what is not among the known words."""
    if not isinstance(choice, str) or choice not in known:
        close = nearest(choice, known)
        way = f" Did you mean {close!r}?" if close else ""
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, known))}, got {shown(choice)}.{way}")


def positive(name: str, value: Any, *, hint: str = "") -> Any:
    """Return a number as `number` does, or refuse a Python 0, too."""
    value = number(name, value, hint=hint)
    if isinstance(value, float) and value == 0:
        raise ValueError(f"`{name}` must be above 0, got 0.{hint}")
    return value


def transformation(name: str, tx: Any) -> None:
    """Refuse what has no `init` and `update`."""
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        way = " Call it: pass what it returns." if callable(tx) else ""
        raise TypeError(f"`{name}` must be an optax transformation, got {shown(tx)}.{way}")


def parameters(params: Any) -> None:
    """Refuse what is not a tree of floating-point or complex arrays, and a state or a transformation in its place."""
    found: list[str] = []

    def note(node):
        name = type(node).__name__
        if type(node).__module__.partition(".")[0] in ("optax", "rmsprop_optax") and isinstance(node, tuple):
            found.extend([name] if name.endswith("State") else ["a transformation"] if hasattr(node, "init") else [])
        return bool(found)

    jax.tree.leaves(params, is_leaf=note)
    if found:
        raise TypeError(
            f"`params` must be a tree of parameters, got an optimizer's part: {found[0]}. Pass the model's."
        )
    inexact("params", params)


def inexact(name: str, tree: Any) -> None:
    """Refuse leaves that are not floating-point or complex arrays."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, bool | int | float | complex):
            dtype = jnp.result_type(leaf)
        if is_torch(leaf):
            raise TypeError(
                f"`{name}` at {leaf_name(path)} must be an array of JAX or NumPy, got a PyTorch tensor, {dtype}. "
                "Convert it: jnp.asarray(tensor.detach().numpy())."
            )
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"`{name}` at {leaf_name(path)} must be a floating-point or complex array, got {dtype or shown(leaf)}. "
                "Cast it, or leave it out with optax.masked, optax.partition or your framework's filter."
            )


def like(name: str, tree: Any, reference_name: str, reference: Any) -> None:
    """Refuse a tree that differs from the reference in structure, shape or realness. Its leaves may be None."""
    structure: Any  # jaxlib's stub of it has no methods
    ours, structure = jax.tree.flatten(tree, is_leaf=_is_none)
    theirs, reference_structure = jax.tree.flatten(reference, is_leaf=_is_none)
    fits = structure == reference_structure and all(
        a is None or np.shape(a) == np.shape(b) for a, b in zip(ours, theirs, strict=True)
    )
    if not fits:
        raise ValueError(_difference(name, tree, reference_name, reference))


def same_kind(name: str, tree: Any, params: Any) -> None:
    """Refuse complex leaves for real parameters, and real ones for complex parameters."""
    paths = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_none)
    for (path, leaf), param in zip(paths, jax.tree.leaves(params, is_leaf=_is_none), strict=True):
        if leaf is not None and jnp.iscomplexobj(leaf) != jnp.iscomplexobj(param):
            raise TypeError(
                f"`{name}` at {leaf_name(path)} is {leaf.dtype}, but the parameter is {param.dtype}: an imaginary part "
                "would be lost or made up. Take the real part, or make the parameter complex."
            )


def moments(name: str, tree: Any) -> None:
    """Refuse a moment that is not kept in float32 or better."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.inexact) or jnp.finfo(dtype).bits < 32:
            raise TypeError(
                f"`{name}` at {leaf_name(path)} must be float32 or better, got {dtype}. Moments keep the dtype that "
                "`init` gave them: first cast what was restored, or decode what was compressed, with "
                "`compression.decompress`."
            )


def shown(value: Any) -> str:
    """Write a value in a message: a large one is cut."""
    if is_torch(value):
        return f"a PyTorch tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray | jax.Array):
        return f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, dict | list | tuple) and len(jax.tree.leaves(value)) > 8:
        return f"a {type(value).__name__} of {len(jax.tree.leaves(value))} leaves"
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def is_torch(value: Any) -> bool:
    """Say whether a value is a PyTorch tensor, without importing PyTorch."""
    return type(getattr(value, "dtype", None)).__module__.partition(".")[0] == "torch"


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """Return the known name that another one most likely stands for: a synonym or a misspelling."""
    known = list(known)
    for synonyms in _SYNONYMS if isinstance(name, str) else ():
        if name.lower() in synonyms:
            for synonym in synonyms:
                if synonym in known and synonym != name:
                    return synonym
    return next(iter(difflib.get_close_matches(str(name), known, 1)), None)


_SYNONYMS = (
    ("learning_rate", "learning_rates", "lr", "rate", "step_size", "eta", "lrate"),
    ("rho", "alpha", "decay", "beta", "beta2", "b2", "smoothing", "decay_rate", "gamma1"),
    ("eps", "epsilon", "eps_root"),
    ("momentum", "mu", "beta1", "b1", "mom"),
    ("weight_decay", "wd", "l2", "weight_decay_rate"),
    ("weight_decay_mask", "mask", "wd_mask"),
    ("clipnorm", "clip_norm", "max_norm", "max_grad_norm"),
    ("global_clipnorm", "clipnorm", "clip_norm", "max_norm", "max_grad_norm"),
    ("clipvalue", "clip_value"),
    ("torch", "pytorch", "torch.optim"),
    ("tf1", "tensorflow", "tf", "tensorflow1"),
    ("keras", "keras3", "tf_keras", "tf2", "tensorflow2"),
    ("sb3", "stable_baselines3", "stable-baselines3"),
    ("optax", "jax", "flax", "haiku"),
    ("mxnet", "gluon"),
)


class Known(dict[str, Any]):
    """A dictionary that says which names it knows when it is asked for another one."""

    def __init__(self, kind: str, known: Mapping[str, Any]) -> None:
        super().__init__(known)
        self.kind = kind

    def __missing__(self, name: Any) -> Any:
        close = nearest(name, self)
        way = f" Did you mean {close!r}?" if close else ""
        raise KeyError(f"`{self.kind}` must be one of {', '.join(self)}, got {shown(name)}.{way}")


def fits(name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call that does not fit a signature, and say which argument was meant, is missing or is too many."""
    known = signature.parameters
    passed = [p.name for p in known.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    kinds = {p.kind for p in known.values()}
    their = f"Its arguments are {', '.join(p for p in known if p != 'self')}."
    for keyword in kwargs:
        if keyword not in known and inspect.Parameter.VAR_KEYWORD not in kinds:
            meant = nearest(keyword, [p for p in known if p not in kwargs and p not in passed[: len(args)]])
            way = f" Did you mean `{meant}`?" if meant else ""
            raise TypeError(f"{name} has no argument `{keyword}`.{way} {their}")
        if keyword in passed[: len(args)]:
            raise TypeError(f"{name} was given `{keyword}` twice, by place and by name. Leave one out. {their}")
    if len(args) > len(passed) and inspect.Parameter.VAR_POSITIONAL not in kinds:
        more = f"; pass the rest by name: {', '.join(p for p in known if p not in passed)}"
        raise TypeError(
            f"{name} takes at most {len(passed)} arguments by place, `{'`, `'.join(passed)}`, got {len(args)}"
            f"{more if len(known) > len(passed) else ''}."
        )
    for parameter in known.values():
        given = parameter.name in kwargs or parameter.name in passed[: len(args)]
        several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not given and not several:
            raise TypeError(f"{name} needs `{parameter.name}`. {their}")


def call(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a public function, so that a call that does not fit its signature is refused as `fits` does."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        fits(function.__qualname__.removesuffix(".__init__"), signature, args, kwargs)
        return function(*args, **kwargs)

    return checked


def init(cls: type[_Class]) -> type[_Class]:
    """Decorate a public class as `call` does a function."""
    cls.__init__ = call(cls.__init__)  # type: ignore[method-assign]
    return cls


def leaf_name(path: Any) -> str:
    """Write the path of a leaf as `layer/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/") or "its root"


def no_prefix(name: str, tree: Any, reference: Any) -> str:
    """Say where a tree that must be a prefix of the parameters leaves them."""
    ours, theirs = _by_path(tree), _by_path(reference)
    above = lambda path, paths: any(p == path or f"{p}/".startswith(f"{path}/") for p in paths)  # noqa: E731
    extra = [p for p in ours if p != "its root" and not above(p, theirs)]
    missing = [p for p in theirs if not any(above(flag, [p]) for flag in ours)]
    lists = {"missing": missing, "unexpected": extra}
    found = "; ".join(f"{word}: {_some(paths)}" for word, paths in lists.items() if paths)
    return (
        f"`{name}` must fit the parameters or be a prefix of them; {found or _containers(tree, reference)}. Build it "
        "from them: jax.tree.map(lambda p: p.ndim > 1, params)."
    )


def _difference(name: str, tree: Any, reference_name: str, reference: Any) -> str:
    ours, theirs = _by_path(tree), _by_path(reference)
    extra = [path for path in ours if path not in theirs or (theirs[path] is None and ours[path] is not None)]
    lists = {"missing": [path for path in theirs if path not in ours], "unexpected": extra}
    if any(lists.values()):
        found = "; ".join(f"{word}: {_some(paths)}" for word, paths in lists.items() if paths)
        return f"`{name}` must have the structure of `{reference_name}`; {found}."
    for path, leaf in ours.items():
        if leaf is not None and np.shape(leaf) != np.shape(theirs[path]):
            return (
                f"`{name}` at {path} has shape {np.shape(leaf)}, but `{reference_name}` there has shape "
                f"{np.shape(theirs[path])}. Nothing is broadcast: reduce or reshape it first."
            )
    return f"`{name}` must have the structure of `{reference_name}`: the leaves agree, {_containers(tree, reference)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(name if len(name) <= 100 else f"...{name[-97:]}" for name in names[:5]) + more


def _containers(tree: Any, reference: Any, path: Any = ()) -> str:
    """Say where two trees of the same leaves first differ in their containers, and return "" where they don't."""
    ours, theirs = type(tree).__name__, type(reference).__name__
    if jax.tree_util.all_leaves([tree], _is_none) and jax.tree_util.all_leaves([reference], _is_none):
        return ""
    if type(tree) is type(reference):
        structure: Any  # jaxlib's stub of it has no methods
        at_once = lambda node: jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda n: n is not node)  # noqa: E731
        (below, structure), (below_reference, structure_of_reference) = at_once(tree), at_once(reference)
        for (key, a), (_, b) in zip(below, below_reference, strict=True):
            if said := _containers(a, b, path + key):
                return said
        if structure == structure_of_reference:
            return ""
        theirs = f"{theirs} with the same settings"
    return f"their containers do not: at {leaf_name(path)} a {theirs} was expected, got a {ours}. Rebuild it as such."


def _by_path(tree: Any) -> dict[str, Any]:
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_none)}


def _is_none(leaf: Any) -> bool:
    return leaf is None
