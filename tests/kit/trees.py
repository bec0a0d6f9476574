"""Two trees side by side: equal to the bit, how far apart, of the same types."""

import jax
import numpy as np


def same(ours, theirs):
    """Say whether two trees are equal bit for bit, dtypes included; their structures must be."""
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


def furthest(ours, theirs):
    """Return the largest difference between two trees."""
    wide = lambda x: np.asarray(x, np.complex128)  # noqa: E731
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(np.max(np.abs(wide(a) - wide(b)), initial=0)) for a, b in pairs)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), tree)
