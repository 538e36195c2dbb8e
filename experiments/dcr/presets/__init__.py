"""Presets by name; each file opens with what it reproduces, its command, cost and numbers."""

from experiments.dcr.presets import llama3_8b, mini, qwen25_7b, qwen25_15b, smoke, smollm2
from experiments.dcr.settings import DcrPreset

__all__ = ["PRESETS"]

_FILES = (mini, smoke, smollm2, qwen25_15b, qwen25_7b, llama3_8b)
PRESETS: dict[str, DcrPreset] = {file.PRESET.name: file.PRESET for file in _FILES}
