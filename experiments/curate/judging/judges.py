"""The judges that an evaluation can have: the rules, or the rubric through a model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.common.chats.cache import Store, cached
from experiments.common.chats.model import Answer, Limits, Model, OnFailure
from experiments.common.judges.verdict import Verdict
from experiments.curate.judging import rubric, rules
from experiments.curate.judging.judged import Judged

__all__ = ["Judging", "rubric_judging", "rules_judging"]

OnAnswers = Callable[[Sequence[Answer]], None]


@dataclasses.dataclass(frozen=True)
class Judging:
    """A judge with what it is.

    identity: JSON values that distinguish its verdicts from another judge's. judge: gives verdicts
    of `Judged`; a store keeps what a model has answered, `OnAnswers` gets those answers, and
    `OnFailure` what the model did not answer.
    """

    identity: Mapping[str, Any]
    judge: Callable[[Sequence[Judged], Store, OnAnswers, OnFailure], list[Verdict]]


def rules_judging() -> Judging:
    """The judge by rules, which asks nobody."""
    return Judging(rules.IDENTITY, lambda judged, *_: rules.rules_judge(judged))


def rubric_judging(model: Model, limits: Limits = rubric.LIMITS) -> Judging:
    """The published rubric through a model."""

    def judge(
        judged: Sequence[Judged], store: Store, on_answers: OnAnswers, on_failure: OnFailure
    ) -> list[Verdict]:
        return rubric.rubric_judge(
            cached(model, store), limits=limits, on_answers=on_answers, on_failure=on_failure
        )(judged)

    return Judging(rubric.identity(model, limits), judge)
