"""One prompt of a set, whether it should be answered, and where it comes from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.common.files.json_rows import shown
from gdpo_jax.errors import UserError

__all__ = ["KINDS", "PLAIN", "SEEMING", "TOXIC", "SafetyPrompt", "from_record", "to_record"]

PLAIN, SEEMING, TOXIC = "plain", "seeming", "toxic"
KINDS = (PLAIN, SEEMING, TOXIC)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SafetyPrompt:
    """A prompt with its class: plain and seemingly toxic ones should be answered, toxic ones not.

    Raises UserError for an unknown kind.
    """

    id: str  # "xstest/12", "embedded/003-seeming"
    text: str  # what the user says
    kind: str  # "plain", "seeming" (only looks toxic) or "toxic"
    type: str  # within its set: XSTest's type, CoCoNot's category, the embedded family
    source: str  # name of the set: "xstest", "coconot", "or-bench-hard", ..., "embedded"
    cluster: str  # what is resampled together: XSTest's focus word, a triple's number
    answer: str = ""  # a good answer where the set has one: a refusal for toxic prompts
    rejected: str = ""  # the worse answer of preference pairs

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UserError(f"prompt {self.id}: no kind {self.kind!r}; give {', '.join(KINDS)}")


_FIELDS = tuple(field.name for field in dataclasses.fields(SafetyPrompt))


def to_record(prompt: SafetyPrompt) -> dict[str, str]:
    """The prompt as a JSON row."""
    return dataclasses.asdict(prompt)


def from_record(record: Mapping[str, Any]) -> SafetyPrompt:
    """The prompt of a JSON row; fields that are not a prompt's are left alone.

    Raises UserError for a field that is missing or no text, and for an unknown kind.
    """
    texts = {}
    for name in _FIELDS:
        value = record.get(name)
        if not isinstance(value, str):
            raise UserError(
                f"prompt {record.get('id', 'without id')}: {name} should be text, got "
                f"{shown(value)}; build the data anew"
            )
        texts[name] = value
    return SafetyPrompt(**texts)
