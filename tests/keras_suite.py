"""Keras' own tests of its RMSprop, run on ours: a pytest plugin, and the file to name beside it.

    KERAS_BACKEND=jax pytest -p keras_suite $(python tests/keras_suite.py)

Keras' class keeps its arguments and its configuration, and leaves each step to `dialects.keras_rmsprop`.
"""

import functools
import pathlib
import types

import jax.numpy as jnp
import optax
from keras.src.optimizers import rmsprop

from rmsprop_optax import dialects

NUMBERS = ("rho", "momentum", "epsilon", "centered", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm")


def apply_gradients(self, grads_and_vars):
    grads, variables = zip(*grads_and_vars, strict=True)
    params = {str(i): jnp.asarray(v.value) for i, v in enumerate(variables)}
    if not hasattr(self, "ours"):
        self.build(variables)
        numbers = {name: getattr(self, name) for name in NUMBERS}
        make = functools.partial(dialects.keras_rmsprop, float(self.learning_rate), **numbers)
        labels = {str(i): self._use_weight_decay(v) for i, v in enumerate(variables)}
        tx = optax.partition({True: make(), False: make(weight_decay=None)}, labels)
        self.ours = types.SimpleNamespace(tx=tx, state=tx.init(params))  # Keras wraps a dictionary or a tuple
    grads = {str(i): jnp.asarray(g, params[str(i)].dtype) for i, g in enumerate(grads)}
    updates, self.ours.state = self.ours.tx.update(grads, self.ours.state, params)
    for i, v in enumerate(variables):
        v.assign(params[str(i)] + updates[str(i)])


def pytest_configure(config):
    rmsprop.RMSprop.apply_gradients = apply_gradients


if __name__ == "__main__":
    print(pathlib.Path(rmsprop.__file__).with_name("rmsprop_test.py"))
