"""Trees of arrays that tests compare."""

import jax
import numpy as np


def norm(tree):
    """The root of the sum of all squares, in NumPy: it compiles nothing."""
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree)))
