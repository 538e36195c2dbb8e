"""The judges of published data with what they are: by rules, or as their authors define them."""

import functools
from collections.abc import Callable, Mapping, Sequence

from experiments.common.chats.cache import Store, cached
from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Limits, Model, OnFailure
from experiments.common.judges import rubric
from experiments.common.judges.judging import Judging, OnAnswers
from experiments.common.judges.refusals.rules import IDENTITY as REFUSAL_RULES
from experiments.common.judges.verdict import Verdict
from experiments.persona_leakage.published import fulfilment, memory_rubrics, reveals
from experiments.persona_leakage.published.requests import (
    BENEFIT,
    CROSS_DOMAIN,
    DISCLOSURE,
    HELPFULNESS,
    SAFETY,
    SYCOPHANCY,
    Said,
)
from gdpo_jax.errors import UserError

__all__ = ["rubric_judging", "rules_judging"]

_RATED = (CROSS_DOMAIN, SYCOPHANCY, BENEFIT)
_ASKED = (SAFETY, HELPFULNESS)
_VERSIONS = [memory_rubrics.VERSION, reveals.VERSION, fulfilment.VERSION]
_PROMPTS: Mapping[str, str] = {
    **memory_rubrics.PROMPTS,
    DISCLOSURE: reveals.PROMPT,
    **dict.fromkeys(_ASKED, fulfilment.PROMPT),
}
_QUESTIONS: Mapping[str, Callable[[Said], Conversation]] = {
    **dict.fromkeys(_RATED, memory_rubrics.question),
    DISCLOSURE: reveals.question,
    **dict.fromkeys(_ASKED, fulfilment.question),
}
_READERS: Mapping[str, Callable[[str], Verdict]] = {
    **{
        part: functools.partial(memory_rubrics.read_score, highest=memory_rubrics.HIGHEST[part])
        for part in _RATED
    },
    DISCLOSURE: reveals.read_reveals,
    **dict.fromkeys(_ASKED, fulfilment.read_fulfilment),
}


def rules_judging(parts: Sequence[str]) -> Judging:
    """The judge that asks nobody: matching of values for CIMemories, and the rules about refusals
    for U-SafeBench.

    Raises UserError for PersistBench, whose scales are about more than words.
    """
    if set(parts) <= {DISCLOSURE}:
        return Judging(reveals.IDENTITY, lambda cases, *_: reveals.match(cases))
    if set(parts) <= set(_ASKED):
        return Judging(REFUSAL_RULES, lambda cases, *_: fulfilment.by_rules(cases))
    raise UserError(
        f"no rules judge {', '.join(dict.fromkeys(parts))}; give --judge.by rubric with "
        "--judge.url and --judge.model"
    )


def rubric_judging(model: Model, limits: Limits, parts: Sequence[str]) -> Judging:
    """The rubrics of the parts through a model, whose answers a store keeps."""
    prompts = dict.fromkeys(_PROMPTS[part] for part in sorted(set(parts)))
    identity = rubric.rubric_identity(
        "published rubrics",
        version=sum(_VERSIONS),
        prompt="\n\n".join(prompts),
        model=model,
        limits=limits,
    )

    def judge(
        cases: Sequence[Said], store: Store, on_answers: OnAnswers, on_failure: OnFailure
    ) -> list[Verdict]:
        asked = cached(model, store)
        places: dict[str, list[int]] = {}
        for n, said in enumerate(cases):
            places.setdefault(said.request.part, []).append(n)
        verdicts: dict[int, Verdict] = {}
        for part, own in places.items():
            ask = rubric.rubric_judge(
                asked,
                question=_QUESTIONS[part],
                read=_READERS[part],
                limits=limits,
                case_name=lambda said: said.id,
                on_answers=on_answers,
                on_failure=lambda n, error, own=own: on_failure(own[n], error),
            )
            verdicts |= dict(zip(own, ask([cases[n] for n in own]), strict=True))
        return [
            reveals.named(verdicts[n], said) if said.request.part == DISCLOSURE else verdicts[n]
            for n, said in enumerate(cases)
        ]

    return Judging(identity, judge)
