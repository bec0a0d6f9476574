"""From a recorded case to our optimizer: the dialect called as its library was, or what the dialect's row says."""

import re

import jax.numpy as jnp
import numpy as np
import optax

from kit.trajectories import Case
from rmsprop_optax import dialects, rmsprop
from rmsprop_optax.dialects import ROWS

ROW_OF = {  # from a recorded library, or a class of its, to our row
    "keras3": "keras", "tf_keras": "keras", "keras224": "keras_2_2",
    "chainer.optimizers.RMSpropGraves": "graves",
    "mindspore.experimental.optim.RMSprop": "mindspore_experimental",
    "rmsprop": "jax_rmsprop", "rmsprop_momentum": "jax_rmsprop_momentum",
}  # fmt: skip


def row_of(case: Case) -> str:
    if case.library == "mxnet" and case.hparams.get("centered"):
        return "mxnet_centered"
    return ROW_OF.get(case.impl) or ROW_OF.get(case.library) or case.library


def numbers(case: Case) -> dict[str, object]:
    """Return the recorded arguments, those that the library rounds to float32 rounded.

    Defaults stay away, and their cases have Python numbers. The others have arrays, which share compiled steps; a
    number that is 0, and so may decide structure, stays Python's.
    """
    row, hparams = ROWS[row_of(case)], dict(case.hparams)
    hparams.pop(row.arguments["learning_rate"], None)
    for ours in case.rounded - {"lr"}:
        if ours in row.arguments:
            theirs = row.arguments[ours]
            number = hparams.get(theirs, row.defaults.get(ours))
            if number is not None:
                hparams[theirs] = float(np.float32(number))
    if case.hparams:
        hparams = {k: jnp.asarray(v) if type(v) is float and v else v for k, v in hparams.items()}
    return hparams


def from_function(case: Case) -> optax.GradientTransformation:
    """Call the dialect as the library was called."""
    row, hparams = ROWS[row_of(case)], numbers(case)
    if hook := hparams.pop("hook", None):
        hparams["weight_decay"] = float(re.fullmatch(r"WeightDecay\((.*)\)", hook)[1])
    if clip := hparams.pop("__clip", None):
        kinds = {"global_norm": optax.clip_by_global_norm, "value": optax.clip}
        hparams["grad_clip"] = kinds[clip[0]](clip[1])
    rates = jnp.asarray(case.learning_rates)
    rate = row.arguments["learning_rate"]
    if case.library != "dreamer_v3":
        hparams[rate] = lambda count: rates[count]
    elif case.dtype == np.float32:  # it makes the schedule itself, from its arguments
        hparams |= {rate: case.hparams[rate]} if rate in case.hparams else {}
    else:  # its schedule is float32 there, too, so these cases were given their rates
        own = {name: x for name, x in hparams.items() if name not in ("schedule", "anneal")}
        hparams = own | {rate: lambda count: rates[count], "warmup": 0}
    return getattr(dialects, row.function)(**hparams)


def from_row(case: Case) -> optax.GradientTransformation:
    """Build the optimizer from the row alone: its names, its defaults and its switches."""
    row, hparams = ROWS[row_of(case)], numbers(case)
    ours = dict(row.defaults) | dict(row.fixed)
    ours |= {name: hparams[theirs] for name, theirs in row.arguments.items() if theirs in hparams}
    rates = jnp.asarray(case.learning_rates)
    ours["learning_rate"] = lambda count: rates[count]
    ours = {k: v for k, v in ours.items() if not (k in ("momentum", "weight_decay") and v == 0)}
    switches = vars(row.variant) | {k: hparams[v] for k, v in row.set_by.items() if v in hparams}
    switches.pop("complex_pairs")
    links = []
    if "clipvalue" in hparams:
        links.append(optax.clip(hparams["clipvalue"]))
    if "clipnorm" in hparams:  # of Keras 2.2: of all gradients together
        links.append(optax.clip_by_global_norm(hparams["clipnorm"]))
    return optax.chain(*links, rmsprop(**ours, **switches))
