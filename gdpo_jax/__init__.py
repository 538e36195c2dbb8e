"""Group reward-decoupled policy optimization as pure functions (GDPO, arXiv 2601.05242).

`open_model`, `optimize`, `imitate` and `answer` are the way in (`gdpo_jax.recipe`). The packages
below, from the lowest: `advantages` and `objectives` (arrays only), `policies` and
`data`, `rollouts`, `training`. A module imports from lower packages only; `experiments` stands
above all.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdpo_jax.advantages import chain, gdpo, grpo
    from gdpo_jax.recipe import answer, imitate, open_model, optimize

__version__ = "0.1.0"

__all__ = ["__version__", "answer", "chain", "gdpo", "grpo", "imitate", "open_model", "optimize"]

# Imported when first used: whoever takes `gdpo_jax.advantages` alone need not load the trainer.
_MODULES = {
    "gdpo_jax.advantages": ("chain", "gdpo", "grpo"),
    "gdpo_jax.recipe": ("answer", "imitate", "open_model", "optimize"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
