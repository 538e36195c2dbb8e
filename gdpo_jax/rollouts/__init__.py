"""Prompts to completions to reward values: the jitted sampler and the engine protocol."""

from gdpo_jax.rollouts.checks import check_room
from gdpo_jax.rollouts.engine import Engine, jax_engine
from gdpo_jax.rollouts.records import Rollout, SamplerConfig
from gdpo_jax.rollouts.sampler import sample

__all__ = ["Engine", "Rollout", "SamplerConfig", "check_room", "jax_engine", "sample"]
