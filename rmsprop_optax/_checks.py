"""What is refused, and the sentence that says so.

Numbers and switches are checked where an optimizer is built, trees where it is traced. The message names the argument
or the leaf's path, what was expected, what came, and what to do. All of it is plain Python, which nothing switches off.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    """Print a value for a message if that is short; otherwise say what it is, and what a tree has."""
    if isinstance(value, jax.core.Tracer):
        return f"a traced array of shape {value.shape}, {value.dtype}"
    if hasattr(value, "shape") and hasattr(value, "dtype") and np.shape(value) != ():
        kind = "a PyTorch tensor" if is_torch(value) else f"a {type(value).__name__}"
        return f"{kind} of shape {tuple(value.shape)}, {value.dtype}"
    few = not isinstance(value, dict | list | tuple | set) or len(jax.tree.leaves(value, is_leaf=_is_none)) <= 8
    text = repr(value) if few else ""
    if text and len(text) <= 120 and "\n" not in text:
        return text
    paths = [] if isinstance(value, set) else [path for path in _by_path(value) if path != leaf_name(())]
    return f"a {type(value).__name__}{f' with {listed(paths)}' if paths else ''}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """List the first names for a message, and say how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name if len(name) <= 80 else f"{name[:77]}..." for name in names[:most]) + more


def containers(tree: Any, reference: Any, path: tuple[Any, ...] = ()) -> str:
    """Say where the containers of two trees with the same leaves first differ."""
    one_level = [
        jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda child, node=node: child is not node)
        for node in (tree, reference)
    ]
    if type(tree) is type(reference) and len(one_level[0]) == len(one_level[1]):
        for (step, ours), (_, theirs) in zip(*one_level, strict=True):
            if step and (found := containers(ours, theirs, (*path, *step))):
                return found
        return "" if path else "they hold other constants"
    return f"expected {_kind(reference)} at {leaf_name(path)}, got {_kind(tree)}"


def _kind(node: Any) -> str:
    """Name the class of a node."""
    return f"a {type(node).__module__.removeprefix('builtins')}.{type(node).__name__}".replace(" .", " ")


def is_torch(value: Any) -> bool:
    """Say whether a value is a PyTorch tensor, without importing PyTorch."""
    return any(type(x).__module__.partition(".")[0] == "torch" for x in (value, getattr(value, "dtype", None)))


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
    ("learning_rate", "learning_rates", "lr", "lrs", "rates", "rate", "step_size", "eta", "lrate"),
    ("rho", "alpha", "decay", "beta", "beta2", "b2", "smoothing", "decay_rate", "gamma1"),
    ("eps", "epsilon", "eps_root"),
    ("momentum", "mu", "beta1", "b1", "mom"),
    ("weight_decay", "wd", "l2", "weight_decay_rate"),
    ("weight_decay_mask", "mask", "wd_mask"),
    ("clipnorm", "clip_norm", "max_norm", "max_grad_norm"),
    ("global_clipnorm", "clipnorm", "clip_norm", "max_norm", "max_grad_norm"),
    ("gradients", "grads", "updates"),
    ("tx", "optimizer", "transformation"),
    ("params", "parameters"),
    ("function", "fn"),
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


def keywords(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a function so that arguments that are missing, misspelt or too many are answered by name."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        fits(function.__qualname__.removesuffix(".__init__"), signature, args, kwargs)
        return function(*args, **kwargs)

    return call


def fits(name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call that does not fit a signature."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        raise TypeError(_misnamed(name, signature, args, kwargs)) from None


def _misnamed(name: str, signature: inspect.Signature, args: Sequence[Any], given: Collection[str]) -> str:
    """Say which arguments of a call are wrong, and suggest the right ones."""
    every = [x for x in signature.parameters.values() if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)]
    if every and every[0].name == "self":
        every, args = every[1:], args[1:]
    known, ordered = [x.name for x in every], [x.name for x in every if x.kind != x.KEYWORD_ONLY]
    its = f"Its arguments are {', '.join(known)}." if known else "It has none."
    taken, twice = ordered[: len(args)], [word for word in ordered[: len(args)] if word in given]
    free = any(x.kind == x.VAR_KEYWORD for x in signature.parameters.values())
    for wrong in (word for word in given if word not in known and not free):
        near = nearest(wrong, [word for word in known if word not in given and word not in taken])
        meant = f" Did you mean `{near}`?" if near else ""
        return f"`{name}` has no argument `{wrong}`.{meant} {its}"
    if twice:
        return f"`{name}` got `{twice[0]}` by position and by name. {its}"
    if len(args) > len(ordered):
        return f"`{name}` takes {len(ordered)} by position, got {len(args)}: pass others by name. {its}"
    needed = [x.name for x in every if x.default is x.empty and x.name not in given and x.name not in taken]
    return f"`{name}` needs {' and '.join(f'`{word}`' for word in needed)}. {its}"


def init(cls: type[_Class]) -> type[_Class]:
    """Decorate a public class as `keywords` does a function."""
    cls.__init__ = keywords(cls.__init__)  # type: ignore[method-assign]
    return cls


def state(name: str, value: Any) -> None:
    """Refuse a transformation or a function in the place of a state; `name` is a phrase."""
    is_transformation = hasattr(value, "init") and hasattr(value, "update")
    if is_transformation or (callable(value) and jax.tree_util.all_leaves([value])):
        what = "a transformation" if is_transformation else shown(value)
        raise TypeError(f"{name} must be a state, got {what}. Pass what `init` or the last `update` returned.")


def arrays(name: str, tree: Any, *, shapes: bool = True, empty: bool = True) -> None:
    """Refuse a tree with leaves that are not arrays, a state, and with `empty=False` a tree without leaves.

    With `shapes`, a `jax.ShapeDtypeStruct` is an array, too.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_state)
    for path, leaf in leaves:
        where = f"`{name}` at {leaf_name(path)} must be an array of JAX or NumPy"
        if _is_state(leaf):
            what = "transformation" if hasattr(leaf, "init") else f"state, {type(leaf).__name__}"
            raise TypeError(f"{where}, got a {what}. Arguments may have been exchanged.")
        if is_torch(leaf):
            raise TypeError(f"{where}, got {shown(leaf)}. Convert it: jnp.asarray(tensor.detach().numpy()).")
        if isinstance(leaf, bool | int | float | complex):
            continue
        dtype = getattr(leaf, "dtype", None) if hasattr(leaf, "shape") else None
        if dtype is None or getattr(dtype, "kind", "f") in "OUSmM":
            raise TypeError(f"{where}, got {shown(leaf)}.")
        if not shapes and isinstance(leaf, jax.ShapeDtypeStruct):
            raise TypeError(
                f"{where} with values, got the shape {leaf.shape} alone. Outside of jax.eval_shape, make it."
            )
    if not leaves and not empty:
        raise ValueError(f"`{name}` must have at least one leaf, got {shown(tree)}.")


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
    found = "; ".join(f"{word}: {listed(paths)}" for word, paths in lists.items() if paths)
    return (
        f"`{name}` must fit the parameters or be a prefix of them; {found or containers(tree, reference)}. Build it "
        "from them: jax.tree.map(lambda p: p.ndim > 1, params)."
    )


def _difference(name: str, tree: Any, reference_name: str, reference: Any) -> str:
    ours, theirs = _by_path(tree), _by_path(reference)
    extra = [path for path in ours if path not in theirs or (theirs[path] is None and ours[path] is not None)]
    lists = {"missing": [path for path in theirs if path not in ours], "unexpected": extra}
    if any(lists.values()):
        found = "; ".join(f"{word}: {listed(paths)}" for word, paths in lists.items() if paths)
        return f"`{name}` must have the structure of `{reference_name}`; {found}."
    for path, leaf in ours.items():
        if leaf is not None and np.shape(leaf) != np.shape(theirs[path]):
            return (
                f"`{name}` at {path} has shape {np.shape(leaf)}, but `{reference_name}` there has shape "
                f"{np.shape(theirs[path])}. Nothing is broadcast: reduce or reshape it first."
            )
    return (
        f"`{name}` must have the structure of `{reference_name}`: the leaves agree, their containers do not: "
        f"{containers(tree, reference)}. Rebuild it as such."
    )


def _by_path(tree: Any) -> dict[str, Any]:
    return {leaf_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_none)}


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _is_state(node: Any) -> bool:
    """Say whether a node is a transformation, or a state of optax's or of this package."""
    if not (isinstance(node, tuple) and len(getattr(node, "_fields", ()))):
        return False
    ours = type(node).__module__.partition(".")[0] in ("optax", "rmsprop_optax")
    return ours and (type(node).__name__.endswith("State") or hasattr(node, "update"))
