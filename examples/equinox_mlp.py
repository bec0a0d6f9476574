"""The digits classifier in Equinox: filter the arrays, and RMSprop never sees the activation function."""

import equinox as eqx
import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

from rmsprop_optax import rmsprop

images, labels = load_digits(return_X_y=True)
images = images.astype(np.float32) / 16
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
for _ in range(300):
    batch = rng.integers(1500, size=64)
    model, state, loss = train_step(model, state, images[batch], labels[batch])
accuracy = (jax.vmap(model)(images[1500:]).argmax(-1) == labels[1500:]).mean()
print(f"loss {loss:.3f}, test accuracy {accuracy:.1%}")
