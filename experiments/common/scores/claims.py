"""The claims of the papers held against the numbers of a run.

A verdict goes by the means over seeds, and says in how many single seeds the claim holds as well.
"""

import math
from typing import NamedTuple

from experiments.common.scores.results import Results
from experiments.saferec.arms import arm_named
from experiments.saferec.evaluation.claims import CLAIMS, MissingNumber, Value


class Verdict(NamedTuple):
    """A claim against the numbers; `holds` is None if an arm it speaks of was not scored."""

    claim: str
    holds: bool | None
    numbers: str


def verdicts(results: Results) -> list[Verdict]:
    """Every claim held against the means over seeds."""
    found = []
    for claim, test in CLAIMS:
        try:
            holds, numbers = test(_reader(results, None))
        except MissingNumber as missing:
            found.append(Verdict(claim, None, str(missing)))
            continue
        agreeing = []
        for seed in results.seeds if len(results.seeds) > 1 else ():
            try:
                agreeing.append(test(_reader(results, seed))[0])
            except MissingNumber:
                continue
        if agreeing:
            numbers += f"; holds in {sum(agreeing)} of {len(agreeing)} seeds"
        found.append(Verdict(claim, holds, numbers))
    return found


def _reader(results: Results, seed: int | None) -> Value:
    def value(name: str, metric: str) -> float:
        arm = results.arm(name)
        if arm is None or (seed is not None and seed not in arm.seeds):
            raise MissingNumber(f"{arm_named(name).title} was not scored")
        if seed is None:
            number = arm.mean(metric)
        else:
            by_seed = dict(zip(arm.seeds, arm.values.get(metric, ())))
            number = by_seed.get(seed, math.nan)
        if math.isnan(number):
            raise MissingNumber(f"{arm.title} has no {results.metrics.get(metric, metric)}")
        return number

    return value


__all__ = ["Verdict", "verdicts"]
