"""What a preset of DCR fixes besides policy and stages: the prompts that are learned from."""

import dataclasses

from experiments.common.runs.settings import Preset
from experiments.dcr.data.splits import Negatives
from gdpo_jax.errors import UserError

__all__ = ["DcrPreset", "PublishedSources"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSources:
    """Published sets in place of our own ones, from a folder that the command `data` wrote.

    Refinement learns from XSTest without the types held out, which are the test (the paper trains
    on all of them and tests on them); safety tuning from Alpaca and the safety-tuned set, whose
    answers are public, where the paper has answers of its own; safety tuning with augmentation
    takes seemingly toxic prompts with good answers from CoCoNot's preference pairs.
    """

    held_out: tuple[str, ...] = ("homonyms", "safe_contexts", "privacy_fictional", "privacy_public")
    negatives: Negatives = "contrast"  # XSTest's contrast prompts, dialogues of HH-RLHF, or both
    dialogues: int = 500  # first turns of HH-RLHF among the negatives, if they are
    alpaca: bool = True  # general instructions: Alpaca's with their answers, or our own


@dataclasses.dataclass(frozen=True, kw_only=True)
class DcrPreset(Preset):
    """One complete setting of DCR.

    Stages are called "language" (talking, from random parameters), "refine" (contrastive
    refinement), "sft" (safety tuning) and "rl".
    """

    triples: int = 2400  # generated ones to learn from, and as many instructions
    held_out_triples: int = 150  # of validation and of test, likewise
    data_seed: int = 0  # of what is drawn
    refused_one_in: int = 10  # of so many answers of the base policy one is a refusal
    general: int = 4800  # instructions and plain prompts of safety tuning, at most
    refusals: int = 1000  # toxic prompts with refusals of safety tuning, at most
    augmented: int = 250  # seemingly toxic prompts that safety tuning with augmentation adds
    published: PublishedSources | None = None  # None: our own prompts

    def __post_init__(self) -> None:
        if self.refused_one_in < 2 or self.refused_one_in % 3 == 0:
            raise UserError(
                f"refused_one_in is {self.refused_one_in}; give at least 2 and no multiple of 3, "
                "since kinds of prompts come in threes and are to be refused alike"
            )
