"""Who judges, on the command line: the rules, or the published rubric through an endpoint."""

import dataclasses
from typing import Literal

from experiments.common.judges.endpoint_options import (
    JudgeEndpoint,
    open_judge_model,
    refuse_endpoint_options,
)
from experiments.common.judges.judging import Judging
from experiments.curate.judging import rubric
from experiments.curate.judging.judges import rubric_judging, rules_judging

__all__ = ["JudgeOptions", "open_judge"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeOptions(JudgeEndpoint):
    """Who judges."""

    by: Literal["rules", "rubric"] = "rules"
    """rules asks nobody; rubric asks a model, so give it --judge.url and --judge.model."""
    max_new_tokens: int = rubric.LIMITS.max_new_tokens
    """Of a verdict, at most."""
    temperature: float = rubric.LIMITS.temperature
    """Of a verdict."""


def open_judge(options: JudgeOptions) -> Judging:
    """The judge that the options name.

    Raises UserError for a rubric without an endpoint, options of an endpoint without a rubric, and
    a key variable that is not set.
    """
    if options.by == "rules":
        refuse_endpoint_options(options, JudgeOptions())
        return rules_judging()
    return rubric_judging(open_judge_model(options), options.limits())
