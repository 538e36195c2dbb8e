"""What a preset of persona leakage fixes besides policy and stages: the data to learn from."""

import dataclasses

from experiments.common.runs.settings import Preset

__all__ = ["PersonaPreset"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PersonaPreset(Preset):
    """One complete setting of persona leakage.

    Stages are called "language" (answering anybody, from random parameters), "histories" (imitation
    of conversations) and "rl".
    """

    ordinary: int = 24  # everyday exchanges in each enrolled user's history
    of_each: int = 6  # everyday probes of each user, of validation and of test
    sessions: int = 3  # of each user and split, which the verifier judges
    writers: int = 48  # invented ones on whom the verifier is fitted
    lessons: int = 6000  # examples from which a new policy learns to talk
    data_seed: int = 0  # of what is drawn
