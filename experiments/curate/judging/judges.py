"""The judges that an evaluation can have: the rules, or the rubric through a model."""

from collections.abc import Sequence

from experiments.common.chats.cache import Store, cached
from experiments.common.chats.model import Limits, Model, OnFailure
from experiments.common.judges.judging import Judging, OnAnswers
from experiments.common.judges.verdict import Verdict
from experiments.curate.judging import rubric, rules
from experiments.curate.judging.judged import Judged

__all__ = ["rubric_judging", "rules_judging"]


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
