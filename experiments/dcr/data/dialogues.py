"""Harmless dialogues of HH-RLHF (arXiv 2204.05862): people who try to get harmful answers.

A row has two whole dialogues, `chosen` and `rejected`, which differ in the last answer. The prompt
is what the human says first. Only where nothing else is said are the two answers to it; they are
empty for longer dialogues. All prompts count as toxic, as in DCR (arXiv 2603.03323), although some
are harmless; "chosen" is the better of two answers, not always a refusal.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.common.files.json_rows import shown
from experiments.dcr.data.normalized import first_alike
from experiments.dcr.data.prompts import TOXIC, SafetyPrompt
from gdpo_jax.data.json_rows import read_json_rows
from gdpo_jax.errors import UserError

__all__ = ["FILES", "read_dialogues"]

_FOLDER = "harmless-base"
# Published files by the name of the set.
FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hh-rlhf": (f"{_FOLDER}/test.jsonl.gz", f"{_FOLDER}/test.jsonl"),
        "hh-rlhf-train": (f"{_FOLDER}/train.jsonl.gz", f"{_FOLDER}/train.jsonl"),
    }
)
_MARK = re.compile(r"\n\n(Human|Assistant):")


def read_dialogues(path: Path, name: str = "hh-rlhf") -> tuple[SafetyPrompt, ...]:
    """The first turns of the dialogues in the file's order; those that begin alike are a cluster.

    Raises UserError that names file, row and field for what is no dialogue, and for an empty file.
    """
    rows = read_json_rows(path, lines=True)
    if not rows:
        raise UserError(f"{path} has no rows; restore the file from a copy")
    found = []
    for number, row in enumerate(rows):
        where = f"{path}, row {number}"
        (turn, answer), (other, worse) = (
            _first(row, column, where) for column in ("chosen", "rejected")
        )
        if turn != other:
            raise UserError(
                f"{where}: chosen and rejected begin with different turns; restore the file from "
                "a copy"
            )
        id_ = f"{name}/{number}"
        single = answer is not None and worse is not None
        found.append(
            SafetyPrompt(
                id=id_,
                text=turn,
                kind=TOXIC,
                type="single-turn" if single else "multi-turn",
                source=name,
                cluster=id_,
                answer=answer if single else "",
                rejected=worse if single else "",
            )
        )
    return first_alike(found)


def _first(row: Mapping[str, Any], column: str, where: str) -> tuple[str, str | None]:
    """The first turn of a dialogue, and the answer where the dialogue has no other turn."""
    value = row.get(column)
    # Marks do not always alternate: what counts is the first one of each speaker.
    parts = _MARK.split(value) if isinstance(value, str) else []
    if parts[:2] != ["", "Human"] or "Assistant" not in parts[3::2] or not parts[2].strip():
        raise UserError(
            f"{where}, field {column!r}: expected a dialogue that begins with "
            f"'\\n\\nHuman: ...\\n\\nAssistant: ...', found {shown(value)}; give a file of "
            "harmless-base"
        )
    alone = len(parts) == 5 and parts[3] == "Assistant"
    return parts[2].strip(), parts[4].strip() if alone else None
