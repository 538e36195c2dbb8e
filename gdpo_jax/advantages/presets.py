"""The estimators by name, each a composition of stages that could be written out by hand."""

from typing import Any, Literal

from gdpo_jax.advantages.algebra import chain
from gdpo_jax.advantages.conventions import Convention, find_convention
from gdpo_jax.advantages.records import AdvantageTransform, Flow
from gdpo_jax.advantages.stages import (
    batch_normalize,
    combine,
    fill_missing,
    group_center,
    group_normalize,
    leave_one_out,
    leave_one_out_normalize,
)
from gdpo_jax.advantages.weights import Weights, weigh


def gdpo(
    weights: Weights = None,
    *,
    convention: str | Convention = "paper",
    dead_groups: Literal["count", "leave_out"] = "count",
) -> AdvantageTransform:
    """GDPO (arXiv 2601.05242, eq. 4-7): normalise each reward in its group, weigh, add, normalise
    the batch.

    With per-item rewards `[B, G, K, R]` this is rank-level GDPO: z per rank and reward, one batch
    normalisation over completions and ranks (SafeCRS "version A").
    convention: "paper", "trl", "verl", "nemo", "ms_swift", "nvlabs", or a `Convention`.
    """
    rules = find_convention(convention)
    head = [fill_missing()] if rules.missing == "zero" else []
    if rules.leave_one_out:
        normalize = leave_one_out_normalize(eps=rules.group_eps)
    else:
        normalize = group_normalize(eps=rules.group_eps, lone=rules.lone)
    tail = [fill_missing()] if rules.empty_rows == "zero" else []
    whiten = batch_normalize(
        over=rules.over,
        dead_groups=dead_groups,
        eps=rules.batch_eps,
        variance_eps=rules.variance_eps,
    )
    decoupled = chain(*head, normalize, weigh(weights), combine(), *tail, whiten)
    if rules.single_reward == "gdpo":
        return decoupled
    return _with_one_reward(
        chain(*head, weigh(weights), combine(), group_normalize(eps=rules.group_eps)), decoupled
    )


def grpo(
    weights: Weights = None,
    *,
    scale: Literal["group", "batch", "none"] = "group",
    eps: float = 0.0,
) -> AdvantageTransform:
    """GRPO on the weighted sum of rewards (arXiv 2402.03300, eq. 2 of GDPO).

    scale: divide by the standard deviation of the "group", of the "batch" (arXiv 2508.08221), or by
    nothing. With per-item rewards this is Rank-GRPO (arXiv 2510.20150).
    """
    last = group_normalize(eps=eps) if scale == "group" else group_center(scale=scale, eps=eps)
    return chain(weigh(weights), combine(), last)


def dr_grpo(weights: Weights = None) -> AdvantageTransform:
    """Dr.GRPO (arXiv 2503.20783): weighted sum minus the group's mean; use the "dr_grpo" loss with
    it.
    """
    return chain(weigh(weights), combine(), group_center())


def rloo(weights: Weights = None) -> AdvantageTransform:
    """RLOO (arXiv 2402.14740): weighted sum minus the mean of the group's other completions."""
    return chain(weigh(weights), combine(), leave_one_out())


def _with_one_reward(single: AdvantageTransform, several: AdvantageTransform) -> AdvantageTransform:
    def choose(names: tuple[str, ...]) -> AdvantageTransform:
        return single if len(names) == 1 else several

    def update(flow: Flow, state: Any) -> tuple[Flow, Any]:
        return choose(flow.names).update(flow, state)

    return AdvantageTransform(lambda names: choose(names).init(names), update)
