"""Presets by name; each file opens with what it stands for, its command, cost and numbers."""

from experiments.persona_leakage.presets import mini, smoke
from experiments.persona_leakage.settings import PersonaPreset

__all__ = ["PRESETS"]

_FILES = (mini, smoke)
PRESETS: dict[str, PersonaPreset] = {file.PRESET.name: file.PRESET for file in _FILES}
