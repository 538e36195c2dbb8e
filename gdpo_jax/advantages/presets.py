"""The estimators by name, each a composition of stages that could be written out by hand.

Equal arguments give one and the same transform (`kept`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from gdpo_jax.advantages.adaptive import weigh_by_saturation, weigh_by_variation
from gdpo_jax.advantages.algebra import chain
from gdpo_jax.advantages.constraints import lagrangian
from gdpo_jax.advantages.conventions import Convention, find_convention
from gdpo_jax.advantages.descriptions import named
from gdpo_jax.advantages.filters import condition, drop_conflicts
from gdpo_jax.advantages.kept import kept
from gdpo_jax.advantages.mixing import divide_by_correlation, weigh_by_group_deviation
from gdpo_jax.advantages.records import AdvantageTransform, Flow
from gdpo_jax.advantages.resolution import Resolution, set_resolution
from gdpo_jax.advantages.stages import (
    batch_center,
    batch_normalize,
    combine,
    fill_missing,
    group_center,
    group_normalize,
    leave_one_out,
    leave_one_out_normalize,
)
from gdpo_jax.advantages.weights import Weights, weigh

Missing = Literal["neutral", "zero"]


@kept
def gdpo(
    weights: Weights = None,
    *,
    convention: str | Convention = "paper",
    dead_groups: Literal["count", "leave_out"] = "count",
    resolution: Resolution = None,
) -> AdvantageTransform:
    """GDPO (arXiv 2601.05242, eq. 4-7): normalise each reward in its group, weigh, add, normalise
    the batch.

    With per-item rewards `[B, G, K, R]` this is rank-level GDPO: z per rank and reward, one batch
    normalisation over completions and ranks (SafeCRS "version A").
    convention: "paper", "trl", "verl", "nemo", "ms_swift", "nvlabs", or a `Convention`.
    resolution: see `set_resolution`; None for the convention's: 8 units in the last place in
    "paper", 0 in the others.
    """
    rules = find_convention(convention)
    if resolution is None:
        resolution = rules.resolution
    head = [fill_missing()] if rules.missing == "zero" else []
    if rules.leave_one_out:
        normalize = leave_one_out_normalize(eps=rules.group_eps, resolution=resolution)
    else:
        normalize = group_normalize(eps=rules.group_eps, lone=rules.lone, resolution=resolution)
    tail = [fill_missing()] if rules.empty_rows == "zero" else []
    whiten = batch_normalize(
        over=rules.over,
        dead_groups=dead_groups,
        eps=rules.batch_eps,
        variance_eps=rules.variance_eps,
    )
    about = named(
        "gdpo", weights=weights, convention=rules, dead_groups=dead_groups, resolution=resolution
    )
    decoupled = chain(*head, normalize, weigh(weights), combine(), *tail, whiten)
    if rules.single_reward == "gdpo":
        return decoupled._replace(description=about)
    last = group_normalize(eps=rules.group_eps)
    single = chain(*head, *_first(resolution), weigh(weights), combine(), last)
    return _with_one_reward(single, decoupled)._replace(description=about)


@kept
def grpo(
    weights: Weights = None,
    *,
    scale: Literal["group", "batch", "none"] = "group",
    eps: float = 0.0,
    missing: Missing = "neutral",
    resolution: Resolution = None,
) -> AdvantageTransform:
    """GRPO on the weighted sum of rewards (arXiv 2402.03300, eq. 2 of GDPO).

    scale: divide by the standard deviation of the "group", of the "batch" (arXiv 2508.08221), or by
    nothing. With per-item rewards this is Rank-GRPO (arXiv 2510.20150).
    missing: a missing reward adds nothing relative to the group ("neutral"), or counts as "zero",
    as in the peers; see `combine`. resolution: see `set_resolution`.
    """
    last = group_normalize(eps=eps) if scale == "group" else group_center(scale=scale, eps=eps)
    options = {"scale": scale, "eps": eps}
    return _summed("grpo", weights, missing, resolution, last, **options)


@kept
def dr_grpo(
    weights: Weights = None, *, missing: Missing = "neutral", resolution: Resolution = None
) -> AdvantageTransform:
    """Dr.GRPO (arXiv 2503.20783): weighted sum minus the group's mean; use the "dr_grpo" loss with
    it. missing, resolution: as in `grpo`.
    """
    last = group_center()
    return _summed("dr_grpo", weights, missing, resolution, last)


@kept
def rloo(
    weights: Weights = None, *, missing: Missing = "neutral", resolution: Resolution = None
) -> AdvantageTransform:
    """RLOO (arXiv 2402.14740): weighted sum minus the mean of the group's other completions.

    Each reward is compared with the others that have it, and the differences are added: with
    complete rewards this is the same, with missing ones no baseline holds a sample's own reward.
    missing, resolution: as in `grpo`.
    """
    if missing == "zero":
        last = leave_one_out()
        return _summed("rloo", weights, missing, resolution, last)
    about = named("rloo", weights=weights, missing=missing, resolution=resolution)
    stages = chain(*_first(resolution), weigh(weights), leave_one_out(), combine())
    return stages._replace(description=about)


@kept
def reinforce_pp(
    weights: Weights = None,
    *,
    baseline: Literal["batch", "group"] = "batch",
    over: Literal["sequences", "tokens"] = "sequences",
    missing: Missing = "neutral",
    resolution: Resolution = None,
) -> AdvantageTransform:
    """REINFORCE++ (arXiv 2501.03262): the weighted sum, whitened over the batch.

    baseline="group" subtracts the group's mean first ("REINFORCE++-baseline"). With the other, a
    reward that a whole group lacks counts there as its mean over the batch.
    missing, resolution: as in `grpo`.
    """
    whiten = batch_normalize(over=over)
    options = {"baseline": baseline, "over": over}
    if baseline == "group":
        whiten = chain(group_center(), whiten)
    elif missing == "neutral":
        about = named(
            "reinforce_pp", weights=weights, missing=missing, resolution=resolution, **options
        )
        stages = chain(*_first(resolution), weigh(weights), batch_center(), combine(), whiten)
        return stages._replace(description=about)
    return _summed("reinforce_pp", weights, missing, resolution, whiten, **options)


@kept
def rank_grpo(
    weights: Weights = None, *, missing: Missing = "neutral", resolution: Resolution = None
) -> AdvantageTransform:
    """Rank-GRPO (arXiv 2510.20150): GRPO of per-item rewards `[B, G, K, R]`, rank by rank.

    The rank-level relative of GDPO is `gdpo` itself on the same rewards. missing, resolution: as in
    `grpo`.
    """
    return grpo(weights, missing=missing, resolution=resolution)


@kept
def mo_grpo(weights: Weights = None, *, resolution: Resolution = None) -> AdvantageTransform:
    """MO-GRPO (arXiv 2509.22047): the sum of z-scores, GDPO without its batch normalisation.

    resolution: see `set_resolution`.
    """
    stages = chain(group_normalize(resolution=resolution), weigh(weights), combine())
    return stages._replace(description=named("mo_grpo", weights=weights, resolution=resolution))


@kept
def papo(
    outcome: str,
    process: str,
    weights: Weights = None,
    *,
    at_least: float = 1.0,
    resolution: Resolution = None,
) -> AdvantageTransform:
    """PAPO (arXiv 2603.26535): `A_out + A_proc`, the process reward normalised over the completions
    alone whose outcome is at least `at_least`. resolution: see `set_resolution`.
    """
    gate = condition(process, on=outcome, at_least=at_least, otherwise="mask")
    about = named(
        "papo",
        outcome=outcome,
        process=process,
        weights=weights,
        at_least=at_least,
        resolution=resolution,
    )
    return chain(gate, mo_grpo(weights, resolution=resolution))._replace(description=about)


@kept
def gd2po(
    weights: Weights = None,
    *,
    mode: Literal["hard", "snr"] = "hard",
    tau: float = 0.2,
    keep_ratio: bool = True,
    over: Literal["sequences", "tokens"] = "sequences",
    resolution: Resolution = None,
) -> AdvantageTransform:
    """GD2PO (arXiv 2606.16771): GDPO without the samples whose rewards conflict; see
    `drop_conflicts`.

    The authors' code whitens over tokens: over="tokens". resolution: see `set_resolution`.
    """
    drop = drop_conflicts(mode, tau=tau, keep_ratio=keep_ratio)
    about = named(
        "gd2po",
        weights=weights,
        mode=mode,
        tau=tau,
        keep_ratio=keep_ratio,
        over=over,
        resolution=resolution,
    )
    stages = _decoupled(resolution, weigh(weights), drop, over=over)
    return stages._replace(description=about)


@kept
def sa_mrpo(
    bounds: Mapping[str, tuple[float, float]],
    weights: Weights = None,
    *,
    gamma: float = 0.5,
    resolution: Resolution = None,
) -> AdvantageTransform:
    """SA-MRPO (arXiv 2608.16072): GDPO whose weights shrink as a reward saturates.

    resolution: see `set_resolution`.
    """
    about = named("sa_mrpo", bounds=bounds, weights=weights, gamma=gamma, resolution=resolution)
    saturation = weigh_by_saturation(bounds, weights, gamma=gamma)
    return _decoupled(resolution, saturation)._replace(description=about)


@kept
def saw(weights: Weights = None, *, resolution: Resolution = None) -> AdvantageTransform:
    """SAW (arXiv 2606.07705): GDPO with weights by each reward's coefficient of variation.

    resolution: see `set_resolution`.
    """
    about = named("saw", weights=weights, resolution=resolution)
    return _decoupled(resolution, weigh_by_variation(weights))._replace(description=about)


@kept
def dvao(weights: Weights = None, *, resolution: Resolution = None) -> AdvantageTransform:
    """DVAO (arXiv 2605.25604): z-scores weighted by their group's deviations; formula uncertain.

    resolution: see `set_resolution`.
    """
    stages = chain(weigh_by_group_deviation(weights, resolution=resolution), combine())
    return stages._replace(description=named("dvao", weights=weights, resolution=resolution))


@kept
def corr_grpo(
    weights: Weights = None, *, eps: float = 1e-6, resolution: Resolution = None
) -> AdvantageTransform:
    """CorrGRPO (arXiv 2609.36820): centred sum over the root of the summed correlations.

    resolution: see `set_resolution`.
    """
    about = named("corr_grpo", weights=weights, eps=eps, resolution=resolution)
    mix = divide_by_correlation(eps=eps)
    stages = chain(*_first(resolution), weigh(weights), mix, combine())
    return stages._replace(description=about)


@kept
def constrained_grpo(
    thresholds: Mapping[str, float],
    *,
    step_size: float,
    weights: Weights = None,
    resolution: Resolution = None,
) -> AdvantageTransform:
    """Constrained GRPO (arXiv 2602.05863): z of rewards minus multiplied z of costs.

    resolution: see `set_resolution`.
    """
    about = named(
        "constrained_grpo",
        thresholds=thresholds,
        step_size=step_size,
        weights=weights,
        resolution=resolution,
    )
    duals = lagrangian(thresholds, step_size=step_size, weights=weights)
    stages = chain(group_normalize(resolution=resolution), duals, combine())
    return stages._replace(description=about)


@kept
def corpo(
    threshold: float,
    weights: Weights = None,
    *,
    missing: Missing = "neutral",
    resolution: Resolution = None,
) -> AdvantageTransform:
    """CoRPO (arXiv 2511.04439): weighted sum minus `max(group mean, threshold)`.

    missing, resolution: as in `grpo`.
    """
    last = group_center(at_least=threshold)
    return _summed("corpo", weights, missing, resolution, last, threshold=threshold)


def _decoupled(
    resolution: Resolution, *stages: AdvantageTransform, over: str = "sequences"
) -> AdvantageTransform:
    """GDPO with other stages between the group's and the batch's normalisation."""
    whiten = batch_normalize(over=over)
    return chain(group_normalize(resolution=resolution), *stages, combine(), whiten)


def _summed(
    name: str,
    weights: Weights,
    missing: Missing,
    resolution: Resolution,
    last: AdvantageTransform,
    **options: Any,
) -> AdvantageTransform:
    """An estimator of the weighted sum of rewards."""
    about = named(name, weights=weights, missing=missing, resolution=resolution, **options)
    stages = chain(*_first(resolution), weigh(weights), combine(missing=missing), last)
    return stages._replace(description=about)


def _first(resolution: Resolution) -> tuple[AdvantageTransform, ...]:
    """In front of the weights, where a resolution is in the units of the rewards."""
    return () if resolution is None else (set_resolution(resolution),)


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
