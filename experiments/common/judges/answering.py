"""What evaluations in folders share: settings are checked, conversations asked in parts whose
answers are kept, and a judge's failures are those of single answers."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common.chats.asking import ask_all
from experiments.common.chats.cache import Store
from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Answer, Limits, Model
from experiments.common.files.json_rows import read_json
from experiments.common.judges.judging import Judging
from experiments.common.judges.verdict import Verdict
from gdpo_jax.errors import UserError

__all__ = ["Judgements", "ask_in_parts", "check_settings", "judge_answers"]

_PART = 64  # conversations asked before the next ones: a local model's answers are kept by parts


def check_settings(
    folder: Path, settings: Mapping[str, Any], *, holds: str, way_out: str
) -> dict[str, Any]:
    """The settings as JSON values; those in the folder's settings.json must be the same.

    holds, way_out: what the folder has and what to do about it, for the message. Raises UserError
    that names the first setting in which the folder differs.
    """
    wanted = json.loads(json.dumps(settings))  # lists for tuples, as they come back
    path = folder / "settings.json"
    stored = read_json(path) if path.is_file() else wanted
    for name, value in wanted.items():
        if not isinstance(stored, dict) or stored.get(name) != value:
            raise UserError(f"{folder} holds {holds} with other {name}; {way_out}")
    return wanted


def ask_in_parts(
    model: Model, conversations: Sequence[Conversation], limits: Limits, names: Sequence[str]
) -> list[Answer | UserError]:
    """As `ask_all`, some conversations at a time: of a cached model, a stop loses one part."""
    results: list[Answer | UserError] = []
    for first in range(0, len(conversations), _PART):
        part = slice(first, first + _PART)
        results += ask_all(model, conversations[part], limits, names[part])
    return results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgements:
    """verdicts: None where the judge gave no answer; failures: why, by the case's name. answers:
    what a model that judges said, for a bill."""

    verdicts: list[Verdict | None]
    failures: Mapping[str, str]
    answers: list[Answer]


def judge_answers(
    judging: Judging, cases: Sequence[Any], names: Sequence[str], store: Store
) -> Judgements:
    """The judge's verdict on every case, where a failure is that of its case alone."""
    failures: dict[str, str] = {}
    answers: list[Answer] = []

    def fail(n: int, error: UserError) -> None:
        failures[names[n]] = f"judge: {error}"

    found = judging.judge(cases, store, answers.extend, fail)
    verdicts = [
        None if name in failures else verdict for name, verdict in zip(names, found, strict=True)
    ]
    return Judgements(verdicts=verdicts, failures=failures, answers=answers)
