"""The digits classifier in Equinox: filter the arrays, and RMSprop never sees the activation function."""

import sys

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_optax import rmsprop

images, labels = load_digits(return_X_y=True)
data = train_test_split(images.astype(np.float32) / 16, labels, test_size=0.2, random_state=0, stratify=labels)
x_train, x_test, y_train, y_test = data  # as in digits.py
tx = rmsprop(0.008, momentum=0.5)


@eqx.filter_jit
def train_step(model, state, x, y):
    def loss_fn(model):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    loss, grads = eqx.filter_value_and_grad(loss_fn)(model)
    updates, state = tx.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
    return eqx.apply_updates(model, updates), state, loss


model = eqx.nn.MLP(64, 10, width_size=64, depth=1, key=jax.random.key(0))
state = tx.init(eqx.filter(model, eqx.is_inexact_array))
rng = np.random.default_rng(0)
for _ in range(20 if "--quick" in sys.argv else 300):
    batch = rng.integers(len(x_train), size=64)
    model, state, loss = train_step(model, state, x_train[batch], y_train[batch])
accuracy = (jax.vmap(model)(x_test).argmax(-1) == y_test).mean()
print(f"loss {loss:.3f}, test accuracy {accuracy:.1%}")
