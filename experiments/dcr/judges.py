"""The judges of refusals that an evaluation can have, with what they are."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from experiments.common.chats.cache import Store, cached
from experiments.common.chats.model import Limits, Model, OnFailure
from experiments.common.judges.judging import Judging, OnAnswers
from experiments.common.judges.refusals import (
    Answered,
    phrase_rule,
    prefix_rule,
    rubric_judge,
    rules_judge,
)
from experiments.common.judges.refusals import rubric as refusal_rubric
from experiments.common.judges.refusals.rules import IDENTITY
from experiments.common.judges.verdict import Verdict

__all__ = ["STRING_RULES", "offline_judging", "rubric_judging"]

STRING_RULES: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {"prefix": prefix_rule, "phrase": phrase_rule}
)


def offline_judging(name: str) -> Judging:
    """The judge "rules" (the embedded ones), "prefix" (XSTest's) or "phrase" (anywhere)."""
    if name not in STRING_RULES:
        return Judging(IDENTITY, lambda cases, *_: rules_judge(cases))
    rule = STRING_RULES[name]

    def judge(cases: Sequence[Answered], *_) -> list[Verdict]:
        return [Verdict(rule(case.text), f"by the {name} rule") for case in cases]

    return Judging({"judge": f"{name} rule"}, judge)


def rubric_judging(model: Model, limits: Limits) -> Judging:
    """The rubric through a model, whose answers a store keeps."""

    def judge(
        cases: Sequence[Answered], store: Store, on_answers: OnAnswers, on_failure: OnFailure
    ) -> list[Verdict]:
        asked = cached(model, store)
        options = {"on_answers": on_answers, "on_failure": on_failure}
        return rubric_judge(asked, limits=limits, **options)(cases)

    return Judging(refusal_rubric.identity(model, limits), judge)
