"""What a preset of CURaTe fixes besides policy and stages: how many dialogues there are."""

import dataclasses

from experiments.common.runs.settings import Preset

__all__ = ["CuratePreset"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CuratePreset(Preset):
    """One complete setting of CURaTe.

    Stages are called "language" (talking, reading and writing notes, from random parameters), "sft"
    (imitation of good answers) and "rl".
    """

    training_pairs: int = 2400  # generated dialogues to learn from, each with its control twin
    test_pairs: int = 200  # of validation and of test, likewise
    data_seed: int = 0  # of the generated dialogues
