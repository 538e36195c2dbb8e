"""An evaluation on published data in a folder: requests are answered several times and judged.

settings.json   what was asked, of whom, by whom it was judged and how it was scored
answers.sqlite  every answer of a model and of a model that judges, as soon as it is there
outputs.jsonl   answers with their labels and the judge's reasons
scores.json     intervals, the value of every item, what failed, and the bill
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.chats.cache import cached, open_store, request_key
from experiments.common.chats.model import Answer, Bill, Limits, Model, bill_of
from experiments.common.files.json_rows import write_rows
from experiments.common.judges.answering import ask_in_parts, check_settings, judge_answers
from experiments.common.judges.judging import Judging
from experiments.common.scores.summaries import summarize, write_json
from experiments.common.scores.table import Table
from experiments.persona_leakage.evaluation_tables import METRICS, USUAL, Outcome, Scoring, table
from experiments.persona_leakage.published.own_labels import Unit, units
from experiments.persona_leakage.published.requests import Request, Said, conversation
from gdpo_jax.errors import UserError

__all__ = ["Evaluation", "check_folder", "evaluate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of it. failures: why, by the answer's id, of requests without an answer and answers
    without a verdict; the next start asks for them again. paid: by this start."""

    table: Table
    outcomes: tuple[Outcome, ...]
    failures: Mapping[str, str]
    paid: Bill

    def units(self) -> list[Unit]:
        """What the judge's labels are about, for people to label as well."""
        return [
            unit
            for outcome in self.outcomes
            for said, verdict in zip(_said(outcome), outcome.verdicts, strict=True)
            if said is not None and verdict is not None and verdict.read
            for unit in units(said, verdict)
        ]


def evaluate(
    folder: Path,
    requests: Sequence[Request],
    *,
    samples: Mapping[str, int],
    model: Model,
    judging: Judging,
    limits: Limits,
    scoring: Scoring = USUAL,
    about: Mapping[str, Any] | None = None,
    bootstrap: int = 2000,
) -> Evaluation:
    """Asks, judges and scores requests in a folder, which another start goes on with.

    samples: how many answers each part's requests get. about: JSON values on how the requests were
    chosen and labelled, kept beside the judge. Another judge, other labels and another scoring may
    be had for answers that are there. Raises UserError for no requests, several answers at
    temperature 0, a folder that holds other answers, and files that are damaged.
    """
    settings = check_folder(folder, requests, samples=samples, model=model, limits=limits)
    folder.mkdir(parents=True, exist_ok=True)
    own = {"judge": dict(judging.identity), "scoring": dataclasses.asdict(scoring)}
    write_json(folder / "settings.json", {**settings, **own, "about": dict(about or {})})
    numbered = [(request, n) for request in requests for n in range(samples[request.part])]
    with contextlib.closing(open_store(folder / "answers.sqlite")) as store:
        results: dict[tuple[str, int], Answer | UserError] = {}
        for sample in range(max(samples[request.part] for request in requests)):
            asked = [request for request, n in numbered if n == sample]
            answers = ask_in_parts(
                cached(model, store),
                [conversation(request) for request in asked],
                dataclasses.replace(limits, sample=sample),
                [f"{request.id}#{sample}" for request in asked],
            )
            pairs = zip(asked, answers, strict=True)
            results |= {(request.id, sample): answer for request, answer in pairs}
        said = [
            Said(request=request, sample=n, text=result.text)
            for request, n in numbered
            if isinstance(result := results[request.id, n], Answer)
        ]
        found = judge_answers(judging, said, [one.id for one in said], store)
    verdicts = {one.id: verdict for one, verdict in zip(said, found.verdicts, strict=True)}
    outcomes = []
    for request in requests:
        places = range(samples[request.part])
        given = [results[request.id, n] for n in places]
        outcomes.append(
            Outcome(
                request=request,
                answers=tuple(a if isinstance(a, Answer) else None for a in given),
                verdicts=tuple(verdicts.get(f"{request.id}#{n}") for n in places),
            )
        )
    failures = {
        f"{id_}#{n}": str(result)
        for (id_, n), result in results.items()
        if not isinstance(result, Answer)
    } | dict(found.failures)
    scored = table(outcomes, scoring)
    write_rows(folder / "outputs.jsonl", _outputs(outcomes, failures))
    paid = bill_of([*(r for r in results.values() if isinstance(r, Answer)), *found.answers])
    scores = {
        **summarize(scored, METRICS, samples=bootstrap),
        **own,
        "failures": failures,
        "bill": dataclasses.asdict(paid),
    }
    write_json(folder / "scores.json", scores)
    return Evaluation(table=scored, outcomes=tuple(outcomes), failures=failures, paid=paid)


def check_folder(
    folder: Path,
    requests: Sequence[Request],
    *,
    samples: Mapping[str, int],
    model: Model,
    limits: Limits,
) -> dict[str, Any]:
    """What `evaluate` will write down of the answers, as JSON values; raises UserError as it."""
    if not requests:
        raise UserError("there are no requests to evaluate")
    parts = sorted({request.part for request in requests})
    most = max(samples[part] for part in parts)
    if min(samples[part] for part in parts) < 1:
        raise UserError(f"samples={dict(samples)}; every request needs at least one answer")
    if most > 1 and not limits.temperature:
        raise UserError(
            f"{most} answers at temperature 0 are one answer {most} times; give a temperature, or "
            "one answer"
        )
    settings = {
        "requests": request_key([[r.id, list(conversation(r))] for r in requests]),
        "count": len(requests),
        "samples": {part: samples[part] for part in parts},
        "model": dict(model.identity),
        "limits": dataclasses.asdict(limits),
    }
    return check_settings(
        folder,
        settings,
        holds="answers",
        way_out="give another --out or --name, or what they were made with",
    )


def _said(outcome: Outcome) -> Iterator[Said | None]:
    for n, answer in enumerate(outcome.answers):
        if answer is None:
            yield None
        else:
            yield Said(request=outcome.request, sample=n, text=answer.text)


def _outputs(outcomes: Sequence[Outcome], failures: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for outcome in outcomes:
        request = outcome.request
        for n, (answer, verdict) in enumerate(zip(outcome.answers, outcome.verdicts, strict=True)):
            yield {
                "sample_id": f"{request.id}#{n}",
                "part": request.part,
                "query": request.query,
                "text": "" if answer is None else answer.text,
                "failed": failures.get(f"{request.id}#{n}", ""),
                "label": None if verdict is None or not verdict.read else verdict.label,
                "reason": "" if verdict is None else verdict.reason,
            }
