"""One way to run a transform on plain numbers."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from gdpo_jax.advantages import compute_advantages, reward_batch

# `plain_numpy` is shared by several modules.
sys.path.insert(0, str(Path(__file__).parent))


def _values(transform, rewards, state, lengths):
    return compute_advantages(transform, rewards, state, lengths=lengths)[0].values


# Compile time is what these tests cost; the metrics, which nobody reads here, are compiled away.
_compiled = jax.jit(
    _values, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)


PADDED_PROMPTS, PADDED_SAMPLES = 4, 9


@pytest.fixture
def advantages_of():
    """`(transform, values [B, G, K(, R)], ...) -> advantages`, as NumPy; NaN means missing.

    pad adds masked members, which change nothing (that is tested on its own), so that tests of
    different sizes share one compiled function. Not for conventions that let missing rewards vote.
    """

    def run(transform, values, *, sample_valid=None, lengths=None, dtype=np.float32, pad=True):
        values = np.asarray(values, dtype)
        prompts, samples = values.shape[:2]
        room = (PADDED_PROMPTS - prompts, PADDED_SAMPLES - samples) if pad else (0, 0)
        margin = [(0, extra) for extra in room]
        values = np.pad(values, margin + [(0, 0)] * (values.ndim - 2), constant_values=np.nan)
        if sample_valid is not None:
            sample_valid = np.pad(np.asarray(sample_valid), margin)
        if lengths is not None:
            lengths = np.pad(np.asarray(lengths, dtype), margin)
        names = tuple(f"r{k}" for k in range(values.shape[2]))
        rewards = reward_batch(values, names, sample_valid=sample_valid)
        found = np.asarray(_compiled(transform, rewards, transform.init(names), lengths))
        assert np.all(found[prompts:] == 0) and np.all(found[:, samples:] == 0)
        return found[:prompts, :samples]

    return run
