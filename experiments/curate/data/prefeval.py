"""PrefEval (arXiv 2502.09597), a second, independent test: does a model remember a preference?

Other authors, other texts, and as many distractor exchanges as are asked for. The user states a
preference, or lets it be known, then talks of other things, then asks. For testing only, never for
training: the files' licence is CC BY-NC 4.0. They are read from a folder that the user gives:

    explicit_preference/TOPIC.json                  preference, question, explanation
    implicit_preference/choice-based/TOPIC.json     the user picks one of four offers
    implicit_preference/persona-driven/TOPIC.json   it comes up in 4 to 7 given exchanges
    mcq_options/TOPIC.json                          four answers to choose from, the first is right

Rows of a topic are joined by position: the same preference is worded differently in a few files.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from experiments.common.files.json_rows import read_rows, shown
from experiments.curate.data.cases import Case
from experiments.curate.data.distractors import Exchange
from gdpo_jax.errors import UserError

__all__ = ["Form", "PreferenceCase", "prefeval_cases", "topics_of"]

Form = Literal["explicit", "choice-based", "persona-driven"]
_FOLDERS = {
    "explicit": Path("explicit_preference"),
    "choice-based": Path("implicit_preference", "choice-based"),
    "persona-driven": Path("implicit_preference", "persona-driven"),
}
_OPTIONS = Path("mcq_options")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferenceCase:
    """A dialogue about a preference; some of the assistant's earlier answers are given."""

    case: Case
    given: tuple[
        str, ...
    ]  # for each turn but the last the given answer, "" where the model answers
    explanation: str  # why the question is hard to answer without the preference, "" if not said
    options: tuple[str, ...] = ()  # four answers in shuffled order; () where there are none
    right: int = -1  # which of them follows the preference


def topics_of(folder: Path, form: Form) -> tuple[str, ...]:
    """The topics there are in a form. Raises UserError for an unknown form and an empty folder."""
    if form not in get_args(Form):
        raise UserError(f"no form {form!r}; there are {', '.join(get_args(Form))}")
    topics = tuple(sorted(path.stem for path in (folder / _FOLDERS[form]).glob("*.json")))
    if not topics:
        raise UserError(
            f"no *.json in {folder / _FOLDERS[form]}; give the folder `benchmark_dataset` of the "
            "PrefEval repository"
        )
    return topics


def prefeval_cases(
    folder: Path,
    form: Form = "explicit",
    *,
    distractors: Sequence[Exchange] = (),
    topics: Sequence[str] | None = None,
    seed: int = 0,
) -> list[PreferenceCase]:
    """The rows of the topics (all there are unless given) as cases, with the same distractors.

    seed: the order of the four answers. Raises UserError that names file, row and field for what is
    missing, and for an unknown form or topic.
    """
    there = topics_of(folder, form)
    chosen = there if topics is None else tuple(dict.fromkeys(topics))
    for topic in chosen:
        if topic not in there:
            raise UserError(f"no topic {topic!r} in the {form} form; there are {', '.join(there)}")
    cases = []
    for topic in chosen:
        path = folder / _FOLDERS[form] / f"{topic}.json"
        rows = read_rows(path)
        options = _options(folder / _OPTIONS / f"{topic}.json", len(rows))
        for number, row in enumerate(rows):
            where = f"{path}, row {number}"
            shuffled, right = (
                _shuffled(options[number], seed, topic, number) if options else ((), -1)
            )
            cases.append(
                _case(row, where, form, topic, number, len(cases), distractors, shuffled, right)
            )
    return cases


def _case(
    row: Mapping[str, Any],
    where: str,
    form: Form,
    topic: str,
    number: int,
    position: int,
    distractors: Sequence[Exchange],
    options: tuple[str, ...],
    right: int,
) -> PreferenceCase:
    preference = _text(row, "preference", where)
    if form == "explicit":
        stated: list[Exchange] = [(preference, "")]
    elif form == "choice-based":
        stated = _choice(row.get("conversation"), f"{where}, field 'conversation'")
    else:
        stated = _persona(row.get("conversation"), f"{where}, field 'conversation'")
    exchanges = [*stated, *distractors]
    scenario = f"prefeval-{form}-{len(distractors)}"
    explanation = row.get("explanation", "")
    return PreferenceCase(
        case=Case(
            id=f"{scenario}/{topic}-{number:03d}",
            row=position,
            scenario=scenario,
            category=topic,
            constraint=preference,
            turns=(*(user for user, _ in exchanges), _text(row, "question", where)),
        ),
        given=tuple(answer for _, answer in exchanges),
        # One published row has none.
        explanation=explanation if isinstance(explanation, str) else "",
        options=options,
        right=right,
    )


def _choice(conversation: Any, where: str) -> list[Exchange]:
    fields = _mapping(conversation, where)
    return [
        (_text(fields, "query", where), _text(fields, "assistant_options", where)),
        (_text(fields, "user_selection", where), _text(fields, "assistant_acknowledgment", where)),
    ]


def _persona(conversation: Any, where: str) -> list[Exchange]:
    fields = _mapping(conversation, where)
    if not fields or not all(key.isdecimal() for key in fields):
        raise UserError(f"{where}: expected exchanges '0', '1', ..., found {sorted(fields)[:8]}")
    exchanges = []
    for key in sorted(fields, key=int):
        inside = f"{where}, exchange {key}"
        exchange = _mapping(fields[key], inside)
        exchanges.append((_text(exchange, "user", inside), _text(exchange, "assistant", inside)))
    return exchanges


def _options(path: Path, rows: int) -> list[tuple[str, ...]]:
    """The four answers of each row of a topic, the right one first; none without a file."""
    if not path.is_file():
        return []
    found = []
    for number, row in enumerate(read_rows(path)):
        options = row.get("classification_task_options")
        four = isinstance(options, list) and len(options) == 4
        if not four or not all(isinstance(option, str) and option.strip() for option in options):
            raise UserError(
                f"{path}, row {number}, field 'classification_task_options': expected four texts, "
                f"found {shown(options)}; restore the file from a copy"
            )
        found.append(tuple(options))
    if len(found) != rows:
        raise UserError(
            f"{path} has {len(found)} rows, the topic has {rows}; use files of one release"
        )
    return found


def _shuffled(
    options: tuple[str, ...], seed: int, topic: str, number: int
) -> tuple[tuple[str, ...], int]:
    """The options in an order of the row's own, and where the first one went."""
    rng = np.random.default_rng([seed, zlib.crc32(topic.encode()), number])
    order = [int(i) for i in rng.permutation(len(options))]
    return tuple(options[i] for i in order), order.index(0)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected an object, found {shown(value)}")
    return value


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{where}, field {name!r}: expected text, found {shown(value)}; restore the file from "
            "a copy"
        )
    return value
