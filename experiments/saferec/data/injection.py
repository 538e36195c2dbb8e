"""From a plain conversation to one with a sensitivity (SafeCRS, arXiv 2603.03536, section on data).

    1. a judge assigns a trait;         2. ground truth that violates it is removed;
    3. a sentence about it is put before the conversation;
    4. the teacher's list without what violates becomes the text to imitate.

Sentences are ours. What the oracle does not know is kept, as in the paper.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from experiments.common.judges.verdict import Verdict
from experiments.saferec.data.targets import safe_target
from experiments.saferec.embedded.phrases import Phrasebook
from experiments.saferec.lists.parsing import parse_recommendations
from experiments.saferec.lists.records import groundtruth, teacher_list, to_pairs
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import check_choice
from experiments.saferec.oracle.titles import FilmKey
from gdpo_jax.errors import UserError

__all__ = ["CONSTRAINT_FRAMES", "CoListed", "Dropped", "Injection", "inject", "needs_judge"]


class Dropped(Exception):
    """Why a conversation can not have a sensitivity."""


Disclosure = Literal["outright", "hinted", "mixed"]
# With the five phrases of a trait, 25 sentences each.
CONSTRAINT_FRAMES = (
    "One thing first: I want nothing with {x}.",
    "Please keep in mind that I can not deal with {x}.",
    "Whatever you suggest, leave out {x}.",
    "I have to avoid {x}, so choose with care.",
    "It would spoil the evening for me to run into {x}.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Injection:
    """How conversations get their sensitivities."""

    list_length: int = 20  # items asked for, and the longest target
    refill: bool = False  # fill targets up with safe items that teachers list beside the others
    disclosure: Disclosure = "outright"  # said by the user, hinted at, or mixed: each to one half
    rate: float = 1.0  # share of the conversations that get one; the others stay as they are
    min_groundtruth: int = 1  # liked items that a conversation must have before any is removed
    risks_shown: int = 5  # left-out items that a target names
    seed: int = 42  # of the sentences and of chance

    def __post_init__(self):
        check_choice("disclosure", self.disclosure, get_args(Disclosure))
        if not 0 <= self.rate <= 1:
            raise UserError(f"rate={self.rate}; give a share from 0 to 1")
        for name, least in (("list_length", 1), ("min_groundtruth", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}; give at least {least}")


class CoListed:
    """Which items teachers list together: where a shortened list finds others for its gaps."""

    def __init__(self, lists: Iterable[Sequence[FilmKey]]):
        self._beside: dict[FilmKey, Counter[FilmKey]] = {}
        for items in lists:
            for item in items:
                self._beside.setdefault(item, Counter()).update(items)

    def ranked(self, items: Sequence[FilmKey]) -> list[FilmKey]:
        """Other items, those first that stand beside most of `items` most often; then by title."""
        total: Counter[FilmKey] = Counter()
        for item in items:
            total.update(self._beside.get(item, {}))
        others = total.keys() - set(items)
        return sorted(others, key=lambda item: (-total[item], item))


def needs_judge(record: Mapping[str, Any], options: Injection) -> bool:
    """Does `inject` need a verdict on the record? Not where it has a trait already, where chance
    spares it, and where it is dropped anyway."""
    return (
        not record.get("assigned_trait")
        and _reason_to_drop(record, options) is None
        and not _chance(record, options).spared
    )


def inject(
    record: Mapping[str, Any],
    *,
    verdict: Verdict | None,
    oracle: Oracle,
    book: Phrasebook,
    options: Injection = Injection(),
    co_listed: CoListed | None = None,
) -> dict[str, Any]:
    """The record with a sensitivity, or unchanged but for its target where chance spares it.

    verdict: whose label is the trait, of a record that `needs_judge`. A record that has an
    `assigned_trait` keeps it. Draws depend on the seed and the record's id alone. Raises Dropped
    with the reason why a record is dropped: too little ground truth before or after the removal, no
    trait, or no list.
    """
    reason = _reason_to_drop(record, options)
    if reason is not None:
        raise Dropped(reason)
    liked = groundtruth(record)
    rng, spared, outright = _chance(record, options)
    made = {
        **record,
        "removed_groundtruth": [],
        "constraints": {},
        "assigned_trait": "",
        "sentences": [],
    }
    if not spared:
        trait, reason = _assign(record, verdict, oracle.trait_keys)
        verdicts = oracle.judge(liked, (trait,))
        kept = [item for item, verdict in zip(liked, verdicts) if verdict is not True]
        if not kept:
            raise Dropped(f"all ground truth violates {trait!r}")
        sentence = _sentence(rng, book, trait, outright=outright)
        made |= {
            "prompt": _prepend(sentence, record["prompt"]),
            "groundtruth_with_release_year": to_pairs(kept),
            "removed_groundtruth": to_pairs([item for item in liked if item not in kept]),
            "constraints": {trait: True},
            "assigned_trait": trait,
            "assignment_reason": reason,
            "sentences": [sentence],
            "said_outright": outright,
        }
    target = _target(made, oracle, options, co_listed)
    if not parse_recommendations(target):
        raise Dropped(f"the whole list violates {made['assigned_trait']!r}")
    made["completion"] = [{"role": "assistant", "content": target}]
    return made


class _Chance(NamedTuple):
    rng: np.random.Generator  # goes on with the sentence
    spared: bool
    outright: bool


def _chance(record: Mapping[str, Any], options: Injection) -> _Chance:
    rng = np.random.default_rng([options.seed, zlib.crc32(record["sample_id"].encode())])
    spared = rng.random() >= options.rate
    outright = options.disclosure == "outright"
    if options.disclosure == "mixed":
        outright = bool(rng.random() < 0.5)
    return _Chance(rng, spared, outright)


def _reason_to_drop(record: Mapping[str, Any], options: Injection) -> str | None:
    """Why the record is dropped, whatever trait it had."""
    liked = groundtruth(record)
    if len(liked) < options.min_groundtruth:
        return f"{len(liked)} liked items; {options.min_groundtruth} are needed"
    return None if teacher_list(record) else "the teacher's list is empty"


def _assign(
    record: Mapping[str, Any], verdict: Verdict | None, trait_keys: Sequence[str]
) -> tuple[str, str]:
    given = record.get("assigned_trait")
    if given:
        trait, reason = given, str(record.get("assignment_reason") or "assigned before")
    elif verdict is None or verdict.label is None:
        raise Dropped(f"no trait assigned: {'not judged' if verdict is None else verdict.reason}")
    else:
        trait, reason = str(verdict.label), verdict.reason
    if trait not in trait_keys:
        raise Dropped(f"trait {trait!r} is none of these items")
    return trait, reason


def _sentence(rng: np.random.Generator, book: Phrasebook, trait: str, *, outright: bool) -> str:
    if outright:
        frame, phrase = rng.choice(CONSTRAINT_FRAMES), rng.choice(book.outright[trait])
        return str(frame).format(x=phrase)
    frame, who = rng.choice(book.hint_frames), rng.choice(book.companions)
    return str(frame).format(who=who, x=rng.choice(book.hinted[trait]))


def _prepend(sentence: str, prompt: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    first, *rest = prompt
    return [{**first, "content": f"{sentence} {first['content']}"}, *map(dict, rest)]


def _target(
    record: Mapping[str, Any], oracle: Oracle, options: Injection, co_listed: CoListed | None
) -> str:
    teacher = teacher_list(record)
    fillers: list[FilmKey] = []
    traits = tuple(record["constraints"])
    if options.refill and traits:
        found = co_listed.ranked(teacher) if co_listed is not None else []
        seen = set(record["seen_titles"])
        verdicts = oracle.judge(found, traits)
        # Only what is known to be safe, and new to the user.
        fillers = [i for i, v in zip(found, verdicts) if v is False and i[0] not in seen]
    else:
        teacher = teacher[: options.list_length]
    bare = {name: value for name, value in record.items() if name != "completion"}
    return safe_target(
        {**bare, "teacher": to_pairs(teacher)},
        oracle,
        list_length=options.list_length,
        shown=options.risks_shown,
        fillers=fillers,
    )
