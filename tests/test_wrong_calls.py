"""Wrong calls of the rule, the dialects and the recipes are answered by a sentence of ours."""

import collections
import functools
import inspect

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.wrong_calls import TorchTensor, judge, lacking, leaves_300, public, wrong

import rmsprop_optax
from rmsprop_optax import Variant, dialects, recipes, rmsprop, scale_by_rms

FACTORIES = [n for n in public(rmsprop_optax, dialects, recipes) if n not in ("Variant", "dialects.Row")]
ANY = (ValueError, TypeError)
MEANT = {  # what users of one library write, and what is meant by it where it is an argument
    "lr": ("learning_rate", "lr"), "step_size": ("learning_rate", "lr"), "alpha": ("rho", "decay"),
    "rho": ("decay", "alpha"), "beta2": ("rho", "alpha", "decay"), "epsilon": ("eps",), "wd": ("weight_decay",),
    "centred": ("centered",), "learnin_rate": ("learning_rate",), "weigth_decay": ("weight_decay",),
}  # fmt: skip
BAD_NUMBERS = {
    "a string": "0.1", "a list": [0.1, 0.2], "an array of two": np.ones(2, np.float32), "a torch tensor": TorchTensor(),
    "a bool": True, "complex": 1j, "nan": float("nan"), "inf": float("inf"), "beyond float32": 1e40,
    "a tree": leaves_300(), "a transformation": optax.identity(), "in half precision": np.float16(0.1),
}  # fmt: skip


LIMITS = {"clipnorm", "clipvalue", "global_clipnorm", "loss_scale", "max_grad_norm", "every"}


def found(name):
    return functools.reduce(getattr, name.split("."), rmsprop_optax)


def rows_of(name):
    """Return the rows of a factory, whose first number is wrong, or whose keywords are."""
    factory = found(name)
    parameters = inspect.signature(factory).parameters
    valid = {p: 10 for p in parameters if p in ("steps", "steps_per_epoch")}
    valid |= {p: 0.1 for p in ("learning_rate", "lr") if p in parameters}
    number = "decay" if name == "scale_by_rms" else "lr" if "lr" in parameters else "learning_rate"
    unsigned = {"rmsprop": "eps", "dialects.optax_rmsprop": "eps"}.get(name, number)
    no_none = {"recipes.inception_v3": "steps_per_epoch"}.get(name, number)
    call = lambda **more: functools.partial(factory, **(valid | more))  # noqa: E731
    for kind, bad in BAD_NUMBERS.items():
        yield wrong(name, kind, call(**{number: bad}), Exception, f"`{number}` must be ", "number")
    if parameters[no_none].default is not None:
        yield wrong(name, "None", call(**{no_none: None}), TypeError, f"`{no_none}` must be ", "None")
    yield wrong(name, "negative", call(**{unsigned: -0.5}), ValueError, f"`{unsigned}` must be a number in [0, ")
    for word, choices in MEANT.items():
        if word not in parameters and (close := [c for c in choices if c in parameters]):
            less = {k: v for k, v in valid.items() if k not in close}
            misspelt = functools.partial(factory, **less, **{word: 0.1})
            meant = [f"Did you mean `{c}`?" for c in close][:1]
            yield wrong(name, f"{word} for {close[0]}", misspelt, TypeError, f"no argument `{word}`", *meant)
    for required in [p.name for p in parameters.values() if p.default is p.empty]:
        less = {k: v for k, v in valid.items() if k != required}
        yield wrong(name, f"without {required}", functools.partial(factory, **less), TypeError, f"needs `{required}`")
    twice = functools.partial(factory, 10, **{next(iter(parameters)): 10})
    yield wrong(name, "an argument twice", twice, TypeError, f"`{next(iter(parameters))}` by position and by name")
    yield wrong(
        name,
        "too many by place",
        functools.partial(factory, *[1] * 20),
        TypeError,
        "by position, got 20",
        number,
    )
    for steps in sorted(parameters.keys() & {"steps", "steps_per_epoch"}):
        for kind, bad in {**BAD_NUMBERS, "0": 0, "negative": -1}.items():
            yield wrong(name, f"{steps}: {kind}", call(**{steps: bad}), Exception, f"`{steps}` must be ")
    for limit in sorted(parameters.keys() & LIMITS):
        for kind, bad in {**BAD_NUMBERS, "0": 0, "negative": -1}.items():
            yield wrong(name, f"{limit}: {kind}", call(**{limit: bad}), Exception, f"`{limit}` must be ")
    for whole in sorted(parameters.keys() & {"warmup", "anneal"}):
        for kind, bad in {**BAD_NUMBERS, "half a step": 0.5, "negative": -1}.items():
            yield wrong(name, f"{whole}: {kind}", call(**{whole: bad}), Exception, f"`{whole}` must be ")
    for switch in [p.name for p in parameters.values() if isinstance(p.default, bool)]:
        yield wrong(name, f"{switch}=1", call(**{switch: 1}), TypeError, f"`{switch}` must be True or False, got 1")
    if "source" in parameters:
        yield wrong(name, "an unknown source", call(source="x"), ValueError, "`source` must be one of", "got 'x'")
        yield wrong(
            name, "a misspelt source", call(source=parameters["source"].default[:-1]), ValueError, "Did you mean"
        )


PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}
MADE = {
    "rmsprop": rmsprop(0.1),
    "scale_by_rms": scale_by_rms(),
    "dialects.torch_rmsprop": dialects.torch_rmsprop(),
    "dialects.levanter_rmsprop": dialects.levanter_rmsprop(weight_decay=0.0),
    "dialects.keras_rmsprop": dialects.keras_rmsprop(clipnorm=1.0),
    "recipes.a3c": recipes.a3c(None, source="baselines"),
}
BAD_LEAVES = {
    "a string": ("abc", "got 'abc'"), "a list of strings": (["a"], "got 'a'"), "integers": (jnp.arange(3), "got int32"),
    "a torch tensor": (TorchTensor(1.0, 2.0, 3.0), "PyTorch tensor"), "a bool": (True, "got bool"),
    "a function": (jnp.ones, "Cast it"), "NumPy strings": (np.array(["a"]), "got <U1"), "a set": ({1.0}, "got {1.0}"),
    "a typed key": (np.datetime64("2020-01-01"), "got datetime64"),
}  # fmt: skip


def rows_of_methods(name, tx):
    """Return the rows of what a factory returns: a wrong tree for `init`, and for each argument of `update`."""
    init, update, state = f"{name}.init", f"{name}.update", tx.init(PARAMS)
    for kind, (leaf, says) in BAD_LEAVES.items():
        bad = PARAMS | {"w": leaf}
        yield wrong(init, kind, lambda bad=bad: tx.init(bad), TypeError, "`params` at w", "must be", says)
        if kind != "a list of strings":
            yield wrong(update, kind, lambda bad=bad: tx.update(bad, state), Exception, "`updates` at w")
    yield wrong(init, "a state", lambda: tx.init(state), TypeError, "`params` must be a tree of parameters", "State")
    yield wrong(init, "a transformation", lambda: tx.init(tx), TypeError, "`params` must be", "a transformation")
    yield wrong(init, "nothing", lambda: tx.init(), TypeError, "`init` needs `params`")
    yield wrong(init, "a misspelt keyword", lambda: tx.init(param=PARAMS), TypeError, "Did you mean `params`?")
    yield wrong(init, "too many", lambda: tx.init(PARAMS, PARAMS), TypeError, "`init` takes 1 by position")
    yield wrong(update, "nothing", lambda: tx.update(), TypeError, "`update` needs `updates`")
    yield wrong(update, "no state", lambda: tx.update(PARAMS), TypeError, "`update` needs `state`")
    yield wrong(
        update,
        "updates twice",
        lambda: tx.update(PARAMS, state, updates=PARAMS),
        TypeError,
        "`updates` by position and by name",
    )
    for kind, bad in {"None": None, "parameters": PARAMS, "another's": optax.adam(0.1).init(PARAMS)}.items():
        yield wrong(update, f"{kind} for the state", lambda bad=bad: tx.update(PARAMS, bad), Exception, "`state`")
    for kind, bad, says in [
        ("another model's tree", {"v": jnp.ones(3)}, "missing: b, w"),
        ("an empty tree", {}, "missing"),
        ("a list", [jnp.ones(2), jnp.ones(3)], "unexpected"),
        ("another shape", PARAMS | {"w": jnp.ones((3, 1))}, "at w has shape (3, 1)"),
        ("300 leaves", leaves_300(), "and 295 more"),
        ("another container", collections.OrderedDict(PARAMS), "their containers do not"),
    ]:
        yield wrong(update, kind, lambda bad=bad: tx.update(bad, state), ValueError, "`updates`", says)
        if name == "rmsprop":
            call = lambda bad=bad: tx.update(PARAMS, state, bad)  # noqa: E731
            yield wrong(update, f"{kind} for params", call, ValueError, "`params`", says)


def masked(mask):
    tx = rmsprop(0.1, weight_decay=0.1, weight_decay_mask=mask)
    return tx.update(PARAMS, tx.init(PARAMS), PARAMS)


def rows_of_the_rest():
    paddle = "dialects.paddle_rmsprop"
    for kind, bad in {"a number": 1.0, "a factory": optax.clip, "a tree": leaves_300(), "a state": (PARAMS,)}.items():
        call = functools.partial(dialects.paddle_rmsprop, 0.1, grad_clip=bad)
        yield wrong(paddle, f"grad_clip: {kind}", call, TypeError, "`grad_clip` must be an optax transformation")
    for kind, mask in {
        "another model's": {"v": True}, "a list": [True, False], "of 300 leaves": dict.fromkeys(leaves_300(), True),
        "below a leaf": {"w": {"x": True}, "b": True},
    }.items():  # fmt: skip
        yield wrong("rmsprop", f"a mask {kind}", lambda m=mask: masked(m), ValueError, "`weight_decay_mask` must fit")
    for kind, mask in {"of strings": {"w": "yes", "b": "no"}, "of floats": 1.0, "a tensor": TorchTensor()}.items():
        yield wrong(
            "rmsprop", f"a mask {kind}", lambda m=mask: masked(m), TypeError, "`weight_decay_mask` must be True"
        )
    for name in vars(Variant()):
        for kind, bad in {
            "a string": "yes",
            "a list": [],
            "a torch tensor": TorchTensor(),
            "nan": float("nan"),
        }.items():
            call = functools.partial(Variant, **{name: bad})
            yield wrong("Variant", f"{name}: {kind}", call, Exception, f"`{name}` must be")
    yield wrong("Variant", "an unknown switch", lambda: Variant(eps_in_root=True), TypeError, "mean `eps_in_sqrt`?")
    yield wrong("Variant", "by place", lambda: Variant(True), TypeError, "by position", "eps_in_sqrt")
    for name, meant in {
        "pytorch": "torch", "tensorflow": "tf1", "Keras": "keras", "sonet": "sonnet", "jax": "optax", "tf": "tf1",
        "stable_baselines3": "sb3", "mind_spore": "mindspore", "chainr": "chainer", "lasange": "lasagne",
    }.items():  # fmt: skip
        for table in ("VARIANTS", "ROWS"):
            call = lambda name=name, table=table: getattr(dialects, table)[name]  # noqa: E731
            yield wrong(f"dialects.{table}", name, call, KeyError, "`framework` must be one of", f"mean {meant!r}?")


TABLE = [
    *(row for name in FACTORIES for row in rows_of(name)),
    *(row for name, tx in MADE.items() for row in rows_of_methods(name, tx)),
    *rows_of_the_rest(),
]


@pytest.mark.parametrize("row", TABLE)
def test_a_wrong_call_gets_a_sentence(row):
    judge(row)


def test_every_public_name_is_called_wrong_in_ten_ways():
    methods = [f"{name}.{method}" for name in MADE for method in ("init", "update")]
    assert lacking(TABLE, [*FACTORIES, "Variant", "dialects.VARIANTS", *methods]) == {}


def test_the_table_finds_a_name_without_rows():
    assert lacking(TABLE, ["recipes.new"]) == {"recipes.new": 0}


def call_in_the_depths():
    [].pop()


def talk(characters):
    raise ValueError("`learning_rate`" + "x" * characters)


@pytest.mark.parametrize(
    "call", [lambda: None, call_in_the_depths, lambda: rmsprop(0.1, decay=2.0), lambda: talk(2000)]
)
def test_the_judge_finds_what_is_not_a_sentence_of_ours(call):
    row = wrong("rmsprop", "", call, Exception, "`learning_rate`").values[0]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        judge(row)
