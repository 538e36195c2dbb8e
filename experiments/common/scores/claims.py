"""Claims held against the numbers of a run.

A verdict goes by the means over seeds, and says in how many single seeds the claim holds as well.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from experiments.common.scores.results import Results

Value = Callable[[str, str], float]  # of (arm, metric)


class MissingNumber(Exception):
    """An arm or a metric that a claim speaks of has no number."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement and its test: from `value(arm, metric)` to whether it holds and the numbers it
    went by. The same test judges means over seeds and single seeds.
    """

    text: str
    test: Callable[[Value], tuple[bool, str]]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A statement held against the numbers; `holds` is None where they were not made."""

    text: str
    holds: bool | None
    numbers: str


def hold(claims: Sequence[Claim], results: Results) -> tuple[Verdict, ...]:
    """Every claim held against the means over seeds."""
    return tuple(_hold(claim, results) for claim in claims)


def _hold(claim: Claim, results: Results) -> Verdict:
    try:
        holds, numbers = claim.test(_reader(results, None))
    except MissingNumber as missing:
        return Verdict(claim.text, None, str(missing))
    agreeing = []
    for seed in results.seeds if len(results.seeds) > 1 else ():
        try:
            agreeing.append(bool(claim.test(_reader(results, seed))[0]))
        except MissingNumber:
            continue
    if agreeing:
        numbers += f"; holds in {sum(agreeing)} of {len(agreeing)} seeds"
    return Verdict(claim.text, bool(holds), numbers)


def _reader(results: Results, seed: int | None) -> Value:
    labels = {metric.name: metric.label for metric in results.metrics}

    def value(name: str, metric: str) -> float:
        arm = results.arm(name)
        if arm is None or (seed is not None and seed not in arm.seeds):
            raise MissingNumber(f"{results.titles.get(name, name)} was not scored")
        if seed is None:
            number = arm.mean(metric)
        else:
            by_seed = dict(zip(arm.seeds, arm.values.get(metric, ())))
            number = by_seed.get(seed, math.nan)
        if math.isnan(number):
            raise MissingNumber(f"{arm.title} has no {labels.get(metric, metric)}")
        return number

    return value


__all__ = ["Claim", "MissingNumber", "Value", "Verdict", "hold"]
