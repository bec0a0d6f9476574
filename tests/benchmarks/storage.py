"""Bytes a parameter, counted from shapes and dtypes: parameters, gradients and state, here and in other libraries."""

import math

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import rmsprop
from rmsprop_optax.compression import BFloat16, RmsByte, RmsNibble, SignedByte, compressed, with_master_weights

SHAPE, LEAVES = (512, 512), 4


def ours():
    """Name the combinations: the transformation, and whether parameters and gradients are bfloat16."""
    byte = compressed(rmsprop(1e-3), nu=RmsByte())
    nibble = compressed(rmsprop(1e-3), nu=RmsNibble())
    mean = SignedByte(relative_to="nu")
    momentum, centered = rmsprop(1e-3, momentum=0.9, lr_in_momentum=False), rmsprop(1e-3, centered=True)
    return {
        "rmsprop": (rmsprop(1e-3), False),
        "rmsprop, `nu` in bfloat16": (compressed(rmsprop(1e-3), nu=BFloat16()), False),
        "rmsprop, `nu` in a byte": (byte, False),
        "rmsprop, `nu` in a byte, bfloat16 parameters + 16 bits": (with_master_weights(byte), True),
        "rmsprop, `nu` in a byte, bfloat16 parameters + 8 bits": (with_master_weights(byte, low_bits=8), True),
        "rmsprop, `nu` in a byte, bfloat16 parameters + 0 bits": (with_master_weights(byte, low_bits=0), True),
        "rmsprop, `nu` in half a byte": (nibble, False),
        "rmsprop, `nu` in half a byte, bfloat16 parameters + 8 bits": (with_master_weights(nibble, low_bits=8), True),
        "rmsprop with momentum": (momentum, False),
        "rmsprop with momentum, both in bytes": (compressed(momentum, nu=RmsByte(), trace=SignedByte(1.0)), False),
        "rmsprop with momentum, a byte and bfloat16": (compressed(momentum, nu=RmsByte(), trace=BFloat16()), False),
        "rmsprop, centered": (centered, False),
        "rmsprop, centered, both in bytes": (compressed(centered, variance=RmsByte(), mu=mean), False),
        "optax.adam, both in bytes": (compressed(optax.adam(1e-3), nu=RmsByte(), mu=mean), False),
        "optax.rmsprop": (optax.rmsprop(1e-3), False),
        "optax.rmsprop, bfloat16 parameters, rounded to nearest": (optax.rmsprop(1e-3), True),
        "optax.adam": (optax.adam(1e-3), False),
    }


def run():
    return {"rows": rows()}


def rows():
    """Return, for each combination, the bytes a parameter of parameters, gradients and state."""
    found = {name: _row(*_arrays(tx, low)) for name, (tx, low) in ours().items()}
    for add in (_torch, _bitsandbytes, _flashoptim):
        try:
            found |= add()
        except ImportError as error:
            print(f"left out: {error}")
    return found


def _row(params, state):
    size = LEAVES * math.prod(SHAPE)
    each = [sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays if x.ndim) / size for arrays in (params, state)]
    return {"parameters": each[0], "gradients": each[0], "state": each[1]}


def _arrays(tx, low):
    """Return what a step takes and leaves, as shapes and dtypes: nothing is computed."""
    one = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16 if low else jnp.float32)
    params = {str(i): one for i in range(LEAVES)}
    _, state = jax.eval_shape(tx.update, params, jax.eval_shape(tx.init, params), params)
    return jax.tree.leaves(params), jax.tree.leaves(state)


def _torch():
    import torch

    return {
        "torch.optim.RMSprop": _torch_row(torch.optim.RMSprop, torch.float32),
        "torch.optim.RMSprop, bfloat16 parameters, rounded to nearest": _torch_row(torch.optim.RMSprop, torch.bfloat16),
    }


def _bitsandbytes():
    import bitsandbytes
    import torch

    return {"bitsandbytes RMSprop8bit": _torch_row(bitsandbytes.optim.RMSprop8bit, torch.float32)}


def _torch_row(make, dtype):
    """Count after one step; the map of 256 values that bitsandbytes shares among all leaves is left out."""
    import torch

    params = [torch.nn.Parameter(torch.ones(SHAPE, dtype=dtype)) for _ in range(LEAVES)]
    optimizer = make(params, lr=1e-3)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    arrays = [x for p in params for name, x in optimizer.state[p].items() if "qmap" not in name]
    return _row(params, [x for x in arrays if isinstance(x, torch.Tensor)])


def _flashoptim():
    from flashoptim_jax import flash_adam

    found = {}
    for name, dtype, bits in (
        ("flashoptim-jax flash_adam (it has no RMSprop)", jnp.float32, None),
        ("flashoptim-jax flash_adam, bfloat16 parameters + 8 bits", jnp.bfloat16, 24),
        ("flashoptim-jax flash_adam, bfloat16 parameters + 16 bits", jnp.bfloat16, 32),
    ):
        params = {str(i): jnp.ones(SHAPE, dtype) for i in range(LEAVES)}
        state = flash_adam(1e-3, master_weight_bits=bits).init(params)
        found[name] = _row(jax.tree.leaves(params), jax.tree.leaves(state))
    return found
