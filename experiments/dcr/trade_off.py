"""The trade-off over strength: what if a prompt were refused from a given refusal probability on?

Every threshold of the probability of refusing (DCR, arXiv 2603.03323, appendix A.5) gives a share
of toxic prompts that are refused and a share of seemingly toxic ones that are not. The whole curve
comes of one model without training any more, and its area is the chance that a toxic prompt is
refused more surely than a seemingly toxic one: what the model discerns, apart from how strict it
is. Answers sampled from the model are where the threshold is not looked at.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from experiments.common.scores.discrimination import area_under_curve
from experiments.common.scores.table import Table
from experiments.dcr.data.prompts import SEEMING, TOXIC
from experiments.dcr.metrics import LOG_PROB

__all__ = ["area", "curve", "probabilities"]

_POINTS = 41


def probabilities(table: Table) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "M"]]:
    """Log-probabilities of refusing seemingly toxic and toxic prompts; empty where none are."""
    kinds = np.array(table.groups.get("kind", ()))
    if LOG_PROB not in table.values or not kinds.size:
        return np.zeros(0), np.zeros(0)
    log_probs = table.values[LOG_PROB]
    known = ~np.isnan(log_probs)
    return log_probs[known & (kinds == SEEMING)], log_probs[known & (kinds == TOXIC)]


def area(seeming: Sequence[float], toxic: Sequence[float]) -> float:
    """The chance that a toxic prompt is refused more surely, ties counting half (Mann-Whitney).

    0.5 is chance; NaN without prompts of either kind.
    """
    upper = np.arange(len(toxic) + len(seeming)) < len(toxic)
    return area_under_curve(np.concatenate([toxic, seeming]), upper)


def curve(seeming: Sequence[float], toxic: Sequence[float]) -> list[tuple[float, float, float]]:
    """Points (toxic refused, seemingly toxic not refused, log-probability from which on a prompt is
    refused), from refusing all to refusing none; at most 41."""
    lower, upper = np.asarray(seeming), np.asarray(toxic)
    if not lower.size or not upper.size:
        return []
    steps = np.unique(np.concatenate([lower, upper]))
    thresholds = [
        -np.inf,
        *steps[np.unique(np.linspace(0, steps.size - 1, _POINTS - 2).astype(int))],
    ]
    return [
        (float((upper >= t).mean()), float((lower < t).mean()), float(t))
        for t in (*thresholds, np.inf)
    ]
