"""Train in less memory: moments in half a byte to two bytes each, and bfloat16 parameters without a float32 copy."""

from rmsprop_optax.compression.codecs import BFloat16, Codec, RmsByte, SignedByte
from rmsprop_optax.compression.compressed_moments import CompressedState, compressed, decompress, recompress
from rmsprop_optax.compression.master_weights import (
    DitheredMasterWeightsState,
    DitheredWeightsState,
    MasterWeightsState,
    export_weights,
    import_weights,
    with_master_weights,
)
from rmsprop_optax.compression.nibble import RmsNibble
from rmsprop_optax.compression.scales import ScaledCodec

__all__ = [
    "BFloat16",
    "Codec",
    "CompressedState",
    "DitheredMasterWeightsState",
    "DitheredWeightsState",
    "MasterWeightsState",
    "RmsByte",
    "RmsNibble",
    "ScaledCodec",
    "SignedByte",
    "compressed",
    "decompress",
    "export_weights",
    "import_weights",
    "recompress",
    "with_master_weights",
]


def __dir__() -> list[str]:
    return __all__
