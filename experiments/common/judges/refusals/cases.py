"""Answers whose refusals are judged."""

import dataclasses

__all__ = ["Answered"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """A prompt and the answer that a model gave to it; id: the name by which messages call it."""

    id: str
    prompt: str
    text: str
