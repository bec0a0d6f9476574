"""PyTorch's own tests of its RMSprop, run on ours: a pytest plugin, and the files to name beside it.

    TORCH_TESTS=pytorch/test pytest -p torch_suite $(python tests/torch_suite.py)

PyTorch's class keeps its arguments, its groups and its state, and leaves each step of the for-loop implementation to
`dialects.torch_rmsprop`. The implementation that is called foreach stays PyTorch's: a test compares the two. The tests
are not in PyTorch's wheel. TORCH_TESTS names the folder `test` of a copy of its source.
"""

import functools
import os
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.optim import rmsprop
from torch.testing._internal import common_utils

from rmsprop_optax import dialects

NAMES = {"square_avg": "nu", "grad_avg": "mu", "momentum_buffer": "trace"}


def files():
    """Return the path of PyTorch's tests of all optimizers; it imports those of differentiable ones."""
    return [str(pathlib.Path(os.environ["TORCH_TESTS"]) / "test_optim.py")]


def parts_squared(x):
    """Square a number, or each part of a complex one, as PyTorch does."""
    return jax.lax.complex(x.real**2, x.imag**2) if jnp.iscomplexobj(x) else x**2


@functools.cache
def step(names, **numbers):
    """Return a step of our dialect from PyTorch's moments to PyTorch's moments."""

    @jax.jit
    def from_theirs(lr, p, g, *values):
        tx = dialects.torch_rmsprop(lr, **numbers)
        ours = {NAMES[name]: value for name, value in zip(names, values, strict=True)}
        if "mu" in ours:
            ours["variance"] = ours.pop("nu") - parts_squared(ours["mu"])
        updates, state = tx.update(g, optax.tree.set(tx.init(p), **ours), p)
        ours = {name: optax.tree.get(state, name) for name in ours}
        if "mu" in ours:
            ours["nu"] = ours.pop("variance") + parts_squared(ours["mu"])
        return p + updates, *(ours[NAMES[name]] for name in names)

    return from_theirs


class Step(torch.autograd.Function):
    """A step that PyTorch can differentiate, where an optimizer was made with `differentiable=True`."""

    @staticmethod
    def forward(ctx, function, differentiable, *tensors):
        with jax.enable_x64(True):
            arrays = [jnp.asarray(t.detach().resolve_conj().numpy()) for t in tensors]
            out, ctx.pull = jax.vjp(function, *arrays) if differentiable else (function(*arrays), None)
        return tuple(torch.as_tensor(np.array(x)) for x in out)

    @staticmethod
    def backward(ctx, *cotangents):
        with jax.enable_x64(True):
            grads = ctx.pull(tuple(jnp.asarray(c.numpy()) for c in cotangents))
        return None, None, *(torch.as_tensor(np.array(g)) for g in grads)


def single_tensor(params, grads, square_avgs, grad_avgs, momentum_buffer_list, state_steps, *, lr, **options):
    """Step as PyTorch's function of this name, in place."""
    numbers = {name: options[name] for name in ("alpha", "eps", "weight_decay", "momentum", "centered", "maximize")}
    kept = {"square_avg": square_avgs, "grad_avg": grad_avgs, "momentum_buffer": momentum_buffer_list}
    kept = {name: tensors for name, tensors in kept.items() if tensors}
    function = functools.partial(step(tuple(kept), **numbers), float(lr))
    for i, (p, g, count) in enumerate(zip(params, grads, state_steps, strict=True)):
        count += 1
        theirs = [p, *(tensors[i] for tensors in kept.values())]
        for old, new in zip(theirs, Step.apply(function, options["differentiable"], p, g, *theirs[1:]), strict=True):
            old.copy_(new)


def pytest_configure(config):
    rmsprop._single_tensor_rmsprop = single_tensor
    common_utils.gradcheck = functools.partial(common_utils.gradcheck, check_batched_grad=False)  # JAX has its own vmap


def pytest_collection_modifyitems(config, items):
    """Deselect the tests of other optimizers."""
    others = [item for item in items if not re.search("_rmsprop", item.name, re.IGNORECASE)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


if __name__ == "__main__":
    print(" ".join(files()))
