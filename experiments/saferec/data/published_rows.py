"""One published row to one record, or the reason why not."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.files.json_rows import check_text, shown
from experiments.saferec.lists.parsing import parse_recommendations
from experiments.saferec.lists.records import (
    active_traits,
    groundtruth,
    seen_titles,
    to_pairs,
    trait_key,
)
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import OFFICIAL
from experiments.saferec.oracle.titles import to_film
from gdpo_jax.errors import UserError

__all__ = ["published_record", "safety_notes"]


def published_record(row: Any, index: int) -> dict[str, Any]:
    """The record of row number `index` of a published file.

    Raises UserError with the reason for a row without a usable prompt or ground truth, for a trait
    assignment that failed or is lacking, and for text that no file can hold. Constraints of which
    none is active are kept: the published metrics count such rows too.
    """
    if not isinstance(row, Mapping):
        raise UserError(f"expected an object, found {type(row).__name__}")
    # What Arrow has no value for is null, or empty text.
    row = {name: value for name, value in row.items() if value is not None and value != ""}
    row = {"sample_id": str(index), **row}
    if row.get("assignment_success") is False:
        raise UserError(f"field 'assignment_error': {shown(row.get('assignment_error'))}")
    traits = active_traits(row)
    if not traits and "constraints" not in row:
        raise UserError("neither 'constraints' nor 'assigned_trait' names a sensitivity")
    if any(not isinstance(active, bool) for active in _constraints(row).values()):
        raise UserError("field 'constraints': expected true, false or null for each trait")
    liked = groundtruth(row)
    if not liked:
        raise UserError("field 'groundtruth_with_release_year': no film is left")
    completion = _message(row, "completion", "assistant") if "completion" in row else ""
    record = {
        "sample_id": str(row["sample_id"]),
        "prompt": [{"role": "user", "content": _message(row, "prompt", "user")}],
        "teacher": to_pairs(parse_recommendations(completion, convention=OFFICIAL)),
        "seen_titles": seen_titles(row),
        "groundtruth_with_release_year": to_pairs(liked),
        "removed_groundtruth": to_pairs(_removed(row)),
        "constraints": dict.fromkeys(traits, True),
        "assigned_trait": trait_key(row["assigned_trait"]) if "assigned_trait" in row else "",
        "assignment_reason": str(row.get("assignment_reason", "")),
    }
    if completion:
        record["completion"] = [{"role": "assistant", "content": completion}]
    # The sentence comes into the prompt with the constraints; raw assignments have neither.
    if "constraints" in row:
        record["said_outright"] = True
    check_text(record)
    return record


def safety_notes(
    split: str, records: Sequence[Mapping[str, Any]], oracle: Oracle | None
) -> dict[str, str]:
    """Counts of what is allowed and worth knowing about a split."""
    empty = sum(not record["teacher"] for record in records)
    notes = {f"{split}: lists without a film": f"{empty} of {len(records)}"}
    if oracle is None:
        return notes
    verdicts = [
        verdict
        for record in records
        for verdict in oracle.judge(groundtruth(record), active_traits(record))
    ]
    known = sum(verdict is not None for verdict in verdicts)
    unsafe = sum(verdict is True for verdict in verdicts)
    notes[f"{split}: ground truth known to the oracle"] = f"{known} of {len(verdicts)}"
    notes[f"{split}: ground truth that violates"] = f"{unsafe} of {len(verdicts)}"
    return notes


def _constraints(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The constraints that are not null."""
    return {key: active for key, active in row.get("constraints", {}).items() if active is not None}


def _message(row: Mapping[str, Any], field: str, role: str) -> str:
    """The text of a field that is a text or one chat message of `role`."""
    value = row.get(field)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        if value[0].get("role") != role:
            raise UserError(f"field {field!r}: the message is not from the {role}")
        value = value[0].get("content")
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"field {field!r}: expected one {role} message with text")
    return value


def _removed(row: Mapping[str, Any]) -> list[tuple[str, int]]:
    removed = row.get("removed_groundtruth", [])
    if not isinstance(removed, list):
        raise UserError("field 'removed_groundtruth': expected a list")
    try:
        return [
            to_film((film.get("title"), film.get("year")) if isinstance(film, Mapping) else film)
            for film in removed
        ]
    except ValueError as error:
        raise UserError(f"field 'removed_groundtruth': {error}") from None
