"""What a preset of DCR fixes besides policy and stages: the prompts that are learned from."""

import dataclasses
from typing import Any, Literal

from experiments.common.runs.settings import Preset
from experiments.dcr.data.splits import Negatives
from experiments.dcr.refinement import Refinement
from gdpo_jax.errors import UserError
from gdpo_jax.policies import check_layer

__all__ = ["DcrOptions", "DcrPreset", "PublishedSources"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSources:
    """Published sets in place of our own ones, from a folder that the command `data` wrote.

    Refinement learns from XSTest without the types held out, which are the test (the paper trains
    on all of them and tests on them); safety tuning from Alpaca and the safety-tuned set, whose
    answers are public, where the paper has answers of its own; safety tuning with augmentation
    takes seemingly toxic prompts with good answers from CoCoNot's preference pairs.
    """

    held_out: tuple[str, ...] = ("homonyms", "safe_contexts", "privacy_fictional", "privacy_public")
    validation: tuple[str, ...] = ("figurative_language",)  # held out too, for a sweep of settings
    negatives: Negatives = "contrast"  # XSTest's contrast prompts, dialogues of HH-RLHF, or both
    dialogues: int = 500  # first turns of HH-RLHF among the negatives, if they are
    alpaca: bool = True  # general instructions: Alpaca's with their answers, or our own


@dataclasses.dataclass(frozen=True, kw_only=True)
class DcrPreset(Preset):
    """One complete setting of DCR.

    Stages are called "language" (talking, from random parameters), "refine" (contrastive
    refinement), "sft" (safety tuning), "rl", and "steer" and "ablate", which train nothing.
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


@dataclasses.dataclass(frozen=True)
class DcrOptions:
    """The options that DCR adds to every command of a run: of stage one."""

    layer: int | None = None
    """Refinement: behind which layer, counted from 1."""
    pooling: Literal["last", "mean"] | None = None
    """Refinement: of a prompt's hidden states, the last one or their mean."""
    loss: Literal["circle", "info_nce", "supervised", "triplet"] | None = None
    """Refinement: which contrastive loss; circle is the paper's."""
    margin: float | None = None
    """Refinement: m of the circle loss, or the triplet loss's margin."""
    scale: float | None = None
    """Refinement: g of the circle loss."""
    negatives: Negatives | None = None
    """Refinement of published sets: toxic prompts of XSTest (contrast), HH-RLHF, or both."""

    def apply(self, preset: DcrPreset) -> DcrPreset:
        """The preset with these choices; as it is where none is made.

        Raises UserError for negatives of a preset of our own prompts, a layer that a new policy
        does not have, and as `Refinement`.
        """
        given = {name: value for name, value in vars(self).items() if value is not None}
        negatives: Any = given.pop("negatives", None)
        if given:
            refine = dataclasses.replace(preset.stage("refine", Refinement), **given)
            if preset.pretrained is None:
                check_layer(preset.decoder, refine.layer)
            preset = dataclasses.replace(preset, stages={**preset.stages, "refine": refine})
        if negatives is None:
            return preset
        if preset.published is None:
            raise UserError(
                f"--negatives belongs to published sets, and preset {preset.name!r} learns from "
                "our own prompts; leave it out"
            )
        published = dataclasses.replace(preset.published, negatives=negatives)
        return dataclasses.replace(preset, published=published)
