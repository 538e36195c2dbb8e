"""The smallest data set of persona leakage, made once."""

import pytest

from experiments.persona_leakage.commands.data import data
from experiments.persona_leakage.presets import PRESETS


@pytest.fixture(scope="session")
def persona_data(tmp_path_factory):
    """A folder with `data`, of the preset smoke, and `log.jsonl`."""
    folder, preset = tmp_path_factory.mktemp("persona"), PRESETS["smoke"]
    names = ("ordinary", "of_each", "sessions", "writers")
    sizes = {name: getattr(preset, name) for name in names}
    data(folder / "data", **sizes, seed=preset.data_seed, log=folder / "log.jsonl")
    return folder
