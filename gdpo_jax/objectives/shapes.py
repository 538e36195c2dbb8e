"""What the functions of this package require of their arrays, checked when they are traced."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from gdpo_jax.errors import UserError

_MASKS = ("mask", "old_kl_tokens")


def check_shapes(**arrays: Any) -> None:
    """Arrays that belong together element by element, by their argument names; None is left out.

    Raises UserError unless all have one shape with at least one axis, and masks are boolean: an
    array `[N]` would else be broadcast along tokens wherever N happens to equal their number.
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    shapes = {name: np.shape(array) for name, array in given.items()}
    first, expected = next(iter(shapes.items()))
    if not expected:
        raise UserError(f"{first} is a scalar; it needs one entry for each token, [..., C]")
    for name, shape in shapes.items():
        if shape != expected:
            raise UserError(
                f"{name} has shape {list(shape)}, but {first} has {list(expected)}: both need one "
                "entry for each token"
            )
    for name in _MASKS:
        if name in given and jnp.result_type(given[name]) != jnp.bool_:
            raise UserError(
                f"{name} must be boolean, got {jnp.result_type(given[name])}; compare it, as in "
                f"{name} > 0"
            )
