"""What a user writes, for mypy and pyright, which .ci/run calls: both must find nothing here."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportMissingTypeStubs=false

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import compression, rmsprop, scale_by_rms
from rmsprop_optax.compression import (
    BFloat16,
    Codec,
    RmsByte,
    RmsNibble,
    ScaledCodec,
    SignedByte,
    compressed,
    with_master_weights,
)


@dataclasses.dataclass(frozen=True)
class Half:
    """A codec of a user's own."""

    dtype = jnp.float16
    signed = True
    scale_free = False
    relative_to = "nu"

    def encode(self, x: jax.Array, bits: jax.Array) -> jax.Array:
        return x.astype(jnp.float16)

    def decode(self, codes: jax.Array) -> jax.Array:
        return codes.astype(jnp.float32)


codecs: list[Codec] = [RmsByte(), RmsByte((-24, 4)), SignedByte(1e-3), SignedByte(relative_to="nu"), BFloat16(), Half()]
scaled: ScaledCodec = RmsNibble()
transformations: list[optax.GradientTransformationExtraArgs] = [
    compressed(rmsprop(1e-3), nu=RmsByte()),
    compressed(rmsprop(optax.constant_schedule(1e-3), momentum=0.9), nu=BFloat16(), trace=SignedByte(unit=1e-3)),
    compressed(scale_by_rms(centered=True), variance=RmsByte(), mu=Half()),
    compressed(scale_by_rms(), nu=scaled),
    with_master_weights(compressed(optax.adam(1e-3), nu=RmsByte(), mu=codecs[3]), low_bits=8),
]


def train(tx: optax.GradientTransformation, params: optax.Params) -> optax.Params:
    state = tx.init(params)
    updates, state = tx.update(params, state, params)
    compression.decompress(state, nu=RmsByte(), mu=codecs[3])
    compression.export_weights(params, state)
    return optax.apply_updates(params, updates)


if TYPE_CHECKING:  # what they must find; an ignored error that is not there is one
    compressed(rmsprop(1e-3), nu="RmsByte")  # type: ignore[arg-type]
    compressed(rmsprop(1e-3), rho=RmsByte())  # type: ignore[call-arg]
    SignedByte("learning rate")  # type: ignore[arg-type]
    codecs.append(RmsNibble())  # type: ignore[arg-type]
