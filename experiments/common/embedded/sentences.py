"""Sentences from templates, divided between the splits without leakage.

A sentence is a frame with slots. The instances of every frame are divided by a hash of the filled
text, so no filled sentence of a test record is ever seen in training, while every frame and every
filler is.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

__all__ = ["NoInstance", "draw_one", "draw_sentence", "instance_split"]

T = TypeVar("T")

_TRIES = 100


class NoInstance(Exception):
    """None of a sentence's instances with the given fillers belongs to the split."""


def instance_split(text: str) -> str:
    """The split of a filled sentence: one in ten test, one in ten validation, else train."""
    bucket = zlib.crc32(text.encode()) % 10
    return {0: "test", 1: "validation"}.get(bucket, "train")


def draw_one(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """What `rng.choice(choices)` draws, without making an array of them each time."""
    return choices[int(rng.integers(len(choices)))]


def draw_sentence(
    rng: np.random.Generator,
    split: str,
    frames: Sequence[str],
    slots: Callable[[], Mapping[str, str]],
) -> str:
    """A random frame filled by `slots`, drawn until the instance belongs to `split`.

    Raises `NoInstance` where a hundred of them do not, as where all slots are given.
    """
    for _ in range(_TRIES):
        text = draw_one(rng, frames).format(**slots())
        text = text[0].upper() + text[1:]
        if instance_split(text) == split:
            return text
    raise NoInstance
