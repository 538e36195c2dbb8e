"""What a preset fixes: data, tokenizer, policy, and both training stages, in one frozen record."""

import dataclasses
import json
from typing import Literal

from experiments.saferec.oracle.catalogue import OracleOptions
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL, Convention
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig, LoraConfig
from gdpo_jax.training import (
    MeshConfig,
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
)

Level = Literal["rank", "sequence"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedStage:
    """One stage of imitation."""

    run: SFTConfig
    optimizer: OptimizerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedStart:
    """A published language model in place of the base stage, and what is trained of it.

    After a stage with adapters they are merged, and the next stage starts from the sum with fresh
    adapters or none, so that the reference policy of reinforcement learning is the imitating one.
    """

    model: str | None = None  # "smollm2", a folder or a GGUF file; None asks for --model-dir
    sft_lora: LoraConfig | None = None  # adapters of supervised stages; None trains everything
    rl_lora: LoraConfig | None = None  # adapters of reinforcement learning
    dtype: str = "float32"  # of the matrix products; parameters are float32
    remat: str = "layer"  # what the backward pass computes again


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfficialRewards:
    """The rewards of the published code (`rewards.official_sequence`, `official_item`)."""

    lambda_safe: float = 1.0  # price of a violation
    lambda_count: float = 0.0  # of the count reward, which 0 leaves out
    target: int = 10  # films that the count reward asks for
    num_ranks: int = 20  # ranks that the rewards look at
    length_shaping: float = 0.0  # size of the additions that ask for num_ranks lines, per rank only


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One complete setting of the experiment; the arms differ only in what `arms.py` says."""

    name: str  # as given to --preset
    list_length: int = 10  # films asked for, and the target of the count reward
    risks_shown: int = 2  # left-out films that the reasoning block names
    vocab_size: int = 2048  # upper bound; the tokenizer is trained on the training split
    decoder: DecoderConfig  # of the embedded policy (its vocab_size follows) or of a dry run
    max_new_tokens: int = 104  # longest completion, stop token included
    base: SupervisedStage | None = None  # reading and film titles, from random parameters
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
    pretrained: PretrainedStart | None = None  # the policy before the first stage, if published
    official: OfficialRewards | None = None  # rewards and metrics of the published code, or None
    oracle: OracleOptions = OracleOptions()  # what violates, in training and in the metrics
    mesh: MeshConfig | None = None  # of all devices; None puts them all on the data axis

    def stage(self, arm: str) -> SupervisedStage:
        """The settings of a supervised arm. Raises UserError for one the preset lacks."""
        stages = {"base": self.base, "sft": self.sft, "safe-sft": self.safe_sft}
        if stages[arm] is None:
            raise UserError(f"preset {self.name!r} has no stage {arm!r}")
        return stages[arm]

    @property
    def num_ranks(self) -> int:
        """Ranks with credit of their own: the films asked for, and the place behind the last."""
        return self.list_length + 1 if self.official is None else self.official.num_ranks

    @property
    def convention(self) -> Convention:
        """Of oracle and metrics."""
        return FIXED if self.official is None else OFFICIAL

    def with_level(self, level: Level) -> "Preset":
        """The same preset at another level of credit."""
        ratio = "segment" if level == "rank" else "sequence"
        return dataclasses.replace(
            self, level=level, objective=dataclasses.replace(self.objective, level=ratio)
        )

    def to_json(self) -> dict:
        """A JSON-ready copy, stored in the run folder; devices may change between runs."""
        return json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(self, mesh=None))))


__all__ = ["Level", "OfficialRewards", "Preset", "PretrainedStart", "SupervisedStage"]
