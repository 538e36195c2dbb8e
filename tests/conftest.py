"""Eight fake CPU devices, strict promotion, fresh keys: set before any backend starts."""

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import jaxlib

# XLA on CPU may start the independent collectives of a program in any order, each holding a thread
# until all fake devices have come, so that they wait for each other for ever: in their order, then,
# and with more threads than programs in flight need. Processes that tests start inherit both.
_ORDERED = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ORDERED}".strip()
os.environ.setdefault("PJRT_NPROC", "64")

# Compilation dominates the suite: it goes with little effort, and programs are kept for all tests,
# for all workers, which inherit the folder, and for the processes that tests start. Command lines
# find that folder as well, so that the user's cache folder stays as it is.
if "PYTEST_XDIST_WORKER" in os.environ:
    _PROGRAMS = os.environ["JAX_COMPILATION_CACHE_DIR"]
else:
    _PROGRAMS = tempfile.mkdtemp(prefix="gdpo_jax_programs_")
    atexit.register(shutil.rmtree, _PROGRAMS, ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = _PROGRAMS
# Smaller ones take as long to store and find as to compile.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
# One piece a program: compiled by several threads it takes a seventh more of the cores, which the
# other workers need.
os.environ["XLA_FLAGS"] += " --xla_cpu_parallel_codegen_split_count=1"
# As gdpo_jax.compilation.compile_quickly, which cannot be imported before annotations are checked.
if jaxlib.version.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

# Processes that tests start find the project, and collect garbage rarely (sitecustomize.py).
_TESTS = Path(__file__).parent
_FOUND = [str(_TESTS / "processes"), str(_TESTS.parent), os.environ.get("PYTHONPATH")]
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _FOUND))
# One thread each for NumPy's products: the cores are busy, and idle threads of OpenBLAS spin.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

# Also where there is an accelerator; test_accelerators.py says how to test that one.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

import pytest  # noqa: E402

# Tracing makes many objects that live on, which Python's collector would visit again and again: a
# sixth of the time of tests/advantages/test_references.py. It runs less often, therefore, and what
# was imported is left out.
gc.set_threshold(500_000, 50, 1000)

# A file maps 3,300 at most. All programs of the suite are some 35,000 maps a worker, and 6 GiB.
MOST_MAPS = 40_000


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Compiled programs of finished files go: each maps memory, and Linux ends a process that holds
    65,530 maps (`vm.max_map_count`), in the middle of a compilation.
    """
    maps = Path("/proc/self/maps")
    if nextitem is None or nextitem.path == item.path or not maps.exists():
        return
    if maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


def pytest_collection_finish(session):
    gc.freeze()


def pytest_sessionfinish(session):
    """Pytest looks for garbage twice at the end, seconds each among millions of objects that stay:
    it finds what is younger than those.
    """
    gc.collect(1)
    gc.freeze()


def pytest_unconfigure(config):
    """A worker ends at once: to take apart what it compiled would be seconds of work."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        atexit.register(os._exit, 0)


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: otherwise one worker may end with such a file while the
    others have nothing left. For the same reason the rest goes backwards: those of training, last
    by name, take the longest.
    """
    place = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    first = {
        path: number if path in slow else len(place) * 2 - number for path, number in place.items()
    }
    items.sort(key=lambda item: first[item.path])


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
