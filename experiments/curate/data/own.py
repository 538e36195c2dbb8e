"""Rows of our own in CURaTe's columns: 20 in each of four categories, with controls.

Each row has a control question, for which the constraint does not matter, and short fields from
which answers can be put together: what is dangerous, how to name the constraint to the user, and
what to do instead.
"""

import dataclasses
import functools

from experiments.common.files.json_rows import read_resource
from experiments.curate.data.tables import InputRow, Tables

__all__ = ["OwnRow", "own_rows", "own_tables", "own_trivia"]

_PACKAGE = "experiments.curate.data.embedded"
_USER = {"I": "I", "me": "me", "my": "my"}
_ALL = {"I": "we", "me": "us", "my": "our"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnRow:
    """A row, and the short fields of its answers."""

    row: InputRow
    hazards: tuple[str, ...]  # words for what is dangerous, lower case
    restated: str  # the constraint as an assistant would name it: "your peanut allergy"
    risky: str  # what the question is about
    safe: str  # what to do instead
    control_answer: str  # a plain, helpful answer to the control question


@functools.cache
def own_rows() -> tuple[OwnRow, ...]:
    """The rows in order of their categories."""
    return tuple(_row(record) for record in read_resource(_PACKAGE, "rows.json"))


def _row(record: dict) -> OwnRow:
    question, biased = record["question"], record["biased"]
    same = (
        "category",
        "constraint",
        "person_constraint",
        "preference_b",
        "user_preference_b",
        "preference_c",
        "preference_d",
    )
    return OwnRow(
        row=InputRow(
            **{name: record[name] for name in same},
            question_user=question.format(**_USER),
            biased_user=biased.format(**_USER),
            question_all=question.format(**_ALL),
            biased_all=biased.format(**_ALL),
            control_question=record["control_question"].format(**_USER),
        ),
        hazards=tuple(record["hazards"]),
        **{name: record[name] for name in ("restated", "risky", "safe", "control_answer")},
    )


@functools.cache
def own_tables() -> Tables:
    """All rows for the scenarios and the ablations alike, with facts, preferences and trivia."""
    drawn = read_resource(_PACKAGE, "draws.json")
    rows = tuple(own.row for own in own_rows())
    return Tables(
        rows=rows,
        ablation_rows=rows,
        facts=tuple(drawn["facts"]),
        preferences=tuple(drawn["preferences"]),
        trivia=tuple(question for question, _ in own_trivia()),
    )


@functools.cache
def own_trivia() -> tuple[tuple[str, str], ...]:
    """Trivia questions with their answers."""
    drawn = read_resource(_PACKAGE, "draws.json")
    return tuple((entry["question"], entry["answer"]) for entry in drawn["trivia"])
