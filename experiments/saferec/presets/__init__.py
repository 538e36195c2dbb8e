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
from experiments.saferec.settings import SafeRecPreset

__all__ = ["PRESETS"]

_FILES = (mini, smoke, smollm2, smollm2_cpu, qwen25_05b, llama32_3b, llama31_8b)
PRESETS: dict[str, SafeRecPreset] = {file.PRESET.name: file.PRESET for file in _FILES}
