"""The estimators by name, each a composition of stages that could be written out by hand."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from gdpo_jax.advantages.adaptive import weigh_by_saturation, weigh_by_variation
from gdpo_jax.advantages.algebra import chain
from gdpo_jax.advantages.conditions import condition
from gdpo_jax.advantages.conflicts import drop_conflicts
from gdpo_jax.advantages.constraints import lagrangian
from gdpo_jax.advantages.conventions import Convention, find_convention
from gdpo_jax.advantages.mixing import divide_by_correlation, weigh_by_group_deviation
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


def reinforce_pp(
    weights: Weights = None,
    *,
    baseline: Literal["batch", "group"] = "batch",
    over: Literal["sequences", "tokens"] = "sequences",
) -> AdvantageTransform:
    """REINFORCE++ (arXiv 2501.03262): the weighted sum, whitened over the batch.

    baseline="group" subtracts the group's mean first ("REINFORCE++-baseline").
    """
    head = [group_center()] if baseline == "group" else []
    return chain(weigh(weights), combine(), *head, batch_normalize(over=over))


def rank_grpo(weights: Weights = None) -> AdvantageTransform:
    """Rank-GRPO (arXiv 2510.20150): GRPO of per-item rewards `[B, G, K, R]`, rank by rank.

    The rank-level relative of GDPO is `gdpo` itself on the same rewards.
    """
    return grpo(weights)


def mo_grpo(weights: Weights = None) -> AdvantageTransform:
    """MO-GRPO (arXiv 2509.22047): the sum of z-scores, GDPO without its batch normalisation."""
    return chain(group_normalize(), weigh(weights), combine())


def papo(
    outcome: str, process: str, weights: Weights = None, *, at_least: float = 1.0
) -> AdvantageTransform:
    """PAPO (arXiv 2603.26535): `A_out + A_proc`, the process reward normalised over the completions
    alone whose outcome is at least `at_least`.
    """
    gate = condition(process, on=outcome, at_least=at_least, otherwise="mask")
    return chain(gate, mo_grpo(weights))


def gd2po(
    weights: Weights = None,
    *,
    mode: Literal["hard", "snr"] = "hard",
    tau: float = 0.2,
    keep_ratio: bool = True,
    over: Literal["sequences", "tokens"] = "sequences",
) -> AdvantageTransform:
    """GD2PO (arXiv 2606.16771): GDPO without the samples whose rewards conflict; see
    `drop_conflicts`.

    The authors' code whitens over tokens: over="tokens".
    """
    drop = drop_conflicts(mode, tau=tau, keep_ratio=keep_ratio)
    return chain(group_normalize(), weigh(weights), drop, combine(), batch_normalize(over=over))


def sa_mrpo(
    bounds: Mapping[str, tuple[float, float]], weights: Weights = None, *, gamma: float = 0.5
) -> AdvantageTransform:
    """SA-MRPO (arXiv 2608.16072): GDPO whose weights shrink as a reward saturates."""
    saturation = weigh_by_saturation(bounds, weights, gamma=gamma)
    return chain(group_normalize(), saturation, combine(), batch_normalize())


def saw(weights: Weights = None) -> AdvantageTransform:
    """SAW (arXiv 2606.07705): GDPO with weights by each reward's coefficient of variation."""
    return chain(group_normalize(), weigh_by_variation(weights), combine(), batch_normalize())


def dvao(weights: Weights = None) -> AdvantageTransform:
    """DVAO (arXiv 2605.25604): z-scores weighted by their group's deviations; formula uncertain."""
    return chain(weigh_by_group_deviation(weights), combine())


def corr_grpo(weights: Weights = None, *, eps: float = 1e-6) -> AdvantageTransform:
    """CorrGRPO (arXiv 2609.36820): centred sum over the root of the summed correlations."""
    return chain(weigh(weights), divide_by_correlation(eps=eps), combine())


def constrained_grpo(
    thresholds: Mapping[str, float], *, step_size: float, weights: Weights = None
) -> AdvantageTransform:
    """Constrained GRPO (arXiv 2602.05863): z of rewards minus multiplied z of costs."""
    return chain(
        group_normalize(), lagrangian(thresholds, step_size=step_size, weights=weights), combine()
    )


def corpo(threshold: float, weights: Weights = None) -> AdvantageTransform:
    """CoRPO (arXiv 2511.04439): weighted sum minus `max(group mean, threshold)`."""
    return chain(weigh(weights), combine(), group_center(at_least=threshold))


def _with_one_reward(single: AdvantageTransform, several: AdvantageTransform) -> AdvantageTransform:
    def choose(names: tuple[str, ...]) -> AdvantageTransform:
        return single if len(names) == 1 else several

    def update(flow: Flow, state: Any) -> tuple[Flow, Any]:
        return choose(flow.names).update(flow, state)

    return AdvantageTransform(lambda names: choose(names).init(names), update)


ESTIMATORS: dict[str, Callable[..., AdvantageTransform]] = {
    function.__name__: function
    for function in (
        gdpo,
        grpo,
        dr_grpo,
        rloo,
        reinforce_pp,
        rank_grpo,
        mo_grpo,
        papo,
        gd2po,
        sa_mrpo,
        saw,
        dvao,
        corr_grpo,
        constrained_grpo,
        corpo,
    )
}
