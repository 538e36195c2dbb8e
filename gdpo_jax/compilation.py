"""Less time spent on compiling: programs kept on disk, and a quicker compiler on the CPU."""

import importlib.util
import os
from pathlib import Path

import jax
import jaxlib

__all__ = ["compile_quickly", "keep_programs"]

# XLA had two ways to write the loops of fused operations for the CPU. The older one compiles faster
# (scripts/bench_compile.py); releases from 0.11 on have one, and stop at a flag unknown to them.
_LOOPS = "--xla_cpu_use_fusion_emitters"
_TWO_WAYS_BEFORE = (0, 11)


def compile_quickly() -> None:
    """Asks XLA for CPU programs that compile quickly, where it has a choice.

    For programs of one's own, before JAX starts its backend; importing the library changes nothing.
    What the user put into XLA_FLAGS comes first. Where libtpu is installed nothing is asked: it
    reads the same flags, and may know others.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    known = jaxlib.version.__version_info__ < _TWO_WAYS_BEFORE
    if known and _LOOPS not in flags and importlib.util.find_spec("libtpu") is None:
        os.environ["XLA_FLAGS"] = f"{flags} {_LOOPS}=false".strip()


def keep_programs() -> Path | None:
    """Turns JAX's persistent compilation cache on for this process; returns where it lies.

    For command lines, before the first program compiles; importing the library changes nothing.
    That is the folder JAX was given already (JAX_COMPILATION_CACHE_DIR), or `gdpo_jax/programs` in
    the user's cache folder ($XDG_CACHE_HOME, or ~/.cache). None, and nothing is kept, if
    JAX_ENABLE_COMPILATION_CACHE is false or the folder cannot be made.
    """
    if not jax.config.jax_enable_compilation_cache:
        return None
    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    try:
        folder = _user_cache() / "gdpo_jax" / "programs"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        # A home that is read-only or missing is no reason to stop: programs compile each time.
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _user_cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"
