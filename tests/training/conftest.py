"""Compilation dominates these tests: programs are kept, and compiled with little effort."""

import os
import sys
from pathlib import Path

import jax
import pytest

# `toy` is shared with the processes that some tests start.
sys.path.insert(0, str(Path(__file__).parent))

_QUICK = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_disable_most_optimizations": True,
}


@pytest.fixture(scope="session")
def program_cache(tmp_path_factory) -> Path:
    """A folder of compiled programs that this session's processes share."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="package", autouse=True)
def _quick_programs(program_cache):
    before = {name: jax.config.values[name] for name in (*_QUICK, "jax_compilation_cache_dir")}
    for name, value in {**_QUICK, "jax_compilation_cache_dir": str(program_cache)}.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def process_environment(program_cache) -> dict[str, str]:
    """Environment of a fresh Python that compiles as this session does."""
    names = {name.upper(): str(value) for name, value in _QUICK.items()}
    return {**os.environ, **names, "JAX_COMPILATION_CACHE_DIR": str(program_cache)}
