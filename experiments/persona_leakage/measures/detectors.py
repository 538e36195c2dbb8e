"""Whether an answer carries a user's mark, and how often a detector of marks is wrong.

A mark is found as whole words in their order: case, spacing, punctuation, and accents written as
characters of their own make no difference. Emoji and a few emoticons count as words. `12` is
therefore found in `12.5`; marks should be rarer than that (base rate below 1 %).

A style detector says that an answer carries a user's style where a score reaches a threshold,
which is chosen on answers of a model that never saw the user.
"""

import dataclasses
import math
import re
import unicodedata
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float

from experiments.common.scores.intervals import Interval
from experiments.persona_leakage.data.users import User
from experiments.persona_leakage.measures.resampling import user_interval
from gdpo_jax.errors import UserError

__all__ = [
    "DetectorErrors",
    "at_least",
    "carries",
    "detector_errors",
    "hits",
    "mark_hits",
    "spans",
    "threshold_at",
]

# A letter or digit with the accents behind it, an emoticon that no letter follows, or a symbol.
_WORD = re.compile(
    r"(?:[^\W_][\u0300-\u036f]*)+"
    r"|<3|[:;]-?[)(DP*](?!\w)"
    r"|[\u2600-\u27bf\U0001f300-\U0001faff]"
)
_BETWEEN = "\n"  # no word holds one


@dataclasses.dataclass(frozen=True)
class DetectorErrors:
    """Shares of answers over users, each with an interval by bootstrap over users.

    false_positive: detected in answers of a model that never saw the user. false_negative: not
    detected in answers that carry the user's marks. worst: the largest share of false positives of
    one user.
    """

    false_positive: Interval
    false_negative: Interval
    worst: float


def carries(mark_text: str, answer: str) -> bool:
    """Whether the answer holds the words of the mark in their order, next to each other.

    Raises UserError for a mark without a word.
    """
    return _wanted(mark_text) in _joined(answer)


def spans(mark_text: str, answer: str) -> list[tuple[int, int]]:
    """Where the mark stands in the answer: (first character, behind the last), without overlaps.

    Raises UserError for a mark without a word.
    """
    wanted = _wanted(mark_text).strip(_BETWEEN).split(_BETWEEN)
    found = [(_plain(match[0]), *match.span()) for match in _WORD.finditer(answer)]
    words = [word for word, _, _ in found]
    places, first = [], 0
    while first + len(wanted) <= len(words):
        last = first + len(wanted)
        if words[first:last] == wanted:
            places.append((found[first][1], found[last - 1][2]))
            first = last
        else:
            first += 1
    return places


def mark_hits(marks: Sequence[str], answers: Sequence[str]) -> Bool[np.ndarray, "M N"]:
    """`carries` of every mark in every answer. Raises UserError for a mark without a word."""
    wanted, texts = [_wanted(mark) for mark in marks], [_joined(answer) for answer in answers]
    found = np.zeros((len(wanted), len(texts)), np.bool_)
    for m, mark in enumerate(wanted):
        found[m] = [mark in text for text in texts]
    return found


def hits(
    users: Sequence[User], answers: Sequence[str], *, kinds: Collection[str] | None = None
) -> Bool[np.ndarray, "U N"]:
    """D_u(y): whether answer n carries any mark of user u.

    kinds: of marks that count; all unless given. Raises UserError for a mark without a word.
    """
    found = np.zeros((len(users), len(answers)), np.bool_)
    for u, user in enumerate(users):
        marks = [mark.text for mark in user.marks if kinds is None or mark.kind in kinds]
        found[u] = mark_hits(marks, answers).any(axis=0)
    return found


def threshold_at(scores: Float[np.ndarray, "*any"], rate: float) -> float:
    """The lowest threshold at which at most the share `rate` of these scores is detected.

    scores: of answers of a model that never saw the user; NaN is left out. A score is detected
    where it is at least the threshold, which is one of the scores or just above the highest one.
    Raises UserError for a rate outside [0, 1] and for no scores.
    """
    if not 0.0 <= rate <= 1.0:
        raise UserError(f"rate={rate}; give a share between 0 and 1, such as 0.01")
    known = np.sort(scores[~np.isnan(scores)])[::-1]
    if not known.size:
        raise UserError("there are no scores to choose a threshold on; score answers of a model "
                        "that never saw the user")  # fmt: skip
    allowed = math.floor(rate * known.size + 1e-9)
    if allowed == known.size:
        return float(known[-1])
    # The first score that must stay below: tied ones stay below with it.
    above = known[known > known[allowed]]
    return float(above[-1]) if above.size else float(np.nextafter(known[0], np.inf))


def at_least(
    scores: Float[np.ndarray, "*any"], threshold: float | Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    """1 where a score reaches the threshold, 0 where it does not, NaN where there is no score."""
    return np.where(np.isnan(scores), np.nan, (scores >= threshold).astype(np.float64))


def detector_errors(
    never_saw: Float[np.ndarray, "U N"] | Bool[np.ndarray, "U N"],
    carrying: Float[np.ndarray, "U M"] | Bool[np.ndarray, "U M"],
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> DetectorErrors:
    """How often the detector of each of `U` users is wrong; NaN is left out.

    never_saw: detections in answers of a model that never saw the user. carrying: detections in
    answers that carry a mark of the user. Raises UserError for shares of nothing.
    """
    options = {"samples": samples, "level": level, "seed": seed}
    wrong = np.asarray(never_saw, np.float64)
    false_positive = user_interval(wrong, **options)
    false_negative = user_interval(1.0 - np.asarray(carrying, np.float64), **options)
    counts = (~np.isnan(wrong)).sum(axis=1)
    shares = np.nansum(wrong, axis=1)[counts > 0] / counts[counts > 0]
    return DetectorErrors(false_positive, false_negative, float(shares.max()))


def _plain(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()


def _joined(text: str) -> str:
    words = [_plain(match[0]) for match in _WORD.finditer(text)]
    return _BETWEEN + _BETWEEN.join(words) + _BETWEEN


def _wanted(mark: str) -> str:
    joined = _joined(mark)
    if not joined.strip(_BETWEEN):
        raise UserError(f"mark {mark!r} has no word to look for; give it letters, digits or emoji")
    return joined
