"""One way to run a transform on plain numbers."""

import jax
import numpy as np
import pytest

from gdpo_jax.advantages import compute_advantages, reward_batch


def _values(transform, rewards, state, lengths):
    return compute_advantages(transform, rewards, state, lengths=lengths)[0].values


# Compile time is what these tests cost; the metrics, which nobody reads here, are compiled away.
_compiled = jax.jit(
    _values, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)


@pytest.fixture
def advantages_of():
    """`(transform, values [B, G, K(, R)], ...) -> advantages`, as NumPy; NaN means missing."""

    def run(transform, values, *, names=None, sample_valid=None, lengths=None, dtype=np.float32):
        values = np.asarray(values, dtype)
        names = names or tuple(f"r{k}" for k in range(values.shape[2]))
        rewards = reward_batch(values, names, sample_valid=sample_valid)
        if lengths is not None:
            lengths = np.asarray(lengths, dtype)
        return np.asarray(_compiled(transform, rewards, transform.init(names), lengths))

    return run
