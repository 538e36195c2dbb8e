"""Who judges, on the command line: rules without a model, or a rubric through an endpoint."""

import dataclasses
from typing import Literal

from experiments.common.judges.endpoint_options import (
    JudgeEndpoint,
    open_judge_model,
    refuse_endpoint_options,
)
from experiments.common.judges.judging import Judging
from experiments.dcr.judges import offline_judging, rubric_judging

__all__ = ["JudgeOptions", "open_judge"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeOptions(JudgeEndpoint):
    """Who judges."""

    by: Literal["rules", "prefix", "phrase", "rubric"] = "rules"
    """rules are the embedded ones, prefix XSTest's and phrase one of its phrases anywhere, none of
    which asks anybody; rubric asks a model, so give it --judge.url and --judge.model."""


def open_judge(options: JudgeOptions) -> Judging:
    """The judge that the options name.

    Raises UserError for a rubric without an endpoint, options of an endpoint without a rubric, and
    a key variable that is not set.
    """
    if options.by == "rubric":
        return rubric_judging(open_judge_model(options), options.limits())
    refuse_endpoint_options(options, JudgeOptions(by=options.by))
    return offline_judging(options.by)
