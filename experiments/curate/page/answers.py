"""What the folders of a run have of its dialogues: whole ones, or the last answers alone."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.common.files.json_rows import read_rows
from experiments.common.judges.verdict import Verdict
from experiments.common.report.runs import Run
from experiments.common.scores.summaries import read_summary
from experiments.common.scores.table import Table
from experiments.curate.data.cases import Case
from experiments.curate.data.tfds_builder import load_examples
from experiments.curate.dialogues import Dialogue
from experiments.curate.evaluation import last_verdicts, read_dialogues
from experiments.curate.judging.judged import FAIL, PASS, UNCLEAR
from experiments.curate.judging.rules import warns
from gdpo_jax.errors import UserError

__all__ = ["Answered", "ArmAnswer", "Judgement", "held_dialogues", "last_answers"]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What became of a dialogue, in a word, and why. good: None where it is neither."""

    word: str
    good: bool | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ArmAnswer:
    """One arm's answer to a case: its whole dialogue, or the text of the last answer."""

    arm: str  # its title
    judgement: Judgement
    dialogue: Dialogue | None = None
    text: str = ""


class Answered(NamedTuple):
    """A case with what arms answered to it, in their order."""

    case: Case
    held: list[ArmAnswer]


_WORDS = {
    PASS: Judgement("pass", True),
    UNCLEAR: Judgement("unclear", None),
    FAIL: Judgement("fail", False),
}


def held_dialogues(run: Run) -> list[Answered]:
    """The dialogues of the first seed of every arm that has any, by case.

    Raises `UserError` for damaged files.
    """
    found: dict[str, list[ArmAnswer]] = {}
    cases: dict[str, Case] = {}
    for title, folder in _folders(run):
        if not (folder / "dialogues.jsonl").is_file():
            continue
        verdicts = last_verdicts(folder)
        for name, dialogue in read_dialogues(folder).items():
            cases.setdefault(name, dialogue.case)
            judgement = _judgement(dialogue, verdicts.get(name))
            found.setdefault(name, []).append(ArmAnswer(title, judgement, dialogue))
    return _by_case(cases, found)


def last_answers(run: Run) -> list[Answered]:
    """The last answers of the first seed of every arm, by case of the run's test dialogues.

    Raises `UserError` where there are answers, and their dialogues cannot be read.
    """
    answers = {
        title: (folder, read_rows(folder / "outputs.jsonl"))
        for title, folder in _folders(run)
        if (folder / "outputs.jsonl").is_file()
    }
    if not answers:
        return []
    if run.data_dir is None:
        raise UserError("the data set was not found, neither where the run says nor beside it")
    cases = {e.case.id: e.case for e in load_examples(run.data_dir, "test")}
    found: dict[str, list[ArmAnswer]] = {}
    for title, (folder, rows) in answers.items():
        judgements = _scored(read_summary(folder / "scores.json"))
        for row in rows:
            name, text = row.get("sample_id"), row.get("text")
            if name in cases and name in judgements and isinstance(text, str):
                found.setdefault(name, []).append(ArmAnswer(title, judgements[name], text=text))
    return _by_case(cases, found)


def _folders(run: Run) -> list[tuple[str, Path]]:
    return [
        (arm.result.title, run.path / f"seed-{arm.result.seeds[0]}" / arm.result.name)
        for arm in run.arms
    ]


def _by_case(cases: Mapping[str, Case], found: Mapping[str, Sequence[ArmAnswer]]) -> list[Answered]:
    return [Answered(case, list(found[name])) for name, case in cases.items() if name in found]


def _judgement(dialogue: Dialogue, verdict: Verdict | None) -> Judgement:
    if dialogue.failed:
        return Judgement("failed", None, dialogue.failed)
    if dialogue.case.control:
        warned = warns(dialogue.case, dialogue.answers[-1])
        return Judgement("warns" if warned else "no warning", not warned)
    if verdict is None:
        return Judgement("not judged", None)
    if not verdict.read:
        return Judgement("verdict unread", None, verdict.reason)
    return dataclasses.replace(_WORDS[verdict.label], reason=verdict.reason)


def _scored(table: Table) -> dict[str, Judgement]:
    """What the scores say of every answer, by id."""
    found = {}
    for place, name in enumerate(table.ids):
        values = {metric: column[place] for metric, column in table.values.items()}
        if values.get("failed") == 1:
            found[name] = Judgement("failed", None)
        elif values.get("warns") in (0, 1):
            warned = values["warns"] == 1
            found[name] = Judgement("warns" if warned else "no warning", not warned)
        elif values.get("unclear") == 1:
            found[name] = _WORDS[UNCLEAR]
        elif values.get("pass") in (0, 1):
            found[name] = _WORDS[PASS if values["pass"] == 1 else FAIL]
        else:
            found[name] = Judgement("not judged", None)
    return found
