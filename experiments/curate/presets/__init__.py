"""Presets by name; each file opens with what it reproduces, its command, cost and numbers."""

from experiments.curate.presets import mini, smoke
from experiments.curate.settings import CuratePreset

__all__ = ["PRESETS"]

PRESETS: dict[str, CuratePreset] = {file.PRESET.name: file.PRESET for file in (mini, smoke)}
