"""Ordinary questions with plain advice, about which anybody may ask.

A question is a frame of a topic with one of its items; frames and items are seen in training, and
the filled questions are divided between the splits by a hash of their text.
"""

import functools
from dataclasses import dataclass

from experiments.common.embedded.sentences import instance_split
from experiments.common.files.json_rows import read_resource

__all__ = ["Question", "questions"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question in plain words, the answer, and the words that an answer of use must have."""

    topic: str
    text: str
    answer: str
    item: str
    advice: str
    split: str  # "train", "validation" or "test"


@functools.cache
def questions(split: str | None = None) -> tuple[Question, ...]:
    """The ordinary questions of a split, or all of them."""
    found = _all() if split is None else [q for q in _all() if q.split == split]
    return tuple(found)


@functools.cache
def _all() -> tuple[Question, ...]:
    topics = read_resource("experiments.persona_leakage.data.embedded", "topics.json")
    return tuple(
        Question(
            topic=topic["name"],
            text=(text := frame.format(item=item)),
            answer=topic["answer"].format(
                item=item, advice=advice, Advice=advice[0].upper() + advice[1:]
            ),
            item=item,
            advice=advice,
            split=instance_split(text),
        )
        for topic in topics
        for item, advice in topic["items"].items()
        for frame in topic["questions"]
    )
