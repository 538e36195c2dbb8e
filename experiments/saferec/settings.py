"""What a preset fixes: data, tokenizer, policy, and both training stages, in one frozen record."""

import dataclasses
import json
from typing import Literal

from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

Level = Literal["rank", "sequence"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedStage:
    """One stage of imitation."""

    run: SFTConfig
    optimizer: OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One complete setting of the experiment; the arms differ only in what `arms.py` says."""

    name: str  # as given to --preset
    list_length: int = 10  # films asked for, and the target of the count reward
    risks_shown: int = 2  # left-out films that the reasoning block names
    vocab_size: int = 2048  # upper bound; the tokenizer is trained on the training split
    decoder: DecoderConfig  # its vocab_size is replaced by the tokenizer's
    max_new_tokens: int = 104  # longest completion, stop token included
    base: SupervisedStage  # reading and film titles, from random parameters
    sft: SupervisedStage  # imitation of the raw teacher, from the base policy
    safe_sft: SupervisedStage  # imitation of the safe targets, from the base policy
    rl: PolicyOptimizationConfig
    rl_optimizer: OptimizerConfig
    level: Level = "rank"  # where rewards, advantages and importance ratios live
    objective: ObjectiveConfig  # its level follows `level`
    relevance_weight: float = 1.0  # weights of the rewards, as in eq. 7 of GDPO
    safety_weight: float = 1.0
    count_weight: float = 1.0
    evaluation_batch: int = 200  # prompts decoded together when an arm is scored
    samples_every: int = 10  # steps between the sampled groups kept for the report

    @property
    def num_ranks(self) -> int:
        """Ranks with credit of their own: the films asked for, and the place behind the last."""
        return self.list_length + 1

    def with_level(self, level: Level) -> "Preset":
        """The same preset at another level of credit."""
        ratio = "segment" if level == "rank" else "sequence"
        return dataclasses.replace(
            self, level=level, objective=dataclasses.replace(self.objective, level=ratio)
        )

    def to_json(self) -> dict:
        """A JSON-ready copy, stored in the run folder."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


__all__ = ["Level", "Preset", "SupervisedStage"]
