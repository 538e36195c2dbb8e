"""Does an answer refuse? Published string rules, rules about English, a rubric, and a policy's
own probability of refusing; and how far judges agree with people."""

from experiments.common.judges.refusals.agreement import (
    Figures,
    compare_with_people,
    print_figures,
)
from experiments.common.judges.refusals.cases import Answered
from experiments.common.judges.refusals.completions import Labelled, read_completions
from experiments.common.judges.refusals.labels import (
    FULL_COMPLIANCE,
    FULL_REFUSAL,
    LABELS,
    PARTIAL_REFUSAL,
)
from experiments.common.judges.refusals.openings import OPENINGS, refusal_log_prob
from experiments.common.judges.refusals.rubric import rubric_judge
from experiments.common.judges.refusals.rules import judge_refusal, refusal_label, rules_judge
from experiments.common.judges.refusals.string_rules import phrase_rule, prefix_rule

__all__ = [
    "FULL_COMPLIANCE",
    "FULL_REFUSAL",
    "LABELS",
    "OPENINGS",
    "PARTIAL_REFUSAL",
    "Answered",
    "Figures",
    "Labelled",
    "compare_with_people",
    "judge_refusal",
    "phrase_rule",
    "prefix_rule",
    "print_figures",
    "read_completions",
    "refusal_label",
    "refusal_log_prob",
    "rubric_judge",
    "rules_judge",
]
