"""The digits classifier in Flax Linen, with a TrainState."""

import sys

import jax
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rmsprop_optax import rmsprop

images, labels = load_digits(return_X_y=True)
data = train_test_split(images.astype(np.float32) / 16, labels, test_size=0.2, random_state=0, stratify=labels)
x_train, x_test, y_train, y_test = data  # as in digits.py


class Classifier(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x)))


@jax.jit
def train_step(state, x, y):
    def loss_fn(params):
        return optax.softmax_cross_entropy_with_integer_labels(state.apply_fn(params, x), y).mean()

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


model = Classifier()
params = model.init(jax.random.key(0), x_train[:1])
state = TrainState.create(apply_fn=model.apply, params=params, tx=rmsprop(0.008, momentum=0.5))
rng = np.random.default_rng(0)
for _ in range(20 if "--quick" in sys.argv else 300):
    batch = rng.integers(len(x_train), size=64)
    state, loss = train_step(state, x_train[batch], y_train[batch])
accuracy = (model.apply(state.params, x_test).argmax(-1) == y_test).mean()
print(f"loss {loss:.3f}, test accuracy {accuracy:.1%}")
