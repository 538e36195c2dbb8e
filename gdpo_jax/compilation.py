"""Compiled programs on disk, so that the next process need not compile them again."""

import os
from pathlib import Path

import jax

__all__ = ["keep_programs"]


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
