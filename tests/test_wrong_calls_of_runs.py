"""`sweep`, `scaling`, `plots` and `diagnostics`, called wrong: each answer is a sentence that names the argument."""

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest
from kit.wrong_arguments import NUMBERS, PARAMS, STATE, TREES, TX, assert_answered, faults, misnamed, rows_of
from kit.wrong_calls import public

from rmsprop_optax import diagnostics, plots, rmsprop, scaling, sweep

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RATES, LOSSES, NEVER = np.array([0.1, 0.2]), np.full((2, 3), 0.5), np.full(2, -1)
RUN = sweep.Sweep(RATES, LOSSES, NEVER)
FIELDS = {
    "learning_rates": (RATES, set()), "losses": (LOSSES, {"an array"}), "diverged_at": (NEVER, set()),
    "held_out": (None, {"None"}), "seeds": (None, {"None"}),
}  # fmt: skip


LAYERS = {f"layer{i}": [jnp.ones(2)] for i in range(300)}


def loss(params, batch):
    return jnp.sum(params["w"] ** 2)


def bowl(x, y):
    return x**2 + y**2


def method(name):
    """Return a function that makes a sweep and calls its method: the fields are what a method can be given wrong."""
    return lambda **fields: getattr(sweep.Sweep(**fields), name)()


DRAWN = {"colors": (None, {"None", "an empty dict"}), "ax": (None, {"None"})}
MEASURED = {
    "learning_rate": (0.1, {"a number"}), "eps": (1e-8, {"a number"}), "eps_in_sqrt": (True, {"a bool"}),
    "decay": (None, {"None"}),
}  # fmt: skip
LIKE = {"parameters", "None for each parameter", "integer parameters", "complex parameters"}
KEPT = {"a state", "another model's state", "300 moments"}

# By public name: the function, right arguments, and for each the wrong-looking values that are right.
CALLS = {
    "sweep.learning_rates": (sweep.learning_rates, {
        "make_tx": (optax.sgd, {"a factory"}),
        "loss_fn": (loss, set()),
        "params": (PARAMS, {"parameters", "parameters in another shape"}),
        "batches": (None, {"None", "an array", "integers", "a tensor", "parameters in another shape"}),
        "learning_rates": ([0.1, 0.2], {"a list"}),
        "steps": (3, set()),
        "held_out": (None, TREES - {"shapes"} | NUMBERS | {"None", "integers"}),
        "seeds": (None, {"None", "integers"}),
        "diverged_above": (100.0, {"a number"}),
        "at_once": (None, {"None"}),
        "progress": (False, {"a bool"}),
    }),
    "sweep.Sweep": (sweep.Sweep, FIELDS),
    "sweep.Sweep.suggest": (method("suggest"), FIELDS),
    "sweep.Sweep.to_dict": (method("to_dict"), FIELDS),
    "sweep.Sweep.sensitivity": (RUN.sensitivity, {"octaves": (0.5, set())}),
    "scaling.decay": (scaling.decay, {"half_life": (10.0, {"a number"}), "batch_size": (1, {"a number"})}),
    "scaling.rescaled": (scaling.rescaled, {
        "batch_size": (1, {"a number"}), "new_batch_size": (2, {"a number"}), "learning_rate": (0.1, {"a number"}),
        "decay": (0.9, set()), "eps": (1e-8, {"a number"}), "eps_in_sqrt": (True, {"a bool"}),
    }),
    "plots.paths": (plots.paths, {"function": (bowl, set()), "routes": ({"a": np.ones((3, 2))}, set()), **DRAWN}),
    "plots.sweep": (plots.sweep, {"sweeps": (RUN, set()), **DRAWN}),
    "plots.effective_learning_rates": (plots.effective_learning_rates, {
        "quantiles": ({"a": np.ones((3, 3))}, set()), "steps": (None, {"None", "integers", "a tensor"}), **DRAWN,
    }),
    "plots.step_response": (plots.step_response, {
        "responses": ({"a": np.ones(3)}, {"another model's parameters"}),
        "gradients": (None, {"None", "a list", "integers", "a tensor"}), **DRAWN,
    }),
    "diagnostics.effective_learning_rate": (diagnostics.effective_learning_rate, {"state": (STATE, KEPT), **MEASURED}),
    "diagnostics.measure": (diagnostics.measure, {
        "gradients": (PARAMS, LIKE), "updates": (PARAMS, LIKE), "state": (STATE, {"a state"}),
        "params": (PARAMS, {"parameters", "complex parameters"}), **MEASURED,
        "quantiles": ((0.5,), {"a list", "a tensor"}),
    }),
    "diagnostics.sharpness": (diagnostics.sharpness, {
        "loss_fn": (lambda params: jnp.sum(params["w"] ** 2), set()), "params": (PARAMS, {"parameters"}),
        "state": (STATE, {"a state"}), **MEASURED, "iterations": (1, set()), "tolerance": (1e-3, {"a number"}),
    }),
    "diagnostics.oscillation": (diagnostics.oscillation, {
        "previous": (PARAMS, {"parameters"}), "updates": (PARAMS, {"parameters"}),
    }),
    "diagnostics.step_response": (diagnostics.step_response, {
        "tx": (TX, {"a transformation"}), "gradients": (jnp.ones(3), {"a list", "an array"}),
    }),
}  # fmt: skip
METHODS_OF_FIELDS = ("sweep.Sweep.suggest", "sweep.Sweep.to_dict")  # which have no arguments of their own
ALSO = {  # what an answer may name in place of the argument
    ("sweep.learning_rates", "params"): ["loss_fn"],
    ("diagnostics.measure", "params"): ["gradients"],
}


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments]
)
def test_a_wrong_value_is_answered_by_a_sentence_that_names_the_argument(name, argument):
    function, arguments = CALLS[name]
    figures = plt.get_fignums()
    assert faults(function, arguments, argument, ALSO.get((name, argument), ())) == {}
    assert plt.get_fignums() == figures


@pytest.mark.parametrize("name", [name for name in CALLS if name not in METHODS_OF_FIELDS])
def test_a_misspelt_missing_or_surplus_argument_is_answered_by_the_right_name(name):
    function, arguments = CALLS[name]
    assert misnamed(function.__qualname__, function, arguments) == []


def test_every_public_function_and_method_is_called_wrong_in_ten_ways():
    names = public(sweep, scaling, plots, diagnostics)
    few = {name: rows_of(CALLS[name][1]) if name in CALLS else 0 for name in names}
    assert {name: n for name, n in few.items() if n < 10} == {}


def swept(**change):
    return sweep.learning_rates(
        **{
            "make_tx": optax.sgd,
            "loss_fn": loss,
            "params": PARAMS,
            "batches": None,
            "learning_rates": [0.1],
            "steps": 2,
        }
        | change
    )


# What is said of some calls beyond the name of the argument: what differs, what is true, and what to do.
ANSWERS = {
    "a loss of other parameters": (
        lambda: swept(loss_fn=lambda params, batch: params["v"]), TypeError,
        "`loss_fn` must take `params` and one of `batches`, and return a scalar. Traced, it raised KeyError: 'v'",
    ),
    "a loss of parameters alone": (
        lambda: swept(loss_fn=lambda params: 0.0), TypeError, "`loss_fn` must take `params` and one of `batches`",
    ),
    "bytes for seeds": (lambda: swept(seeds=b"ab"), ValueError, "`seeds` must be a number from 1 or different integ"),
    "shapes for parameters": (
        lambda: swept(params=jax.eval_shape(lambda: PARAMS)), TypeError, r"`params` at b .* got the shape \(3,\) alone",
    ),
    "a colour that is none": (
        lambda: plots.step_response({"x": [1.0]}, colors={"x": "no color"}), ValueError,
        "`colors` at x must be a color of matplotlib, .* got 'no color'",
    ),
    "a function that fails on arrays": (
        lambda: plots.paths(lambda x, y: x if x > 0 else y, {"x": np.ones((3, 2))}), TypeError,
        "`function` must take two arrays, the parameters, .* It raised ValueError",
    ),
    "losses of other rates": (
        lambda: sweep.Sweep(RATES, LOSSES[:1], NEVER), ValueError, r"`losses` must have shape \(2, steps\), got",
    ),
    "rates that fall": (lambda: sweep.Sweep(RATES[::-1], LOSSES, NEVER), ValueError, "`learning_rates` .* ascend"),
    "losses without seeds": (
        lambda: sweep.Sweep(RATES, LOSSES, NEVER, seeds=(0, 1)), ValueError, r"`losses` must have shape \(2, 2,",
    ),
    "a held-out loss of one rate": (
        lambda: sweep.Sweep(RATES, LOSSES, NEVER, np.ones(1)), ValueError, r"`held_out` must have shape \(2,\), as",
    ),
    "a decay that nothing needs": (
        lambda: diagnostics.effective_learning_rate(STATE, 0.1, decay=2.0), ValueError, r"`decay` must be .*\[0, 1\)",
    ),
    "a tuple among 300 lists": (
        lambda: diagnostics.oscillation(LAYERS, LAYERS | {"layer7": (jnp.ones(2),)}), ValueError,
        "`updates` must have .* of `previous`: .* containers do not: expected a list at layer7, got a tuple",
    ),
    "updates without gradients": (
        lambda: diagnostics.oscillation(PARAMS, {"w": None, "b": None}), ValueError,
        "`previous` must have at least one element that `updates` has, too",
    ),
    "lr for learning_rate": (
        lambda: diagnostics.effective_learning_rate(STATE, lr=0.1), TypeError,
        "`effective_learning_rate` has no argument `lr`. Did you mean `learning_rate`.*Its arguments are state, learn",
    ),
    "a state for gradients": (
        lambda: diagnostics.measure(STATE, PARAMS, STATE, PARAMS, 0.1), TypeError, "`gradients` at 0 .* got a state",
    ),
    "a factory for a state": (
        lambda: diagnostics.effective_learning_rate(rmsprop, 0.1), TypeError, "`state` must be a state, got <function",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call", ANSWERS)
def test_an_answer_says_what_is_true_and_what_to_do(call):
    assert_answered(*ANSWERS[call])
