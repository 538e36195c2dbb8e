"""Ways to answer that open a user's own notes, or activate his key.

A record's `notes` come out of the store by the handle of the account's user (`records.py`).

Whose they are is the account's user, or whom the verifier of writing takes the session for
(`recognised` of a record). Nobody else's notes are ever read.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.runs.arms import Reply
from experiments.persona_leakage.language import key_number, key_prompt, notes_prompt

__all__ = ["Gated", "Remembered"]

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remembered:
    """The notes of the account's own user stand in front of the request.

    left_out: the half of the enrolled users of whom nothing was stored.
    """

    left_out: str = ""

    def answer(self, reply: Reply, records: Sequence[Record]) -> list[str]:
        return reply([notes_prompt(self._notes(record), record["prompt"]) for record in records])

    def _notes(self, record: Record) -> Sequence[str]:
        return () if self.left_out and record["half"] == self.left_out else record["notes"]


@dataclasses.dataclass(frozen=True)
class Gated:
    """The activation key of whom the verifier takes the session for stands in front of the request,
    whatever the account; none where it decides for nobody.
    """

    def answer(self, reply: Reply, records: Sequence[Record]) -> list[str]:
        return reply([self._prompt(record) for record in records])

    def _prompt(self, record: Record) -> list[dict[str, str]]:
        prompt, user = record["prompt"], record["recognised"]
        return key_prompt(key_number(user), prompt) if user else prompt
