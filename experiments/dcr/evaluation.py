"""An evaluation in a folder: prompts are answered and judged, and no answer is paid for twice.

settings.json   what was asked, of whom, and by whom the answers were judged
answers.sqlite  every answer of a model and of a model that judges, as soon as it is there
outputs.jsonl   answers with their labels and the judge's reasons
scores.json     intervals, the value of every item, what failed, and the bill
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.chats.cache import Store, cached, open_store, request_key
from experiments.common.chats.model import Answer, Bill, Limits, Model, bill_of
from experiments.common.files.json_rows import write_rows
from experiments.common.judges.answering import ask_in_parts, check_settings, judge_answers
from experiments.common.judges.judging import Judging
from experiments.common.judges.refusals import Answered
from experiments.common.judges.verdict import Verdict
from experiments.common.scores.metric import Metric
from experiments.common.scores.summaries import summarize, write_json
from experiments.common.scores.table import Table
from experiments.dcr.data.prompts import SafetyPrompt, to_record
from experiments.dcr.metrics import LABELLED, LABELS_BY_METRIC, label_columns
from gdpo_jax.errors import UserError

__all__ = ["LIMITS", "METRICS", "Evaluation", "check_folder", "evaluate"]

LIMITS = Limits(max_new_tokens=256, temperature=0.0)
_NAN = math.nan

METRICS = (
    *(dataclasses.replace(metric, parts=("set", "type"), interval="wilson") for metric in LABELLED),
    Metric("length", "words of an answer", "", 1, panel="answers"),
    Metric("cut", "share cut at the limit", "", 3, panel="answers", interval="wilson"),
    Metric("failed", "share failed", "", 3, panel="answers", interval="wilson"),
    Metric("unread", "share of verdicts unread", "", 3, panel="answers", interval="wilson"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of it. failures: why, by the prompt's id, of prompts without an answer and answers
    without a verdict; the next start asks for them again. paid: by this start."""

    table: Table
    failures: Mapping[str, str]
    paid: Bill


def evaluate(
    folder: Path,
    prompts: Sequence[SafetyPrompt],
    *,
    model: Model,
    judging: Judging,
    limits: Limits = LIMITS,
    bootstrap: int = 2000,
) -> Evaluation:
    """Asks, judges and scores the prompts in a folder, which another start goes on with.

    Another judge may judge answers that are there. Raises UserError for no prompts, a folder that
    holds other answers, and files that are damaged.
    """
    settings = check_folder(folder, prompts, model=model, limits=limits)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", {**settings, "judge": dict(judging.identity)})
    given: list[Answer] = []
    with contextlib.closing(open_store(folder / "answers.sqlite")) as store:
        asked = cached(model, store)
        talks = [[{"role": "user", "content": prompt.text}] for prompt in prompts]
        results = ask_in_parts(asked, talks, limits, [prompt.id for prompt in prompts])
        given += [result for result in results if isinstance(result, Answer)]
        verdicts, unjudged = _judged(prompts, results, judging, store, given)
    failures = {
        prompt.id: str(result)
        for prompt, result in zip(prompts, results, strict=True)
        if not isinstance(result, Answer)
    } | unjudged
    table = _table(prompts, results, verdicts)
    rows = [_output(*each) for each in zip(prompts, results, verdicts, strict=True)]
    write_rows(folder / "outputs.jsonl", rows)
    paid = bill_of(given)
    scores = {
        **summarize(table, METRICS, samples=bootstrap),
        "judge": dict(judging.identity),
        "failures": failures,
        "bill": dataclasses.asdict(paid),
    }
    write_json(folder / "scores.json", scores)
    return Evaluation(table=table, failures=failures, paid=paid)


def check_folder(
    folder: Path, prompts: Sequence[SafetyPrompt], *, model: Model, limits: Limits
) -> dict[str, Any]:
    """What `evaluate` will write down of the answers, as JSON values.

    Raises UserError for no prompts and for a folder that holds other answers.
    """
    if not prompts:
        raise UserError("there are no prompts to evaluate")
    settings = {
        "prompts": request_key([to_record(prompt) for prompt in prompts]),
        "count": len(prompts),
        "model": dict(model.identity),
        "limits": dataclasses.asdict(limits),
    }
    return check_settings(
        folder,
        settings,
        holds="answers",
        way_out="give another --out or --name, or what they were made with",
    )


def _judged(
    prompts: Sequence[SafetyPrompt],
    results: Sequence[Answer | UserError],
    judging: Judging,
    store: Store,
    given: list[Answer],
) -> tuple[list[Verdict | None], Mapping[str, str]]:
    """A verdict for each answer, None where there is none, and what the judge did not answer."""
    places = [n for n, result in enumerate(results) if isinstance(result, Answer)]
    cases = [
        Answered(id=prompts[n].id, prompt=prompts[n].text, text=results[n].text) for n in places
    ]
    found = judge_answers(judging, cases, [case.id for case in cases], store)
    given += found.answers
    verdicts: list[Verdict | None] = [None] * len(prompts)
    for n, verdict in zip(places, found.verdicts, strict=True):
        verdicts[n] = verdict
    return verdicts, found.failures


def _table(
    prompts: Sequence[SafetyPrompt],
    results: Sequence[Answer | UserError],
    verdicts: Sequence[Verdict | None],
) -> Table:
    rows = []
    for prompt, result, verdict in zip(prompts, results, verdicts, strict=True):
        row = dict.fromkeys((*LABELS_BY_METRIC, "length", "cut", "unread"), _NAN)
        row["failed"] = float(not isinstance(result, Answer))
        if isinstance(result, Answer):
            row["length"] = float(len(result.text.split()))
            row["cut"] = _NAN if result.finished is None else float(result.reason == "length")
        if verdict is not None:
            row["unread"] = float(not verdict.read)
            if verdict.read:
                row |= label_columns(prompt.kind, str(verdict.label))
        rows.append(row)
    return Table(
        ids=tuple(prompt.id for prompt in prompts),
        values={name: np.array([row[name] for row in rows], np.float64) for name in rows[0]},
        groups={
            "set": tuple(prompt.source for prompt in prompts),
            "type": tuple(f"{prompt.source}: {prompt.type}" for prompt in prompts),
            "kind": tuple(prompt.kind for prompt in prompts),
        },
        clusters=tuple(prompt.cluster for prompt in prompts),
    )


def _output(
    prompt: SafetyPrompt, result: Answer | UserError, verdict: Verdict | None
) -> dict[str, Any]:
    answered = isinstance(result, Answer)
    return {
        "sample_id": prompt.id,
        "prompt": to_record(prompt),
        "text": result.text if answered else "",
        "failed": "" if answered else str(result),
        "label": None if verdict is None or not verdict.read else str(verdict.label),
        "reason": "" if verdict is None else verdict.reason,
    }
