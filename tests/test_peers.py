"""PyTorch's own list of settings for its RMSprop, walked by its optimizer and by our dialect: pytest -m upstream.

`torch.testing._internal.common_optimizers` comes with PyTorch and needs `pip install expecttest`. PyTorch's test suite
runs each of its checks with every setting in that list.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rmsprop_optax import dialects

SHAPES = {"matrix": (5, 3), "vector": (7,), "scalar": (), "empty": (0, 2)}
DTYPES = {"float32": 1e-6, "float64": 1e-12, "complex64": 2e-6, "complex128": 1e-12}


def settings():
    """Return PyTorch's entry for RMSprop: its settings and what it refuses."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("expecttest")
    from torch.testing._internal.common_optimizers import optim_db

    (entry,) = [entry for entry in optim_db if entry.optim_cls is torch.optim.RMSprop]
    return torch, entry


def trees(dtype, steps=20):
    """Return parameters and a list of gradients whose sizes span six orders of magnitude."""
    rng = np.random.default_rng(0)

    def tree(scale):
        whole = {name: rng.normal(size=(2, *shape)) * scale for name, shape in SHAPES.items()}
        return {name: (x[0] + 1j * x[1] if "complex" in dtype else x[0]).astype(dtype) for name, x in whole.items()}

    return tree(1), [tree(10 ** rng.uniform(-3, 3)) for _ in range(steps)]


@pytest.mark.upstream
@pytest.mark.parametrize("implementation", ["for-loop", "foreach"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_setting_that_pytorch_tests_takes_its_path(dtype, implementation):
    torch, entry = settings()
    start, grads = trees(dtype)
    cases = entry.optim_inputs_func(device=torch.device("cpu"))
    assert {key for case in cases for key in case.kwargs} >= {"lr", "maximize", "momentum", "centered", "weight_decay"}
    for case in cases:
        theirs = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in start.items()}
        optimizer = torch.optim.RMSprop(theirs.values(), **case.kwargs, foreach=implementation == "foreach")
        with jax.enable_x64(True):
            tx = dialects.torch_rmsprop(**case.kwargs)
            ours = jax.tree.map(jnp.asarray, start)
            state, update = tx.init(ours), jax.jit(tx.update)
            for step, g in enumerate(grads):
                before = {name: p.detach().numpy().copy() for name, p in theirs.items()}
                for name, p in theirs.items():
                    p.grad = torch.tensor(g[name])
                optimizer.step()
                updates, state = update(jax.tree.map(jnp.asarray, g), state, jax.tree.map(jnp.asarray, before))
                for name, p in theirs.items():
                    moved = p.detach().numpy() - before[name]
                    largest = max(np.max(np.abs(before[name]), initial=0), np.max(np.abs(moved), initial=0))
                    away = np.max(np.abs(np.asarray(updates[name]) - moved), initial=0)
                    assert away <= DTYPES[dtype] * largest, (case.desc, step, name)


@pytest.mark.upstream
def test_what_pytorch_refuses_of_its_numbers_is_refused():
    torch, entry = settings()
    refused = [case.optimizer_error_input for case in entry.optim_error_inputs_func(device="cpu", dtype=torch.float32)]
    numbers = [{k: np.asarray(v) if torch.is_tensor(v) else v for k, v in case.kwargs.items()} for case in refused]
    numbers = [kwargs for kwargs in numbers if kwargs]  # the others are about PyTorch's groups of parameters
    assert len(numbers) >= 2
    for kwargs in numbers:
        with pytest.raises(ValueError, match=f"`{next(k for k in kwargs if k != 'lr' or len(kwargs) == 1)}` must be"):
            dialects.torch_rmsprop(**kwargs)
