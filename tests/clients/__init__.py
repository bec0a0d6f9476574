"""Programs of other libraries that train with `optax.rmsprop`, and what becomes of them with ours in its place."""
