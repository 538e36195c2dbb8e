"""Rewards -> advantages: an algebra of small pure transforms, composed as optax composes gradients.

gdpo    = chain(group_normalize(), weigh(w), combine(), batch_normalize())
grpo    = chain(weigh(w), combine(), group_normalize())
dr_grpo = chain(weigh(w), combine(), group_center())
rloo    = chain(weigh(w), leave_one_out(), combine())
gated   = chain(condition("length", on="correct", at_least=1.0), gdpo())
gd2po   = chain(group_normalize(), weigh(w), drop_conflicts(), combine(), batch_normalize())
"""

from gdpo_jax.advantages.adaptive import weigh_by_saturation, weigh_by_variation
from gdpo_jax.advantages.algebra import chain, compute_advantages, per_sample_diagnostics
from gdpo_jax.advantages.constraints import LagrangianState, lagrangian
from gdpo_jax.advantages.conventions import CONVENTIONS, Convention
from gdpo_jax.advantages.descriptions import describe
from gdpo_jax.advantages.filters import (
    advantage_varies,
    any_reward_varies,
    condition,
    drop_conflicts,
    drop_silent_groups,
    reward_varies,
    weighted_sum_varies,
)
from gdpo_jax.advantages.mixing import divide_by_correlation, weigh_by_group_deviation
from gdpo_jax.advantages.presets import (
    ESTIMATORS,
    constrained_grpo,
    corpo,
    corr_grpo,
    dr_grpo,
    dvao,
    gd2po,
    gdpo,
    grpo,
    mo_grpo,
    papo,
    rank_grpo,
    reinforce_pp,
    rloo,
    sa_mrpo,
    saw,
)
from gdpo_jax.advantages.records import (
    Advantages,
    AdvantageTransform,
    Flow,
    RewardBatch,
    record,
    reward_batch,
    stateless,
)
from gdpo_jax.advantages.resolution import set_resolution
from gdpo_jax.advantages.shaping import (
    append_reward,
    mask_samples,
    overlong_penalty,
    subtract_penalty,
)
from gdpo_jax.advantages.stages import (
    batch_center,
    batch_normalize,
    clip,
    combine,
    fill_missing,
    group_center,
    group_normalize,
    leave_one_out,
    leave_one_out_normalize,
)
from gdpo_jax.advantages.weights import FixedWeights, ScheduledWeights, weigh

__all__ = [
    "CONVENTIONS",
    "ESTIMATORS",
    "AdvantageTransform",
    "Advantages",
    "Convention",
    "FixedWeights",
    "Flow",
    "LagrangianState",
    "RewardBatch",
    "ScheduledWeights",
    "advantage_varies",
    "any_reward_varies",
    "append_reward",
    "batch_center",
    "batch_normalize",
    "chain",
    "clip",
    "combine",
    "compute_advantages",
    "condition",
    "constrained_grpo",
    "corpo",
    "corr_grpo",
    "describe",
    "divide_by_correlation",
    "dr_grpo",
    "drop_conflicts",
    "drop_silent_groups",
    "dvao",
    "fill_missing",
    "gd2po",
    "gdpo",
    "group_center",
    "group_normalize",
    "grpo",
    "lagrangian",
    "leave_one_out",
    "leave_one_out_normalize",
    "mask_samples",
    "mo_grpo",
    "overlong_penalty",
    "papo",
    "per_sample_diagnostics",
    "rank_grpo",
    "record",
    "reinforce_pp",
    "reward_batch",
    "reward_varies",
    "rloo",
    "sa_mrpo",
    "saw",
    "set_resolution",
    "stateless",
    "subtract_penalty",
    "weigh",
    "weigh_by_group_deviation",
    "weigh_by_saturation",
    "weigh_by_variation",
    "weighted_sum_varies",
]
