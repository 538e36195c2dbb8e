"""What a preset of CURaTe fixes besides policy and stages: the dialogues to learn from."""

import dataclasses

from experiments.common.runs.settings import Preset

__all__ = ["CuratePreset", "TurnsOption"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CuratePreset(Preset):
    """One complete setting of CURaTe.

    Stages are called "language" (talking, reading and writing notes, from random parameters), "sft"
    (imitation of good answers) and "rl".
    """

    training_pairs: int = 2400  # generated dialogues to learn from, each with its control twin
    test_pairs: int = 200  # of validation and of test, likewise
    hazards: int | None = None  # of each category that the generated dialogues are about; or all
    data_seed: int = 0  # of the generated dialogues
    own_turns: bool = False  # earlier answers are the start's own in reinforcement learning


@dataclasses.dataclass(frozen=True)
class TurnsOption:
    """The option that CURaTe adds to every command of a run."""

    own_turns: bool | None = None
    """Reinforcement learning behind the start's own earlier answers, or behind those given."""

    def apply(self, preset: CuratePreset) -> CuratePreset:
        """The preset with that choice; as it is where none is made."""
        if self.own_turns is None:
            return preset
        return dataclasses.replace(preset, own_turns=self.own_turns)
