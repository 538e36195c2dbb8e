"""Presets by name; each file opens with what it reproduces, its command, cost and numbers."""

from experiments.saferec.presets import (
    llama31_8b,
    llama32_3b,
    mini,
    qwen25_05b,
    smoke,
    smollm2,
    smollm2_cpu,
)
from experiments.saferec.settings import Preset
from gdpo_jax.errors import UserError

__all__ = ["PRESETS", "preset_named"]

_FILES = (mini, smoke, smollm2, smollm2_cpu, qwen25_05b, llama32_3b, llama31_8b)
PRESETS: dict[str, Preset] = {file.PRESET.name: file.PRESET for file in _FILES}


def preset_named(name: str) -> Preset:
    """The preset of that name. Raises UserError with the legal names."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; legal: {', '.join(PRESETS)}")
    return PRESETS[name]
