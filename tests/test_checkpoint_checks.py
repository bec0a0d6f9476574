"""What restoring and adapting refuse: each with its path, what was expected, what came, and the way out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from kit.two_leaves import PARAMS, adapted, make, stepped, train

from rmsprop_optax import checkpoint, scale_by_rms

NU = {"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}


BFLOAT16 = {name: jnp.ones(x.shape, jnp.bfloat16) for name, x in NU.items()}


class Wrapper(NamedTuple):
    """A state that wraps another one, and counts steps of its own."""

    count: jax.Array
    inner_state: optax.OptState


def filled(moments, params=PARAMS, **options):
    return checkpoint.restore(make(**options).init(params), moments)


def with_field(tree, **options):
    state = make(**options).init(PARAMS)
    return (state[0]._replace(nu=tree), *state[1:])


OUTSIDE = {"momentum": 0.9, "lr_in_momentum": False}
MANY = {"momentum": 0.9, "learning_rate": stepped}
REFUSALS = {
    "a missing parameter": (
        lambda: filled({"nu": {"w": NU["w"]}}),
        ValueError,
        "missing: b",
    ),
    "an extra parameter": (
        lambda: filled({"nu": NU | {"c": NU["b"]}}),
        ValueError,
        "unexpected: c",
    ),
    "another name": (
        lambda: filled({"nu": {"w": NU["w"], "bias": NU["b"]}}),
        ValueError,
        "missing: b; unexpected: bias",
    ),
    "another shape": (
        lambda: filled({"nu": NU | {"b": np.ones(1)}}),
        ValueError,
        r"at b must have shape \(3,\), got \(1,\)",
    ),
    "a scalar to broadcast": (
        lambda: filled({"nu": NU | {"b": np.float32(1)}}),
        ValueError,
        "Nothing is broadcast",
    ),
    "a transposed weight": (
        lambda: filled({"nu": NU | {"w": NU["w"].T}}),
        ValueError,
        r"\(2, 3\), got \(3, 2\)",
    ),
    "float64 for float32": (
        lambda: filled({"nu": NU | {"b": np.ones(3)}}),
        TypeError,
        "float64, which would be rounded",
    ),
    "codes": (
        lambda: filled({"nu": NU | {"b": np.ones(3, np.uint8)}}),
        TypeError,
        "uint8 in `moments`.*compression",
    ),
    "a complex moment": (
        lambda: filled({"nu": NU | {"b": np.ones(3, np.complex64)}}),
        TypeError,
        "complex64: PyTorch",
    ),
    "no mean square": (
        lambda: filled({"trace": NU}, momentum=0.9),
        ValueError,
        "`state` has `nu`, `moments` does not",
    ),
    "nothing": (
        lambda: filled({}),
        ValueError,
        "missing: 0/nu/b, 0/nu/w",
    ),
    "a misspelled field": (
        lambda: filled({"nu": NU, "nus": NU}),
        ValueError,
        "nothing but .* unexpected: nus",
    ),
    "a moment that would be lost": (
        lambda: filled({"variance": NU, "mu": NU}),
        ValueError,
        "`state` has `nu`, `moments` does not.*adapt",
    ),
    "a buffer that would be lost": (
        lambda: filled({"nu": NU, "trace": NU}),
        ValueError,
        "would be lost.*momentum",
    ),
    "a moment that is not there": (
        lambda: filled({"nu": NU}, momentum=0.9),
        ValueError,
        "`moments` does not.*momentum",
    ),
    "no count for a schedule": (
        lambda: filled({"nu": NU}, learning_rate=stepped),
        ValueError,
        "at 1/count.*no `count`",
    ),
    "half a step": (
        lambda: filled({"nu": NU, "count": 1.5}),
        ValueError,
        "`count` must be a whole number.*1.5",
    ),
    "two counts": (
        lambda: filled([{"nu": NU, "count": 1}, {"count": 2}], bias_correction=True),
        ValueError,
        "unexpected: 1/count",
    ),
    "the other order": (
        lambda: filled({"nu": NU, "trace": NU, "lr_in_momentum": False}, momentum=0.9),
        ValueError,
        "minus the learning",
    ),
    "two moments for one parameter": (
        lambda: filled([{"nu": NU}, {"nu": NU}]),
        ValueError,
        "unexpected: 1/nu/w, 1/nu/b",
    ),
    "a state without RMSprop": (
        lambda: checkpoint.restore(optax.adam(0.1).init(PARAMS), {"nu": NU}),
        ValueError,
        "found optax.EmptyState|ScaleByAdam",
    ),
    "two RMSprops in one chain": (
        lambda: checkpoint.restore(optax.chain(make(), make()).init(PARAMS), {"nu": NU}),
        ValueError,
        "two `nu` for",
    ),
    "a state to fill of optax": (
        lambda: checkpoint.restore(optax.rmsprop(0.1).init(PARAMS), {"nu": NU}),
        ValueError,
        "checkpoint.from_optax",
    ),
    "a state of optax": (
        lambda: filled(optax.rmsprop(0.1).init(PARAMS)),
        ValueError,
        "checkpoint.from_optax",
    ),
    "a state of Adam": (
        lambda: filled(optax.adam(0.1).init(PARAMS)),
        ValueError,
        "found optax.ScaleByAdamState",
    ),
    "a state with other options": (
        lambda: filled(make(momentum=0.9).init(PARAMS)),
        ValueError,
        "unexpected: 2/trace/b, 2/trace/w.*checkpoint.adapt",
    ),
    "a state of another shape": (
        lambda: filled(make().init(PARAMS | {"b": jnp.ones(5)})),
        ValueError,
        r"0/nu/b must have shape \(3,\), got \(5,\)",
    ),
    "a state with other types": (
        lambda: filled(with_field(jax.tree.map(np.float64, NU))),
        TypeError,
        "0/nu/b must fit",
    ),
    "a state of codes": (
        lambda: filled(with_field({"w": np.ones((2, 3), np.uint8), "b": np.ones(3, np.uint8)})),
        TypeError,
        "compression",
    ),
    "a state to fill of codes": (
        lambda: checkpoint.restore(with_field(jax.tree.map(np.uint8, NU)), {"nu": NU}),
        TypeError,
        "uint8 in `state`",
    ),
    "a state of codes in bfloat16": (
        lambda: filled(with_field(BFLOAT16)),
        TypeError,
        "0/nu/b is kept in bfloat16 in `moments`.*compression",
    ),
    "a state to fill of codes in bfloat16": (
        lambda: checkpoint.restore(with_field(BFLOAT16), {"nu": NU}),
        TypeError,
        "bfloat16 in `state`",
    ),
    "codes behind a wrapper": (
        lambda: checkpoint.restore(Wrapper(jnp.int32(0), with_field(BFLOAT16)), {"nu": NU, "count": 1}),
        TypeError,
        "bfloat16 in `state`",
    ),
    "adapting codes": (
        lambda: checkpoint.adapt(with_field(BFLOAT16), make(), PARAMS),
        TypeError,
        "bfloat16 in `old_state`",
    ),
    "codes to optax": (
        lambda: checkpoint.to_optax(with_field(BFLOAT16), optax.rmsprop(0.1).init(PARAMS)),
        TypeError,
        "bfloat16 in `state`",
    ),
    "codes to torch": (
        lambda: checkpoint.to_torch(with_field(BFLOAT16), {"state": {}, "param_groups": [{"params": [0, 1]}]}, NU),
        TypeError,
        "bfloat16 in `state`",
    ),
    "other containers": (
        lambda: filled(make().init([*PARAMS.values()])),
        ValueError,
        "at 0/nu; missing: b, w; unexpected: 0, 1",
    ),
    "a count of another type": (
        lambda: checkpoint.restore(
            make(**MANY).init(PARAMS),
            jax.tree.map(lambda x: np.asarray(x, np.int64 if x.ndim == 0 else x.dtype), make(**MANY).init(PARAMS)),
        ),
        TypeError,
        "at 1/count must be int32, got int64",
    ),
    "a state of ours for one of optax": (
        lambda: checkpoint.from_optax(make().init(PARAMS)),
        ValueError,
        "restore and adapt take it as it is",
    ),
    "adapting a state of Adam": (
        lambda: checkpoint.adapt(optax.adam(0.1).init(PARAMS), make(), PARAMS),
        ValueError,
        "found optax.ScaleByAdamState",
    ),
    "adapting to Adam": (
        lambda: checkpoint.adapt(make().init(PARAMS), optax.adam(0.1), PARAMS),
        ValueError,
        "found optax.ScaleByAdamState",
    ),
    "adapting to other parameters": (
        lambda: checkpoint.adapt(make().init(PARAMS), make(), {"w": PARAMS["w"]}),
        ValueError,
        "unexpected: b",
    ),
    "adapting to another shape": (
        lambda: checkpoint.adapt(make().init(PARAMS), make(), PARAMS | {"b": jnp.ones(4)}),
        ValueError,
        "at b must have shape",
    ),
    "adapting the order without a rate": (
        lambda: adapted({"momentum": 0.9}, OUTSIDE, []),
        ValueError,
        "Pass `learning_rate`",
    ),
    "adapting the order with a rate of 0": (
        lambda: adapted({"momentum": 0.9}, OUTSIDE, [], learning_rate=0),
        ValueError,
        "above 0",
    ),
    "correcting a bias without a count": (
        lambda: adapted({}, {"bias_correction": True}, []),
        ValueError,
        "Pass `count`",
    ),
    "another count": (
        lambda: adapted({"learning_rate": stepped}, {"bias_correction": True}, [], count=3),
        ValueError,
        "that of `old_state`, 0",
    ),
    "an optax state to fill in bfloat16": (
        lambda: checkpoint.to_optax(
            make().init(PARAMS), optax.rmsprop(0.1).init(jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS))
        ),
        TypeError,
        "bfloat16, got float32",
    ),
    "a switch that is none": (
        lambda: checkpoint.restore(make().init(PARAMS), {"nu": NU}, allow_rounding=1),
        TypeError,
        "allow_rounding",
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_restoring_refuses(why):
    call, error, message = REFUSALS[why]
    with pytest.raises(error, match=f"(?s){message}"):
        call()


def test_the_wrong_shapes_that_flax_lets_through_are_refused():
    serialization = pytest.importorskip("flax.serialization")
    tx = make()
    wrong = serialization.to_bytes(tx.init(PARAMS | {"b": jnp.ones(5)}))
    let_through = serialization.from_bytes(tx.init(PARAMS), wrong)
    assert let_through[0].nu["b"].shape == (5,)
    with pytest.raises(ValueError, match=r"must have shape \(3,\), got \(5,\)"):
        checkpoint.restore(tx.init(PARAMS), let_through)


def test_the_errors_of_a_step_point_here():
    other = train(make(), [])[1]
    with pytest.raises(ValueError, match=r"checkpoint\.adapt"):
        make(momentum=0.9).update(PARAMS, other)
    with pytest.raises(ValueError, match=r"checkpoint\.from_optax"):
        make().update(PARAMS, optax.rmsprop(0.1).init(PARAMS))
    with pytest.raises(ValueError, match=r"checkpoint\.adapt"):
        scale_by_rms(centered=True).update(PARAMS, other[0])
    with pytest.raises(TypeError, match=r"checkpoint\.from_optax"):
        scale_by_rms().update(PARAMS, optax.rmsprop(0.1).init(PARAMS)[0])


def test_codes_of_the_same_layout_are_copied_as_they_are():
    state = Wrapper(jnp.int32(7), with_field(jax.tree.map(np.uint8, NU)))
    restored = checkpoint.restore(jax.tree.map(jnp.zeros_like, state), state)
    assert restored.count == 7
    assert restored.inner_state[0].nu["w"].dtype == jnp.uint8
    assert (restored.inner_state[0].nu["w"] == 1).all()
