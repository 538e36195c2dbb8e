"""Who judges answers on published data, on the command line."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from experiments.common.judges.endpoint_options import (
    JudgeEndpoint,
    open_judge_model,
    refuse_endpoint_options,
)
from experiments.common.judges.judging import Judging
from experiments.persona_leakage.published.judges import rubric_judging, rules_judging

__all__ = ["JudgeOptions", "open_judge"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeOptions(JudgeEndpoint):
    """Who judges."""

    by: Literal["rules", "rubric"] = "rules"
    """rules ask nobody: whether a message states a value (CIMemories) and whether an answer refuses
    (U-SafeBench); rubric asks a model as the authors do, so give it --judge.url and --judge.model.
    PersistBench has no rules."""
    max_new_tokens: int = 1024
    """Of a verdict, at most."""


def open_judge(options: JudgeOptions, parts: Sequence[str]) -> Judging:
    """The judge that the options name, of requests of these parts.

    Raises UserError for parts that no rules judge, a rubric without an endpoint, options of an
    endpoint without a rubric, and a key variable that is not set.
    """
    if options.by == "rubric":
        return rubric_judging(open_judge_model(options), options.limits(), parts)
    judging = rules_judging(parts)
    refuse_endpoint_options(options, JudgeOptions())
    return judging
