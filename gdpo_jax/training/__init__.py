"""State, steps and loops of training, on any mesh and any number of processes."""

from gdpo_jax.training.advantage_step import make_advantage_step
from gdpo_jax.training.checkpoints import Checkpoints
from gdpo_jax.training.config import PolicyOptimizationConfig, SFTConfig
from gdpo_jax.training.evaluation import Evaluation
from gdpo_jax.training.integrity import fingerprint
from gdpo_jax.training.loop import run_policy_optimization
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    MeshConfig,
    ShardingRules,
    batch_sharding,
    batch_shards,
    check_batch,
    make_mesh,
    process_share,
    replicated,
    shardings_for,
    to_global,
    to_local,
)
from gdpo_jax.training.metrics import MetricWriter, read_metrics
from gdpo_jax.training.optimizers import OptimizerConfig, learning_rate_schedule, make_optimizer
from gdpo_jax.training.policy_step import PolicyBatch, make_log_prob_step, make_policy_step
from gdpo_jax.training.processes import agreed_maximum, together
from gdpo_jax.training.progress import Progress
from gdpo_jax.training.restoring import restore_params, stored_config
from gdpo_jax.training.rollout_mesh import mesh_engine
from gdpo_jax.training.run import NonFiniteLossError
from gdpo_jax.training.scoring import StepSample
from gdpo_jax.training.sft import run_sft
from gdpo_jax.training.sft_step import SFTBatch, make_sft_step
from gdpo_jax.training.state import TrainState, create_state, state_shardings
from gdpo_jax.training.user_clipping import UserClipping

__all__ = [
    "DEFAULT_RULES",
    "Checkpoints",
    "Evaluation",
    "MeshConfig",
    "MetricWriter",
    "NonFiniteLossError",
    "OptimizerConfig",
    "PolicyBatch",
    "PolicyOptimizationConfig",
    "Progress",
    "SFTBatch",
    "SFTConfig",
    "ShardingRules",
    "StepSample",
    "TrainState",
    "UserClipping",
    "agreed_maximum",
    "batch_sharding",
    "batch_shards",
    "check_batch",
    "create_state",
    "fingerprint",
    "learning_rate_schedule",
    "make_advantage_step",
    "make_log_prob_step",
    "make_mesh",
    "make_optimizer",
    "make_policy_step",
    "make_sft_step",
    "mesh_engine",
    "process_share",
    "read_metrics",
    "replicated",
    "restore_params",
    "run_policy_optimization",
    "run_sft",
    "shardings_for",
    "state_shardings",
    "stored_config",
    "to_global",
    "to_local",
    "together",
]
