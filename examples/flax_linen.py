"""The digits classifier in Flax Linen, with a TrainState."""

import jax
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

from rmsprop_optax import rmsprop

images, labels = load_digits(return_X_y=True)
images = images.astype(np.float32) / 16


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
params = model.init(jax.random.key(0), images[:1])
state = TrainState.create(apply_fn=model.apply, params=params, tx=rmsprop(0.008, momentum=0.5))
rng = np.random.default_rng(0)
for _ in range(300):
    batch = rng.integers(1500, size=64)
    state, loss = train_step(state, images[batch], labels[batch])
accuracy = (model.apply(state.params, images[1500:]).argmax(-1) == labels[1500:]).mean()
print(f"loss {loss:.3f}, test accuracy {accuracy:.1%}")
