"""Rewards -> advantages: an algebra of small pure transforms, composed the way optax composes
gradients.

gdpo    = chain(group_normalize(), weigh(w), combine(), batch_normalize())
grpo    = chain(weigh(w), combine(), group_normalize())
dr_grpo = chain(weigh(w), combine(), group_center())
rloo    = chain(weigh(w), combine(), leave_one_out())
gated   = chain(condition("length", on="correct", at_least=1.0), gdpo())
"""

from gdpo_jax.advantages.algebra import (
    chain,
    compute_advantages,
    per_sample_diagnostics,
)
from gdpo_jax.advantages.conditions import condition
from gdpo_jax.advantages.conventions import CONVENTIONS, Convention
from gdpo_jax.advantages.presets import dr_grpo, gdpo, grpo, rloo
from gdpo_jax.advantages.records import (
    Advantages,
    AdvantageTransform,
    Flow,
    RewardBatch,
    record,
    reward_batch,
    stateless,
)
from gdpo_jax.advantages.stages import (
    batch_normalize,
    clip,
    combine,
    fill_missing,
    group_center,
    group_normalize,
    leave_one_out,
    leave_one_out_normalize,
)
from gdpo_jax.advantages.weights import weigh

__all__ = [
    "CONVENTIONS",
    "AdvantageTransform",
    "Advantages",
    "Convention",
    "Flow",
    "RewardBatch",
    "batch_normalize",
    "chain",
    "clip",
    "combine",
    "compute_advantages",
    "condition",
    "dr_grpo",
    "fill_missing",
    "gdpo",
    "group_center",
    "group_normalize",
    "grpo",
    "leave_one_out",
    "leave_one_out_normalize",
    "per_sample_diagnostics",
    "record",
    "reward_batch",
    "rloo",
    "stateless",
    "weigh",
]
