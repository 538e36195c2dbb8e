"""What a preset fixes: policy, tokenizer and the settings of every stage, in one frozen record."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig, LoraConfig
from gdpo_jax.training import (
    MeshConfig,
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
)
from gdpo_jax.training.config import json_tree

__all__ = ["Imitation", "Optimization", "Preset", "PretrainedStart"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imitation:
    """Settings of a stage that imitates texts."""

    run: SFTConfig  # steps, rows and widths
    optimizer: OptimizerConfig
    lora: LoraConfig | None = None  # adapters that the stage trains; None trains all parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimization:
    """Settings of a stage that follows rewards."""

    run: PolicyOptimizationConfig  # steps, prompts, completions of each and widths
    optimizer: OptimizerConfig
    objective: ObjectiveConfig
    lora: LoraConfig | None = None  # adapters that the stage trains; None trains all parameters


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedStart:
    """A published language model as the start of all arms, in place of random parameters.

    After a stage with adapters they are merged, and the next stage starts from the sum with fresh
    adapters or none, so that the reference policy of reinforcement learning is the imitating one.
    """

    model: str | None = None  # "smollm2", a folder or a GGUF file; None asks for --model-dir
    dtype: str = "float32"  # of the matrix products; parameters are float32
    remat: str = "layer"  # what the backward pass computes again


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One complete setting of an experiment; the arms differ only in what their records say."""

    name: str  # as given to --preset
    decoder: DecoderConfig  # of the new policy (its vocab_size follows) or of a dry run
    stages: Mapping[str, Any]  # settings by the name that stages of arms give
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of rewards, 1 unless
    vocab_size: int = 2048  # upper bound; the tokenizer is trained on the training split
    max_new_tokens: int = 64  # longest completion, stop token included
    evaluation_batch: int = 200  # prompts decoded together when an arm is scored
    samples_every: int = 10  # steps between the sampled groups kept for the report
    pretrained: PretrainedStart | None = None  # the policy before the first stage, if published
    mesh: MeshConfig | None = None  # of all devices; None puts them all on the data axis
    # How long each arm takes beside what it starts from, on the machine that the preset's file
    # names; for the plan at the start of a run.
    minutes: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def stage(self, name: str, kind: type[T]) -> T:
        """The settings of that name. Raises UserError where the preset has none of this kind."""
        found = self.stages.get(name)
        if not isinstance(found, kind):
            legal = [other for other, each in self.stages.items() if isinstance(each, kind)]
            raise UserError(
                f"preset {self.name!r} has no {kind.__name__} settings {name!r}; "
                f"legal: {', '.join(legal) or 'none'}"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready copy for the run folder; devices and times may differ between its runs."""
        kept = dataclasses.asdict(dataclasses.replace(self, mesh=None))
        del kept["minutes"]
        return json_tree(kept)
