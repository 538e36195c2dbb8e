"""Prompts to completions to reward values: the jitted sampler, the engine protocol, the calls of
reward functions.
"""

from gdpo_jax.rollouts.checks import check_positions
from gdpo_jax.rollouts.completions import Completion, decode_completions
from gdpo_jax.rollouts.engine import Engine, jax_engine
from gdpo_jax.rollouts.records import Rollout, SamplerConfig
from gdpo_jax.rollouts.reward_functions import RewardError, RewardFunction, named_reward
from gdpo_jax.rollouts.rewards import score
from gdpo_jax.rollouts.sampler import sample
from gdpo_jax.rollouts.trl_rewards import trl_reward

__all__ = [
    "Completion",
    "Engine",
    "RewardError",
    "RewardFunction",
    "Rollout",
    "SamplerConfig",
    "check_positions",
    "decode_completions",
    "jax_engine",
    "named_reward",
    "sample",
    "score",
    "trl_reward",
]
