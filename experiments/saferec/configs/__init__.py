"""Presets by name; each file opens with what it reproduces, its command, cost and numbers."""

from experiments.saferec.configs import mini, smoke
from experiments.saferec.settings import Preset
from gdpo_jax.errors import UserError

__all__ = ["PRESETS", "preset_named"]

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (mini.PRESET, smoke.PRESET)}


def preset_named(name: str) -> Preset:
    """The preset of that name. Raises UserError with the legal names."""
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}; legal: {', '.join(PRESETS)}")
    return PRESETS[name]
