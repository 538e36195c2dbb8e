"""An evaluation in a folder: dialogues are held, judged and scored, and nothing is paid twice.

settings.json    what was held, with whom, and by whom it was judged
answers.sqlite   every answer of a model, as soon as it is there
dialogues.jsonl  whole dialogues; of two rows of one case the last one counts
verdicts.jsonl   verdicts, with the digest of the judge that gave them
scores.json      intervals, the value of every item, what failed, and the bills
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.chats.cache import Store, cached, open_store, request_key
from experiments.common.chats.model import Answer, Bill, Limits, Model, bill_of
from experiments.common.files.json_rows import read_json
from experiments.common.files.row_log import append_row, read_log
from experiments.common.judges.answering import check_settings
from experiments.common.judges.judging import Judging
from experiments.common.judges.verdict import Verdict
from experiments.common.scores.summaries import summarize, write_json
from experiments.common.scores.table import Table
from experiments.curate.data.cases import Case, to_record
from experiments.curate.dialogues import (
    LIMITS,
    Dialogue,
    dialogue_of,
    dialogue_row,
    hold,
    total_bills,
)
from experiments.curate.given_answers import with_given
from experiments.curate.metrics import METRICS, table
from experiments.curate.ways import Way
from gdpo_jax.errors import UserError

__all__ = [
    "Evaluation",
    "check_folder",
    "evaluate",
    "last_verdicts",
    "read_dialogues",
    "read_verdicts",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of it. failures: why, by the case's id, of dialogues without an end and of judges
    without an answer; they are asked again by the next start. paid: this start, by component."""

    dialogues: tuple[Dialogue, ...]
    verdicts: Mapping[str, Verdict]
    table: Table
    failures: Mapping[str, str]
    paid: Mapping[str, Bill]


def evaluate(
    folder: Path,
    cases: Sequence[Case],
    *,
    model: Model,
    way: Way,
    judging: Judging,
    limits: Limits = LIMITS,
    given: Mapping[str, Sequence[str]] | None = None,
    bootstrap: int = 2000,
) -> Evaluation:
    """Holds, judges and scores the cases in a folder, which another start goes on with.

    limits: of every answer, the same for every arm unless asked otherwise. given: answers to
    earlier turns by the case's id, as `with_given` takes them. Another judge may judge dialogues
    that are there. Controls are not judged: their constraint does not matter.

    Raises `UserError` for no cases, for a folder that holds other dialogues, and for files that are
    damaged.
    """
    given = given or {}
    settings = check_folder(folder, cases, model=model, way=way, limits=limits, given=given)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", {**settings, "judge": dict(judging.identity)})
    with contextlib.closing(open_store(folder / "answers.sqlite")) as store:
        dialogues, held = _held(folder, cases, with_given(cached(model, store), given), way, limits)
        verdicts, failures, judged = _judged(folder, dialogues, judging, store)
    failures = {**{d.case.id: d.failed for d in dialogues if d.failed}, **failures}
    found = table(dialogues, verdicts)
    scores = {
        **summarize(found, METRICS, samples=bootstrap),
        "judge": dict(judging.identity),
        "failures": failures,
        "bills": _plain(total_bills(d.bills for d in dialogues)),
    }
    write_json(folder / "scores.json", scores)
    return Evaluation(
        dialogues=tuple(dialogues),
        verdicts=verdicts,
        table=found,
        failures=failures,
        paid={**held, **({"judge": judged} if judged.asked else {})},
    )


def check_folder(
    folder: Path,
    cases: Sequence[Case],
    *,
    model: Model,
    way: Way,
    limits: Limits,
    given: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """What `evaluate` will write down of the dialogues, as JSON values.

    Raises `UserError` for no cases and for a folder that holds other dialogues.
    """
    if not cases:
        raise UserError("there are no cases to evaluate")
    settings = _settings(cases, model, way, limits, given)
    return check_settings(
        folder,
        settings,
        holds="dialogues",
        way_out="give another folder, or what it was made with",
    )


def read_dialogues(folder: Path) -> dict[str, Dialogue]:
    """The dialogues of a folder by the case's id. Raises `UserError` by file and row (from 1)."""
    path = folder / "dialogues.jsonl"
    found = {}
    for number, row in enumerate(read_log(path), start=1):
        try:
            dialogue = dialogue_of(row)
        except UserError as error:
            raise UserError(f"{path}, row {number}: {error}; restore it from a copy") from None
        found[dialogue.case.id] = dialogue
    return found


def read_verdicts(folder: Path, judging: Judging) -> dict[str, Verdict]:
    """This judge's verdicts on the folder's answers, by the case's id.

    Raises `UserError` by file and row (from 1).
    """
    return _known_verdicts(folder, judging.identity)


def last_verdicts(folder: Path) -> dict[str, Verdict]:
    """The verdicts of the judge that judged the folder last; otherwise as `read_verdicts`."""
    settings = read_json(folder / "settings.json")
    if not isinstance(settings, dict) or not isinstance(settings.get("judge"), dict):
        raise UserError(f"{folder / 'settings.json'} names no judge; restore it from a copy")
    return _known_verdicts(folder, settings["judge"])


def _known_verdicts(folder: Path, identity: Mapping[str, Any]) -> dict[str, Verdict]:
    answers = {
        name: _digest(d.answers[-1]) for name, d in read_dialogues(folder).items() if d.answers
    }
    return _read_verdicts(folder, identity, answers)


def _held(
    folder: Path, cases: Sequence[Case], model: Model, way: Way, limits: Limits
) -> tuple[list[Dialogue], dict[str, Bill]]:
    known = {name: d for name, d in read_dialogues(folder).items() if not d.failed}
    new, paid = hold(model, [case for case in cases if case.id not in known], way, limits)
    for dialogue in new:
        append_row(folder / "dialogues.jsonl", dialogue_row(dialogue))
    known |= {dialogue.case.id: dialogue for dialogue in new}
    return [known[case.id] for case in cases], paid


def _judged(
    folder: Path, dialogues: Sequence[Dialogue], judging: Judging, store: Store
) -> tuple[dict[str, Verdict], dict[str, str], Bill]:
    """The verdicts by the case's id, what the judge did not answer, and what it cost this time."""
    whole = [d for d in dialogues if not d.failed and not d.case.control]
    answers = {d.case.id: _digest(d.answers[-1]) for d in whole}
    verdicts = _read_verdicts(folder, judging.identity, answers)
    open_ = [d for d in whole if d.case.id not in verdicts]
    given: list[Answer] = []
    failed: dict[int, str] = {}
    new = judging.judge(
        [d.judged for d in open_],
        store,
        given.extend,
        lambda n, error: failed.update({n: f"judge: {error}"}),
    )
    for n, (dialogue, verdict) in enumerate(zip(open_, new, strict=True)):
        if n not in failed:
            name = dialogue.case.id
            row = {"id": name, "judge": request_key(judging.identity), "answer": answers[name]}
            append_row(folder / "verdicts.jsonl", {**row, **dataclasses.asdict(verdict)})
            verdicts[name] = verdict
    return verdicts, {open_[n].case.id: why for n, why in failed.items()}, bill_of(given)


def _read_verdicts(
    folder: Path, identity: Mapping[str, Any], answers: Mapping[str, str]
) -> dict[str, Verdict]:
    path, judge = folder / "verdicts.jsonl", request_key(identity)
    found = {}
    for number, row in enumerate(read_log(path), start=1):
        try:
            name, own = row["id"], (row["judge"], row["answer"])
            verdict = Verdict(**{f.name: row[f.name] for f in dataclasses.fields(Verdict)})
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{path}, row {number}: no verdict of this project ({error!r}); restore it from a "
                "copy, or delete the file, and all answers are judged anew"
            ) from None
        # Of another judge, or on an answer that was replaced.
        if own == (judge, answers.get(name)):
            found[name] = verdict
    return found


def _settings(
    cases: Sequence[Case],
    model: Model,
    way: Way,
    limits: Limits,
    given: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    records = [to_record(case) for case in cases]
    return {
        "cases": request_key(records, dict(given)) if given else request_key(records),
        "count": len(cases),
        "model": dict(model.identity),
        "way": {"name": type(way).__name__, **dataclasses.asdict(way)},
        "limits": dataclasses.asdict(limits),
    }


def _digest(answer: str) -> str:
    return request_key(answer)


def _plain(bills: Mapping[str, Bill]) -> dict[str, Any]:
    return {component: dataclasses.asdict(bill) for component, bill in bills.items()}
