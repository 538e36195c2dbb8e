"""The smallest data set of persona leakage, made once."""

import pytest

from experiments.persona_leakage.commands.data import data
from experiments.persona_leakage.presets import PRESETS


@pytest.fixture(scope="session")
def persona_data(made_once):
    """A folder with `data`, of the preset smoke, and `log.jsonl`."""
    preset = PRESETS["smoke"]
    names = ("ordinary", "of_each", "sessions", "writers")
    sizes = {name: getattr(preset, name) for name in names}

    def fill(folder):
        data(folder / "data", **sizes, seed=preset.data_seed, log=folder / "log.jsonl")

    return made_once("persona", fill)
