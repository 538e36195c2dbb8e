"""What a judge says of a case: a verdict, or that its answer could not be read."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Judge", "Label", "Verdict", "read_json_object", "unread"]

Label = str | int | None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A label and why.

    read: False where the judge's answer could not be read: then there is no label, and nobody may
    guess one. None is a label like others for experiments that have a use for it.
    """

    label: Label
    reason: str = ""
    raw: str = ""  # the answer as it came
    read: bool = True

    def __post_init__(self):
        if not self.read and self.label is not None:
            raise ValueError(f"an unread verdict has no label; found {self.label!r}")


def unread(reason: str, raw: str = "") -> Verdict:
    """The verdict of an answer that could not be read, for this reason."""
    return Verdict(None, reason, raw, read=False)


class Judge(Protocol):
    """One verdict on each case, in order; what a case is, is up to the experiment.

    Raises `UserError` that names judge and case where a verdict cannot be had at all.
    """

    def __call__(self, cases: Sequence[Any]) -> list[Verdict]: ...


def read_json_object(text: str) -> Mapping[str, Any]:
    """The JSON object in a text that may have words around it; ValueError where there is none."""
    start, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[start : end + 1])
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value
