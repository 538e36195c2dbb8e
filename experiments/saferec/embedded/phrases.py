"""Our own sentences: how users say what they like, and how they say or hint what hurts them.

The words are in `phrases.json`. A sentence is a frame with slots, whose instances
`experiments.common.embedded` divides between the splits.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.common.files.json_rows import read_resource

__all__ = ["FILM_PHRASES", "GAME_PHRASES", "NEWEST_FIRST", "Phrasebook"]

NEWEST_FIRST = "newest first"  # in the task of both books


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phrasebook:
    """What users of one domain say. A frame has the slots that its comment names."""

    task: str  # {count}
    liked_frames: Sequence[str]  # {a}, {b}: titles
    wish_frames: Sequence[str]  # {x}, {y}: words of `genre_words`
    system_frames: Sequence[str]  # {x}, {y}: the same
    genre_words: Mapping[str, Sequence[str]]  # how each genre is called
    outright_frames: Sequence[str]  # {x}: words of `outright`
    outright: Mapping[str, Sequence[str]]  # what a user with the trait rejects
    companions: Sequence[str]
    hint_frames: Sequence[str]  # {who}: a companion, {x}: a hint
    hinted: Mapping[str, Sequence[str]]  # what somebody's life says about the trait


_WORDS = read_resource(__package__, "phrases.json")
FILM_PHRASES = Phrasebook(**_WORDS["shared"], **_WORDS["films"])
GAME_PHRASES = Phrasebook(**_WORDS["shared"], **_WORDS["games"])
