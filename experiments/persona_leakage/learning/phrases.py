"""Phrases that the answers to one user repeat and those to others do not, found without knowing any
mark, and texts without them.

A phrase is a run of words within a sentence, not across its commas. It is a user's own where
enough of his answers have it (document frequency) and the answers of at most so many other users do
(document frequency by user). The shortest such runs are grown by the words that nearly always stand
beside them, so that a saying of common words goes as a whole.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gdpo_jax.errors import UserError

__all__ = [
    "Phrase",
    "PhraseRule",
    "personal_phrases",
    "phrase_spans",
    "without_phrases",
    "words_of",
]

Phrase = tuple[str, ...]  # words in lower case

# Words with hyphens and apostrophes inside, and signs that are no punctuation, such as emoji.
_APOSTROPHE, _DASHES = "\u2019", "\u2013\u2014"
_BREAKS = rf".,;:!?…()\"“”{_DASHES}"
_WORD = re.compile(rf"[^\W_]+(?:['{_APOSTROPHE}\-][^\W_]+)*|[^\w\s'{_APOSTROPHE}\-{_BREAKS}]+")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|\n+")
_BREAK = re.compile(rf"[{_BREAKS}\n]")


@dataclass(frozen=True, kw_only=True)
class PhraseRule:
    """What makes a phrase one user's own, and how much of a sentence goes with it.

    Raises UserError for numbers out of their range.
    """

    repeats: int = 3
    """Of his answers that have it, at least. 1 finds what was said once, and in a wide vocabulary
    much that is nobody's."""
    others: int = 0
    """Other users whose answers may have it."""
    longest: int = 8
    """Words of a phrase."""
    beside: float = 0.9
    """A neighbouring word belongs to it if it stands there in this share of the answers that have
    the phrase."""
    lost: float = 0.75
    """A sentence that would lose this share of its words goes as a whole."""

    def __post_init__(self) -> None:
        for name, least in (("repeats", 1), ("others", 0), ("longest", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("beside", "lost"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")


def personal_phrases(
    answers: Mapping[str, Sequence[str]], rule: PhraseRule
) -> dict[str, tuple[Phrase, ...]]:
    """Each user's own phrases, in order, from the answers given to all users."""
    counts = {user: _answers_with(texts, rule.longest) for user, texts in answers.items()}
    users_with = Counter(phrase for own in counts.values() for phrase in own)
    return {user: _own(own, users_with, rule) for user, own in counts.items()}


def without_phrases(text: str, phrases: Collection[Phrase], rule: PhraseRule) -> str:
    """The text without these phrases, its commas and capital letters mended; "" if nothing is left.

    Sentences without any of them stay letter by letter.
    """
    by_first = _by_first(phrases)
    kept = (_without(sentence, by_first, rule) for sentence in _SENTENCE_END.split(text))
    return " ".join(filter(None, kept))


def phrase_spans(text: str, phrases: Collection[Phrase]) -> int:
    """In how many places the text has some of these phrases; those that touch are one place."""
    by_first, spans = _by_first(phrases), 0
    for sentence in _SENTENCE_END.split(text):
        for part in _parts(sentence):
            own = _belongs([word for word, *_ in part], by_first)
            spans += sum(now and not before for before, now in pairwise([False, *own]))
    return spans


def words_of(text: str) -> list[str]:
    """The words of a text as phrases hold them."""
    return [word for sentence in _SENTENCE_END.split(text) for word, *_ in _places(sentence)]


def _answers_with(texts: Sequence[str], longest: int) -> Counter[Phrase]:
    """How many of the texts have each run of at most `longest` words."""
    found: Counter[Phrase] = Counter()
    for text in texts:
        runs: set[Phrase] = set()
        for sentence in _SENTENCE_END.split(text):
            for part in _parts(sentence):
                words = tuple(word for word, *_ in part)
                for first in range(len(words)):
                    ends = range(first + 1, min(first + longest, len(words)) + 1)
                    runs.update(words[first:end] for end in ends)
        found.update(runs)
    return found


def _own(
    counts: Counter[Phrase], users_with: Counter[Phrase], rule: PhraseRule
) -> tuple[Phrase, ...]:
    def special(phrase: Phrase) -> bool:
        return counts[phrase] >= rule.repeats and users_with[phrase] <= rule.others + 1

    longer: dict[Phrase, list[Phrase]] = defaultdict(list)
    for phrase in counts:
        if len(phrase) > 1:
            longer[phrase[1:]].append(phrase)
            longer[phrase[:-1]].append(phrase)
    found = set()
    for phrase in counts:
        # Every longer run around a special one is special as well, whatever stands beside it.
        shorter = (phrase[1:], phrase[:-1]) if len(phrase) > 1 else ()
        if special(phrase) and not any(map(special, shorter)):
            found.add(_grown(phrase, counts, longer, rule.beside * counts[phrase]))
    return tuple(sorted(found))


def _grown(
    phrase: Phrase, counts: Counter[Phrase], longer: Mapping[Phrase, list[Phrase]], least: float
) -> Phrase:
    """The phrase with its neighbours, as long as so many answers have both."""
    while near := [other for other in longer.get(phrase, ()) if counts[other] >= least]:
        phrase = min(near, key=lambda other: (-counts[other], other))
    return phrase


def _places(sentence: str) -> Iterator[tuple[str, int, int]]:
    """Words of a sentence in lower case, with the characters from and to which they stand."""
    for match in _WORD.finditer(sentence):
        yield match.group().lower().replace(_APOSTROPHE, "'"), *match.span()


def _parts(sentence: str) -> list[list[tuple[str, int, int]]]:
    """The words of a sentence, cut where there is punctuation between them."""
    parts: list[list[tuple[str, int, int]]] = []
    before = 0
    for place in _places(sentence):
        if not parts or _BREAK.search(sentence, before, place[1]):
            parts.append([])
        parts[-1].append(place)
        before = place[2]
    return parts


def _by_first(phrases: Collection[Phrase]) -> dict[str, list[Phrase]]:
    found: dict[str, list[Phrase]] = defaultdict(list)
    for phrase in phrases:
        found[phrase[0]].append(phrase)
    return found


def _belongs(words: Sequence[str], by_first: Mapping[str, list[Phrase]]) -> list[bool]:
    """Whether each word belongs to one of the phrases where it stands."""
    own = [False] * len(words)
    for first, word in enumerate(words):
        for phrase in by_first.get(word, ()):
            last = first + len(phrase)
            if tuple(words[first:last]) == phrase:
                own[first:last] = [True] * len(phrase)
    return own


def _without(sentence: str, by_first: Mapping[str, list[Phrase]], rule: PhraseRule) -> str:
    parts = _parts(sentence)
    gone = [  # characters, of one word each
        place[1:]
        for part in parts
        for place, own in zip(part, _belongs([word for word, *_ in part], by_first))
        if own
    ]
    if not gone:
        return sentence
    if len(gone) >= rule.lost * sum(map(len, parts)):
        return ""
    rest = list(sentence)
    for first, last in gone:
        rest[first:last] = " " * (last - first)
    return _mended("".join(rest), capital=sentence.lstrip()[:1].isupper())


def _mended(text: str, *, capital: bool) -> str:
    """A sentence with gaps as one without: single spaces, no punctuation that closes nothing."""
    text = re.sub(r"\(\s*\)|\"\s*\"|“\s*”", " ", text)
    text = re.sub(r"\s+([,.;:!?…)”])", r"\1", text)
    text = re.sub(rf"[,;:{_DASHES}]+(?=[,;:.!?…])", "", text)
    text = re.sub(r"\s+", " ", text).strip(f" ,;:-{_DASHES}")
    return text[:1].upper() + text[1:] if capital else text
