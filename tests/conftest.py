"""Eight fake CPU devices, strict promotion, fresh keys: set before any backend starts."""

import gc
import os
from pathlib import Path

# XLA on CPU may start the independent collectives of a program in any order, each holding a thread
# until all fake devices have come, so that they wait for each other for ever: in their order, then,
# and with more threads than programs in flight need. Processes that tests start inherit both.
_ORDERED = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ORDERED}".strip()
os.environ.setdefault("PJRT_NPROC", "64")

# Command lines keep compiled programs in the user's cache folder, which is none of the tests'
# business; and the first one that a test calls would turn that on for all tests after it.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

# Also where there is an accelerator; test_accelerators.py says how to test that one.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

import pytest  # noqa: E402

MOST_MAPS = 10_000


@pytest.fixture(autouse=True, scope="module")
def _drop_programs():
    """Compiled programs of finished files go: each maps memory, and Linux ends a process that holds
    65,530 maps (`vm.max_map_count`), in the middle of a compilation.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def getkey():
    """A function that returns a new PRNG key at each call, from a fixed seed."""
    root = jax.random.key(20260105)
    count = 0

    def next_key():
        nonlocal count
        count += 1
        return jax.random.fold_in(root, count)

    return next_key
