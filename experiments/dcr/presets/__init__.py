"""Presets by name; each file opens with what it reproduces, its command, cost and numbers."""

from experiments.dcr.presets import mini, smoke
from experiments.dcr.settings import DcrPreset

__all__ = ["PRESETS"]

PRESETS: dict[str, DcrPreset] = {file.PRESET.name: file.PRESET for file in (mini, smoke)}
