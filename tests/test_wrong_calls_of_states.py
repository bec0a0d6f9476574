"""`checkpoint`, `compression` and `sharding`, called wrong: each answer is a sentence that names the argument."""


import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from kit.foreign_states import keras_arrays, torch_state
from kit.wrong_arguments import PARAMS, STATE, TREES, TX, faults, public, rows_of

from rmsprop_optax import checkpoint, compression, dialects, sharding
from rmsprop_optax.compression import BFloat16, RmsByte, SignedByte

HALF = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
CODED, MASTER = compression.compressed(TX, nu=RmsByte()), compression.with_master_weights(TX)
CODES, LOW = CODED.init(PARAMS), MASTER.init(HALF)
OURS, THEIRS = dialects.torch_rmsprop().init(PARAMS), optax.rmsprop(0.1).init(PARAMS)
WEIGHTS = {"w": np.ones((2, 3)), "b": np.ones(3)}
TF1 = {f"{w}{slot}": np.ones(3, np.float32) for w in ("w", "b") for slot in ("", "/RMSProp", "/RMSProp_1")}
HERE = NamedSharding(jax.make_mesh((1,), ("x",)), PartitionSpec())
ONES, BITS = jnp.ones(3), jnp.zeros(3, jnp.uint32)

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
        "path": (__file__, {"a string"}),
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


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name, (_, arguments) in CALLS.items() for argument in arguments]
)
def test_a_wrong_value_is_answered_by_a_sentence_that_names_the_argument(name, argument):
    function, arguments = CALLS[name]
    assert faults(function, arguments, argument, ALSO.get((name, argument), ())) == {}


def test_every_public_function_and_method_is_called_wrong_in_ten_ways():
    names = [name for module in (checkpoint, compression, sharding) for name in public(module)]
    few = {name: rows_of(CALLS[name][1]) if name in CALLS else 0 for name in names}
    assert {name: n for name, n in few.items() if n < 10} == {}
