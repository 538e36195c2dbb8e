"""How far two judges, or a judge and people, agree: accuracy, Cohen's kappa, and intervals."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.common.judges.verdict import Label, Verdict
from experiments.common.scores.intervals import wilson
from gdpo_jax.errors import UserError

__all__ = ["Agreement", "agreement"]


@dataclasses.dataclass(frozen=True)
class Agreement:
    """Two judges of the same cases; unread verdicts are counted apart and in nothing else.

    confusion: [labels, labels], rows by the first judge's label, columns by the second's. accuracy
    is the share of equal labels, with its Wilson interval; kappa is Cohen's, unweighted: NaN where
    both give one label throughout. All are NaN for no read cases.
    """

    labels: tuple[Label, ...]
    confusion: np.ndarray
    cases: int  # read by both
    unread: int
    accuracy: float
    interval: tuple[float, float]
    kappa: float


def agreement(
    first: Sequence[Verdict | Label],
    second: Sequence[Verdict | Label],
    *,
    labels: Sequence[Label],
    level: float = 0.95,
) -> Agreement:
    """How far verdicts, or plain labels, of the same cases agree.

    labels: all that there are, in order; give fewer cases to leave a label out. level: of the
    interval. Raises `UserError` for lists of two lengths, and for a label that is none of `labels`.
    """
    if len(first) != len(second):
        raise UserError(f"{len(first)} verdicts and {len(second)}; give both on the same cases")
    places = {label: place for place, label in enumerate(labels)}
    if len(places) < 2 or len(places) != len(labels):
        raise UserError(f"labels={list(labels)}; give at least two, each once")
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    unread = 0
    for n, pair in enumerate(zip(first, second, strict=True)):
        found = [given if isinstance(given, Verdict) else Verdict(given) for given in pair]
        if not all(verdict.read for verdict in found):
            unread += 1
            continue
        for verdict in found:
            if verdict.label not in places:
                raise UserError(f"case {n}: label {verdict.label!r} is none of {list(labels)}")
        confusion[places[found[0].label], places[found[1].label]] += 1
    cases = int(confusion.sum())
    equal = wilson(int(np.trace(confusion)), cases, level=level)
    return Agreement(
        labels=tuple(labels),
        confusion=confusion,
        cases=cases,
        unread=unread,
        accuracy=equal.mean,
        interval=(equal.low, equal.high),
        kappa=_kappa(confusion),
    )


def _kappa(confusion: np.ndarray) -> float:
    """(observed - expected) / (1 - expected) agreement; Cohen, 1960."""
    cases = confusion.sum()
    if not cases:
        return np.nan
    # In whole numbers, so that 1 - expected is 0 exactly where it is.
    expected = int(confusion.sum(0) @ confusion.sum(1))
    total = int(cases) ** 2
    observed = int(np.trace(confusion)) * int(cases)
    return (observed - expected) / (total - expected) if total != expected else np.nan
