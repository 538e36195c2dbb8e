"""Thousands of short dialogues to train on, from an inventory of hazards and templates.

A user tells of a constraint and a fact; perhaps another person's wish follows; then comes a
question. Each dialogue has a twin, in which the same user asks after
something that is dangerous for other users but not for this one, or for plain advice. What matters
is thus never the question alone. An instance is a hazard with a thing in a setting, such as peanut
and "the soup with peanut sauce"; the instances are divided between the splits, so that those of
validation and test are unseen in training, while all hazards, things and settings are seen.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.common.embedded.sentences import instance_split
from experiments.common.files.json_rows import read_resource
from experiments.curate.data.build_cases import CONTROL
from experiments.curate.data.cases import Case
from experiments.curate.data.examples import Example
from experiments.curate.data.own import own_tables
from gdpo_jax.errors import UserError

__all__ = ["SPLITS", "Hazard", "generate_examples", "hazards", "instances"]

SPLITS = ("train", "validation", "test")
_PLAIN_SHARE = 0.2  # of the controls ask for plain advice instead of a thing
_SAME_CATEGORY = 0.75  # of the other controls ask for a thing of the hazard's own category
_MOST_TRIES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hazard:
    """Something that is dangerous for one user and harmless for others."""

    category: str
    said: str  # "a peanut allergy"
    name: str  # "peanut allergy"
    term: str  # "peanut"
    kind: str  # "food" or "place": which settings fit
    domains: frozenset[str]  # hazards that share one may not be each other's controls
    things: tuple[str, ...]


@functools.cache
def _inventory() -> Mapping[str, Any]:
    return MappingProxyType(read_resource("experiments.curate.data.embedded", "hazards.json"))


@functools.cache
def hazards() -> tuple[Hazard, ...]:
    """The inventory of hazards."""
    return tuple(
        Hazard(
            **{name: entry[name] for name in ("category", "said", "name", "term", "kind")},
            domains=frozenset(entry["domains"]),
            things=tuple(entry["things"]),
        )
        for entry in _inventory()["hazards"]
    )


@functools.cache
def instances(split: str) -> Mapping[str, tuple[str, ...]]:
    """What may be asked in a split by a hazard's term: its things in all settings."""
    found = {}
    for hazard in hazards():
        asked = [
            setting.format(thing=thing)
            for thing in hazard.things
            for setting in _inventory()["settings"][hazard.kind]
        ]
        found[hazard.term] = tuple(
            text for text in asked if instance_split(f"{hazard.term}: {text}") == split
        )
    return MappingProxyType(found)


def generate_examples(
    split: str, count: int, *, seed: int = 0, per_category: int | None = None
) -> list[Example]:
    """`count` dialogues and the control twin of each, one after the other, all distinct.

    per_category: hazards of each category, the first ones of the inventory; None for all.

    Raises UserError for an unknown split, a negative count, fewer than one hazard, and where the
    templates cannot give so many.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    if count < 0:
        raise UserError(f"count {count}: give the number of dialogues, from 0 on")
    if per_category is not None and per_category < 1:
        raise UserError(f"{per_category} hazards of each category: give a number from 1 on")
    known = _known(split, per_category)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    seen: set[tuple[str, ...]] = set()
    examples: list[Example] = []
    for row in range(count):
        for _ in range(_MOST_TRIES):
            pair = _pair(rng, split, row, known)
            turns = {example.case.turns for example in pair}
            if len(turns) == 2 and seen.isdisjoint(turns):
                break
        else:
            raise UserError(f"the templates gave {row} distinct dialogues; ask for fewer")
        seen |= turns
        examples += pair
    return examples


def _known(split: str, per_category: int | None) -> list[Hazard]:
    """The first hazards of each category, as far as the split asks after something of theirs."""
    by_category: dict[str, list[Hazard]] = {}
    for hazard in hazards():
        by_category.setdefault(hazard.category, []).append(hazard)
    chosen = [hazard for several in by_category.values() for hazard in several[:per_category]]
    return [hazard for hazard in chosen if instances(split)[hazard.term]]


def _pair(
    rng: np.random.Generator, split: str, row: int, known: Sequence[Hazard]
) -> tuple[Example, Example]:
    texts = _inventory()
    hazard = _one(rng, known)
    # Twins share all but the wish and the question.
    fact = _one(rng, own_tables().facts)
    statement = _one(rng, texts["statements"]).format(said=hazard.said)
    start = _one(rng, texts["introductions"]).format(statement=statement, fact=fact)
    greeting = _one(rng, texts["greetings"])
    shared = _Shared(
        split=split,
        row=row,
        hazard=hazard,
        constraint=statement,
        opening=(start, greeting),
        drawn={"fact": (fact,)},
        wish=_one(rng, texts["wishes"]) if rng.random() < 0.5 else "",
        person=_one(rng, texts["people"]),
        reply=_one(rng, texts["replies"]),
        question=_one(rng, texts["questions"]),
        time=_one(rng, texts["times"]),
    )
    danger = _asked(rng, shared, hazard, control=False)
    if rng.random() < _PLAIN_SHARE:
        return danger, _plain(rng, shared)
    others = [h for h in known if hazard.domains.isdisjoint(h.domains)]
    # Most of them of the same category: else an allergy and any food would give the answer away.
    same = [h for h in others if h.category == hazard.category]
    if same and rng.random() < _SAME_CATEGORY:
        others = same
    return danger, _asked(rng, shared, _one(rng, others), control=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shared:
    """What the twins have in common."""

    split: str
    row: int
    hazard: Hazard
    constraint: str
    opening: tuple[str, str]  # the first turn and its answer
    drawn: Mapping[str, tuple[str, ...]]
    wish: str  # template of another person's wish, "" for none
    person: str
    reply: str
    question: str
    time: str


def _asked(rng: np.random.Generator, shared: _Shared, about: Hazard, *, control: bool) -> Example:
    """The dialogue that asks after something of the hazard `about`."""
    texts = _inventory()
    risky = _one(rng, instances(shared.split)[about.term])
    exchanges = [shared.opening]
    if shared.wish:
        wish = shared.wish.format(person=shared.person, risky=risky)
        exchanges.append((wish, shared.reply))
    question = shared.question.format(risky=risky, time=shared.time)
    safe = _one(rng, texts["safe"][about.kind])
    return _example(
        shared,
        exchanges,
        _sentence(question),
        control=control,
        warning=_warning(rng, shared.hazard, risky, safe),
        careless=_sentence(_one(rng, texts["consents"]).format(risky=risky)),
        risky=risky,
        cause=about.name,
        safe=safe,
    )


def _plain(rng: np.random.Generator, shared: _Shared) -> Example:
    """The control that asks for plain advice."""
    texts = _inventory()
    entry = _one(rng, texts["plain"])
    safe = _one(rng, texts["safe"]["place"])
    return _example(
        shared,
        [shared.opening],
        entry["question"],
        control=True,
        warning=_warning(rng, shared.hazard, "that", safe),
        careless=entry["answer"],
        risky="",
        cause="",
        safe=safe,
    )


def _warning(rng: np.random.Generator, hazard: Hazard, risky: str, safe: str) -> str:
    # A template may begin a sentence with the safe thing.
    text = _one(rng, _inventory()["warnings"])
    safe_first = ". {safe}" in text
    return text.format(name=hazard.name, risky=risky, safe=_sentence(safe) if safe_first else safe)


def _example(
    shared: _Shared,
    exchanges: Sequence[tuple[str, str]],
    question: str,
    *,
    control: bool,
    warning: str,
    careless: str,
    risky: str,
    cause: str,
    safe: str,
) -> Example:
    scenario = "short" + (CONTROL if control else "")
    return Example(
        case=Case(
            id=f"{scenario}-{shared.split}/{shared.row:05d}",
            row=shared.row,
            scenario=scenario,
            category=shared.hazard.category,
            constraint=shared.constraint,
            turns=(*(turn for turn, _ in exchanges), question),
            control=control,
            drawn=dict(shared.drawn),
        ),
        given=tuple(answer for _, answer in exchanges),
        target=careless if control else warning,
        warning=warning,
        careless=careless,
        hazard=shared.hazard.term,
        restated=f"your {shared.hazard.name}",
        risky=risky,
        cause=cause,
        safe=safe,
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _one(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[rng.integers(len(options))]
