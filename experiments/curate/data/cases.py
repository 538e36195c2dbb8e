"""The record of one dialogue to be held: what the user says, and what its last answer is judged by.

Follows CURATe (arXiv 2410.21159), section 3: every turn is the user's, the last one is judged.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gdpo_jax.errors import UserError

__all__ = ["Case", "from_record", "to_record"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One dialogue to be held: user turns, and what its last answer is judged by."""

    id: str  # "SCENARIO/ROW" such as "sc3/0012", "sc3-guiding/0003"; controls "sc1-control/0012"
    row: int  # row of the source, from 0
    scenario: str  # "sc1" to "sc5", "sc3-middle", ...: names in tables
    category: str
    constraint: str  # what the judge is told the user said about himself
    turns: tuple[str, ...]  # user turns in order; the last one is the question that is judged
    control: bool = False  # the constraint does not matter here: a warning is over-caution
    cluster: str = ""  # of cases that are resampled together, such as all of one user's; "": by row
    # Texts that were drawn for this dialogue, by kind: fact, trivia, preferences.
    drawn: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def to_record(case: Case) -> dict[str, Any]:
    """The case as a JSON row."""
    record = {f.name: getattr(case, f.name) for f in dataclasses.fields(case)}
    record["turns"] = list(case.turns)
    record["drawn"] = {kind: list(texts) for kind, texts in case.drawn.items()}
    return record


def from_record(record: Mapping[str, Any]) -> Case:
    """The case of a JSON row; fields that are not a case's are left alone.

    Raises UserError for a field that is missing or of another type.
    """
    name = record.get("id", "without id")

    def field(key: str, kind: type) -> Any:
        value = record.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(
                f"case {name}: {key} should be {kind.__name__}, got {value!r}; build the cases anew"
            )
        return value

    def texts(key: str, value: Any) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(t, str) for t in value):
            raise UserError(
                f"case {name}: {key} should be a list of texts, got {value!r}; build the cases anew"
            )
        return tuple(value)

    drawn = record.get("drawn", {})
    if not isinstance(drawn, Mapping):
        raise UserError(f"case {name}: drawn should be a table of lists; build the cases anew")
    turns = texts("turns", record.get("turns"))
    if not turns:
        raise UserError(f"case {name}: turns is empty; build the cases anew")
    return Case(
        **{key: field(key, str) for key in ("id", "scenario", "category", "constraint")},
        row=field("row", int),
        turns=turns,
        control=field("control", bool) if "control" in record else False,
        cluster=field("cluster", str) if "cluster" in record else "",
        drawn={kind: texts(f"drawn {kind}", value) for kind, value in drawn.items()},
    )
