"""`checkpoint`, `compression` and `sharding`, called wrong: each answer is a sentence that names the argument."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from kit.foreign_states import keras_arrays, torch_state
from kit.wrong_arguments import PARAMS, STATE, TREES, TX, assert_answered, faults, misnamed, rows_of
from kit.wrong_calls import public

from rmsprop_optax import checkpoint, compression, dialects, rmsprop, sharding
from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble, SignedByte

HALF = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
CODED, MASTER = compression.compressed(TX, nu=RmsByte()), compression.with_master_weights(TX)
CODES, LOW = CODED.init(PARAMS), MASTER.init(HALF)
OURS, THEIRS = dialects.torch_rmsprop().init(PARAMS), optax.rmsprop(0.1).init(PARAMS)
WEIGHTS = {"w": np.ones((2, 3)), "b": np.ones(3)}
TF1 = {f"{w}{slot}": np.ones(3, np.float32) for w in ("w", "b") for slot in ("", "/RMSProp", "/RMSProp_1")}
HERE = NamedSharding(jax.make_mesh((1,), ("x",)), PartitionSpec())
ONES, BITS = jnp.ones(3), jnp.zeros(3, jnp.uint32)
SCALES = RmsNibble().scales(ONES)

FUNCTION, NO = {"a function", "a factory"}, {"None"}
CODEC = {"a codec"}
SAME = {"parameters", "tensors", "integer parameters", "complex parameters"}  # with the names of the weights
STATES = {"a state", "another model's state", "300 moments"}
LIKE = {"parameters", "None for each parameter"}

# By public name: the function, right arguments, and for each the wrong-looking values that are right.
CALLS = {
    "checkpoint.from_torch": (checkpoint.from_torch, {
        "state_dict": (torch_state(), set()),
        "convert": (None, FUNCTION - {"a factory"} | NO),
        "names": (["w", "b"], SAME | {"strings", "None"}),
        "tx": (None, {"None"}),
        "framework": (None, {"None"}),
    }),
    "checkpoint.from_keras": (checkpoint.from_keras, {
        "variables": (keras_arrays(), set()),
        "names": (["w", "b"], SAME | {"strings", "shapes", "parameters in another shape"}),
        "convert": (None, {"a function", "None"}),
        "config": (None, {"None", "an empty dict"}),
        "tx": (None, {"None"}),
    }),
    "checkpoint.from_tf1": (checkpoint.from_tf1, {
        "variables": (TF1, set()),
        "convert": (None, {"a function", "None"}),
        "name": ("RMSProp", set()),
        "global_step": ("global_step", {"a string"}),
        "tx": (None, {"None", "a transformation"}),
    }),
    "checkpoint.from_optax": (checkpoint.from_optax, {"opt_state": (THEIRS, set())}),
    "checkpoint.from_sb3": (checkpoint.from_sb3, {
        "path": (__file__, {"a string"}),  # of a file that is not there
        "convert": (None, FUNCTION | {"None", "a class"}),
        "names": (None, SAME | {
            "None", "strings", "an empty list", "an empty dict", "shapes", "a layout", "another model's parameters",
            "parameters in another shape",
        }),
    }),
    "checkpoint.restore": (checkpoint.restore, {
        "state": (STATE, {"a state"}),
        "moments": ({"nu": PARAMS}, {"a state"}),
        "allow_rounding": (False, {"a bool"}),
    }),
    "checkpoint.to_torch": (checkpoint.to_torch, {
        "state": (OURS, {"a state"}),
        "state_dict": (torch_state(), set()),
        "weights": (WEIGHTS, SAME),
        "convert": (None, {"a function", "None"}),
        "count": (3, set()),
        "as_tensor": (None, FUNCTION | {"None", "a class"}),
    }),
    "checkpoint.to_optax": (checkpoint.to_optax, {
        "state": (STATE, {"a state"}),
        "opt_state": (THEIRS, set()),
        "allow_rounding": (False, {"a bool"}),
    }),
    "checkpoint.adapt": (checkpoint.adapt, {
        "old_state": (STATE, {"a state"}),
        "tx": (TX, {"a transformation"}),
        "params": (PARAMS, {"parameters", "complex parameters", "shapes", "parameters in another shape"}),
        "learning_rate": (None, {"None", "a number", "a negative number"}),
        "count": (None, {"None"}),
        "start": ((), {"an empty list"}),
        "allow_rounding": (False, {"a bool"}),
    }),
    "checkpoint.preview": (checkpoint.preview, {
        "old_state": (STATE, {"a state"}),
        "tx": (TX, {"a transformation"}),
        "params": (PARAMS, {"parameters", "complex parameters", "shapes", "parameters in another shape"}),
        "old_tx": (TX, {"a transformation"}),
        "gradients": (PARAMS, LIKE | {"None"}),
        "learning_rate": (None, {"None", "a number", "a negative number"}),
        "count": (None, {"None"}),
        "start": ((), {"an empty list"}),
        "allow_rounding": (False, {"a bool"}),
    }),
    "compression.compressed": (compression.compressed, {
        "tx": (TX, {"a transformation"}), "nu": (RmsByte(), CODEC), "variance": (None, CODEC | NO),
        "mu": (None, CODEC | NO), "trace": (None, CODEC | NO),
    }),
    "compressed.init": (CODED.init, {"params": (PARAMS, TREES)}),
    "compressed.update": (CODED.update, {
        "updates": (PARAMS, LIKE), "state": (CODES, set()),
        "params": (PARAMS, {"parameters", "integer parameters", "shapes", "None", "complex parameters"}),
    }),
    "compression.decompress": (compression.decompress, {
        "state": (CODES, set()), "nu": (RmsByte(), CODEC), "variance": (None, CODEC | NO), "mu": (None, CODEC | NO),
        "trace": (None, CODEC | NO),
    }),
    "compression.recompress": (compression.recompress, {
        "state": (compression.decompress(CODES, nu=RmsByte()), set()), "nu": (RmsByte(), CODEC),
        "variance": (None, CODEC | NO), "mu": (None, CODEC | NO), "trace": (None, CODEC | NO),
    }),
    "compression.with_master_weights": (compression.with_master_weights, {
        "tx": (TX, {"a transformation"}), "low_bits": (16, set()),
    }),
    "with_master_weights.init": (MASTER.init, {"params": (HALF, (TREES | {"None"}) - {"integer parameters"})}),
    "with_master_weights.update": (MASTER.update, {
        "updates": (HALF, LIKE), "state": (LOW, set()), "params": (HALF, set()),
    }),
    "compression.export_weights": (compression.export_weights, {"params": (HALF, set()), "state": (LOW, set())}),
    "compression.import_weights": (compression.import_weights, {
        "weights": (PARAMS, {"parameters"}), "params": (HALF, set()), "state": (LOW, set()),
    }),
    "compression.RmsByte": (RmsByte, {"window": ((-28, 0), set())}),
    "compression.RmsByte.encode": (RmsByte().encode, {"x": (ONES, {"an array"}), "bits": (BITS, set())}),
    "compression.RmsByte.decode": (RmsByte().decode, {"codes": (jnp.zeros(3, jnp.uint8), set())}),
    "compression.RmsNibble.scales": (RmsNibble().scales, {"x": (ONES, {"an array"})}),
    "compression.RmsNibble.encode": (RmsNibble().encode, {
        "x": (ONES, {"an array"}), "bits": (BITS, set()), "scales": (SCALES, set()),
    }),
    "compression.RmsNibble.decode": (RmsNibble().decode, {
        "codes": (jnp.zeros(3, jnp.uint8), set()), "scales": (SCALES, set()),
    }),
    "compression.SignedByte": (SignedByte, {"unit": (1.0, {"a number"}), "relative_to": (None, NO)}),
    "compression.SignedByte.encode": (SignedByte(1.0).encode, {"x": (ONES, {"an array"}), "bits": (BITS, set())}),
    "compression.SignedByte.decode": (SignedByte(1.0).decode, {"codes": (jnp.zeros(3, jnp.int8), set())}),
    "compression.BFloat16.encode": (BFloat16().encode, {"x": (ONES, {"an array"}), "bits": (BITS, set())}),
    "compression.BFloat16.decode": (BFloat16().decode, {"codes": (jnp.zeros(3, jnp.bfloat16), set())}),
    "sharding.state_shardings": (sharding.state_shardings, {
        "tx": (TX, {"a transformation"}), "params": (PARAMS, TREES), "shardings": (HERE, set()),
    }),
}  # fmt: skip
ALSO = {  # what an answer may name in place of the argument
    ("compression.decompress", "nu"): ["state"],
}


LAYERS = {f"layer{i}": {"kernel": jnp.ones((2, 2))} for i in range(300)}
MANY = TX.init(LAYERS)
NAN, NEGATIVE = (PARAMS | {"b": jnp.full(3, x)} for x in (jnp.nan, -1.0))
CENTERED = rmsprop(0.1, centered=True).init(PARAMS)
KERAS = {"o/iteration": 7, "o/learning_rate": np.float32(0.1), "o/w_velocity": np.ones(3, np.float32)}
ENSEMBLE = jax.vmap(rmsprop(lambda count: 0.1).init)({"w": jnp.ones((2, 3))})


def restored(moments, state=STATE):
    return checkpoint.restore(state, moments)


def renamed(tree):
    return {f"other{i}": leaf for i, leaf in enumerate(tree.values())}


def from_torch(**change):
    return checkpoint.from_torch(torch_state() | change, names=["w", "b"])


# What is said of some calls beyond the name of the argument: what differs, what is true, and what to do.
ANSWERS = {
    "a NaN in plain moments": (
        lambda: restored({"nu": NAN}), ValueError, "`nu` at b has values that are not finite.*diverged",
    ),
    "a negative mean square in plain moments": (
        lambda: restored({"nu": NEGATIVE}), ValueError, "`nu` at b has a mean square below 0",
    ),
    "a negative variance in plain moments": (
        lambda: restored({"variance": NEGATIVE, "mu": PARAMS}, CENTERED), ValueError, "`variance` at b .* below 0",
    ),
    "an infinite mean in plain moments": (
        lambda: restored({"variance": PARAMS, "mu": PARAMS | {"w": jnp.full((2, 3), jnp.inf)}}, CENTERED), ValueError,
        "`mu` at w has values that are not finite",
    ),
    "whole numbers for moments": (
        lambda: restored({"nu": PARAMS | {"b": np.ones(3, int)}}), TypeError,
        r"`nu` at b must be floating-point, got int64. Cast it: x.astype\(numpy.float32\)",
    ),
    "strings for moments": (lambda: restored({"nu": {"w": "a", "b": "b"}}), TypeError, "`nu` at . must be an array"),
    "another model's state": (
        lambda: restored(TX.init({"x": jnp.ones(2)})), ValueError,
        "`moments` must be of the parameters of `state`, at 0/nu; missing: b, w; unexpected: x. It is the state of ano",
    ),
    "another model's state without types": (
        lambda: restored({"0": {"nu": {"x": jnp.ones(2)}}}), ValueError,
        "`moments` must be of the parameters of `state`, at 0/nu; missing: b, w; unexpected: x. It is the state of ano",
    ),
    "a model with a new layer": (
        lambda: restored(TX.init({"w": PARAMS["w"]})), ValueError, "missing: b.*checkpoint.adapt has `start`",
    ),
    "a list for a tuple": (
        lambda: restored([STATE[0], *STATE[1:]]), ValueError, "containers than `state`: expected a tuple at its root",
    ),
    "300 other layers": (
        lambda: restored(TX.init(renamed(LAYERS)), MANY), ValueError, "missing: layer0/kernel.* and 295 more; unexpec",
    ),
    "another model's plain moments": (
        lambda: restored({"nu": {"x": jnp.ones(2)}}), ValueError, "`nu` of `moments` must have the leaves of `nu` in",
    ),
    "the right model with other options": (
        lambda: restored(rmsprop(0.1, momentum=0.9).init(PARAMS)), ValueError, "other options: move it with checkp",
    ),
    "None for the parameters": (
        lambda: checkpoint.adapt(STATE, TX, None), ValueError, "`params` must have at least one leaf, got None",
    ),
    "a factory for a transformation": (
        lambda: checkpoint.adapt(STATE, rmsprop, PARAMS), TypeError, "`tx` must be .*Call it: pass what it returns",
    ),
    "a transformation for a state": (
        lambda: checkpoint.adapt(TX, TX, PARAMS), TypeError, "`old_state` must be a state, got a transformation. Pass",
    ),
    "a state for the parameters": (
        lambda: checkpoint.adapt(STATE, TX, STATE), TypeError, "`params` at 0 must be an array .* got a state, ScaleB",
    ),
    "two counts for one run": (
        lambda: checkpoint.adapt(STATE, TX, PARAMS, count=[3, 4]), ValueError,
        r"`params` at b must have the members of an ensemble in front, \(2,\).* got shape \(3,\).*one number",
    ),
    "an ensemble for PyTorch": (
        lambda: checkpoint.to_torch(ENSEMBLE, torch_state(), WEIGHTS), ValueError, "an ensemble of 2",
    ),
    "two counts for PyTorch": (
        lambda: checkpoint.to_torch(OURS, torch_state(), WEIGHTS, count=[1, 2]), ValueError,
        r"`count` must be one whole number, got \[1, 2\]",
    ),
    "a transformation that did not make the state": (
        lambda: checkpoint.preview(STATE, TX, PARAMS, old_tx=rmsprop(0.1, centered=True), gradients=PARAMS), ValueError,
        "`old_tx` must be the transformation that made `old_state`: its init makes .*ScaleByStddevState",
    ),
    "groups that are a word": (lambda: from_torch(param_groups="SGD"), TypeError, "`state_dict` .* got 'SGD'"),
    "statistics in a list": (lambda: from_torch(state=[1, 2]), TypeError, r"`state_dict` .* got \[1, 2\]"),
    "names beside numbers": (
        lambda: from_torch(state={"weight": {}}), ValueError, "`state_dict` numbers its parameters .* has weight",
    ),
    "half a step in a file": (
        lambda: checkpoint.from_tf1(TF1 | {"global_step": 0.5}), ValueError, "`variables` at global_step must be a who",
    ),
    "a function that fails": (
        lambda: checkpoint.from_tf1(TF1, lambda w: w["w"].reshape(4)), ValueError,
        "`convert` must take a dictionary .*called with b, w, it raised ValueError",
    ),
    "a function that returns no arrays": (
        lambda: checkpoint.from_tf1(TF1, lambda w: {"w": "w"}), TypeError, "`convert` must return a tree of arrays",
    ),
    "the name of Adam for an RMSprop": (
        lambda: checkpoint.from_keras(KERAS, ["w"], config={"name": "adam"}), ValueError,
        "`config` must be that of an RMSprop, got that of adam",
    ),
    "Adam's numbers": (
        lambda: checkpoint.from_keras(KERAS, ["w"], config={"beta_1": 0.9}), ValueError, "`config` must .* got beta_1",
    ),
    "a momentum in words": (
        lambda: checkpoint.from_keras(KERAS, ["w"], config={"rho": 0.9, "momentum": "0.9"}), ValueError,
        "`config` must have a number from 0 as momentum, got '0.9'",
    ),
    "half an accumulation": (
        lambda: checkpoint.from_keras(KERAS, ["w"], config={"rho": 0.9, "gradient_accumulation_steps": 0.5}),
        ValueError, "`config` must have a whole number from 1 as gradient_accumulation_steps, got 0.5",
    ),
    "a file that is not a zip file": (
        lambda: checkpoint.from_sb3(__file__), ValueError, "`path` must be the zip file that `agent.save` wrote",
    ),
    "an integer low half": (
        lambda: compression.export_weights({"x": HALF["w"]}, LOW), ValueError,
        "`params` must have the structure of `state.low`; missing: b, w; unexpected: x",
    ),
    "None for a weight": (
        lambda: compression.import_weights(PARAMS | {"w": None}, HALF, LOW), ValueError, "`weights` at w .*got None",
    ),
    "complex weights": (
        lambda: compression.import_weights(jax.tree.map(lambda p: p + 0j, PARAMS), HALF, LOW), TypeError,
        "`weights` at b is complex64.* imaginary part would be lost",
    ),
    "dither of another shape": (
        lambda: RmsByte().encode(ONES, jnp.zeros(4, jnp.uint32)), ValueError, r"`bits` must .*`x`, \(3,\), or be a sca",
    ),
    "shardings of another tree": (
        lambda: sharding.state_shardings(TX, PARAMS, {"x": HERE}), ValueError,
        "`shardings` must .* or be a prefix of it; `params` has b, w, and `shardings` x. One for all will do",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call", ANSWERS)
def test_an_answer_says_what_is_true_and_what_to_do(call):
    assert_answered(*ANSWERS[call])


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments]
)
def test_a_wrong_value_is_answered_by_a_sentence_that_names_the_argument(name, argument):
    function, arguments = CALLS[name]
    assert faults(function, arguments, argument, ALSO.get((name, argument), ())) == {}


@pytest.mark.parametrize("name", [name for name in CALLS if not name.endswith(".update")])  # it takes extra arguments
def test_a_misspelt_missing_or_surplus_argument_is_answered_by_the_right_name(name):
    function, arguments = CALLS[name]
    assert misnamed(name.partition(".")[2], function, arguments) == []


def test_every_public_function_and_method_is_called_wrong_in_ten_ways():
    # A report is a dictionary that `adapt` returns, and two codecs have no arguments.
    without = ["checkpoint.Report", "compression.BFloat16", "compression.RmsNibble"]
    names = public(checkpoint, compression, sharding, without=without)
    few = {name: rows_of(CALLS[name][1]) if name in CALLS else 0 for name in names}
    assert {name: n for name, n in few.items() if n < 10} == {}
