"""Tests over several processes share the toy setting of the training tests."""

import os
import sys
from pathlib import Path

import pytest

TRAINING = Path(__file__).parent.parent / "training"
sys.path.insert(0, str(TRAINING))


@pytest.fixture
def worker_environment(tmp_path) -> dict[str, str]:
    """Environment of a process with the toy setting on its path and little compilation effort."""
    return {
        **os.environ,
        "PYTHONPATH": f"{TRAINING}:{TRAINING.parent.parent}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
