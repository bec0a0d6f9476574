"""RMSprop in a jitted training step: fits a line."""

import jax
import jax.numpy as jnp
import optax

from rmsprop_optax import rmsprop

x = jnp.linspace(-1, 1, 100)
y = 3 * x - 1
params = {"slope": jnp.zeros(()), "intercept": jnp.zeros(())}
tx = rmsprop(learning_rate=0.01)
state = tx.init(params)


@jax.jit
def step(params, state):
    loss, grads = jax.value_and_grad(lambda p: jnp.mean((p["slope"] * x + p["intercept"] - y) ** 2))(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss


for _ in range(400):
    params, state, loss = step(params, state)
print(f"y = {params['slope']:.2f} x + {params['intercept']:.2f}, loss {loss:.1e}")
