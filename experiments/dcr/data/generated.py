"""Thousands of matched triples to learn from, from an inventory of acts and things.

A use is a list of acts that go with things of one sort, and says whether asking for that is plain,
only looks toxic, or is toxic. The same act stands in uses of different kinds, and so does the same
sort of thing: "kill" the weeds and "kill" a stranger, "thank" a stranger; soup may be burnt and not
poisoned, letters burnt and not forged, a guard robbed in a novel and not behind the school. What
decides is the combination, and no word by itself. The combinations are divided between the splits,
so that those of validation and test are unseen in training, while all acts and things are seen.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.common.embedded.sentences import instance_split
from experiments.common.files.json_rows import read_resource
from experiments.dcr.data.prompts import PLAIN, SEEMING, TOXIC, SafetyPrompt
from experiments.dcr.data.triples import SPLITS, Triple, addressed, sentence
from gdpo_jax.errors import UserError

__all__ = ["SOURCE", "Use", "generate_triples", "instances", "uses"]

SOURCE = "generated"
_MOST_TRIES = 100


# Compared by identity: each use is made once.
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Use:
    """Acts that go with things of one sort, and how asking for that should be answered."""

    family: str
    acts: tuple[str, ...]
    sort: str  # of the things
    things: tuple[str, ...]
    kind: str
    frames: tuple[str, ...]  # how it is asked for
    answers: tuple[str, ...]  # refusals for toxic uses; templates of {act}, {object} and one detail
    details: tuple[str, ...]  # what to do, or what harm it would do


@functools.cache
def _inventory() -> Mapping[str, Any]:
    return MappingProxyType(read_resource("experiments.dcr.data.embedded", "inventory.json"))


@functools.cache
def uses() -> tuple[Use, ...]:
    """All uses of the inventory, family by family."""
    return tuple(_use(family, row) for family in _inventory()["families"] for row in family["uses"])


def _use(family: Mapping[str, Any], row: Mapping[str, Any]) -> Use:
    texts, things = _inventory(), row["things"]
    if isinstance(things, str):
        sort = things
        parts = [texts["things"][part] for part in texts["products"].get(sort, [sort])]
        things = [" ".join(words) for words in itertools.product(*parts)]
    else:
        sort = ", ".join(things)
    toxic = row["kind"] == TOXIC
    common = "refusals" if toxic else "answers"
    return Use(
        family=family["name"],
        acts=tuple(row["acts"]),
        sort=sort,
        things=tuple(things),
        kind=row["kind"],
        frames=tuple(family.get("frames", texts["frames"])),
        answers=tuple(row.get("answers", family.get(common, texts[common]))),
        details=tuple(row["harm"] if toxic else row.get("tips", ("",))),
    )


@functools.cache
def instances(split: str) -> Mapping[Use, tuple[tuple[str, str], ...]]:
    """The combinations (act, thing) of every use in a split."""
    return MappingProxyType(
        {
            use: tuple(
                pair
                for pair in itertools.product(use.acts, use.things)
                if instance_split(" ".join(pair)) == split
            )
            for use in uses()
        }
    )


def generate_triples(split: str, count: int, *, seed: int = 0) -> list[Triple]:
    """`count` triples, all distinct; the same for the same arguments.

    A triple is of one family and one wording; its prompts share acts or things where the split has
    such combinations. Families are equally frequent, so that in training the texts of small ones
    recur in other triples; in validation and test no text occurs twice. Raises UserError for an
    unknown split, a negative count, and where the inventory cannot give so many.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    if count < 0:
        raise UserError(f"count {count}: give the number of triples, from 0 on")
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    families = [family["name"] for family in _inventory()["families"]]
    seen: set[str | tuple[str, ...]] = set()
    found: list[Triple] = []
    for row in range(count):
        for _ in range(_MOST_TRIES):
            triple = _triple(rng, split, _one(rng, families), f"{SOURCE}-{split}/{row:05d}")
            texts = tuple(prompt.text for prompt in triple.prompts)
            new = {texts} if split == "train" else set(texts)
            if seen.isdisjoint(new):
                break
        else:
            raise UserError(f"the inventory gave {row} distinct triples; ask for fewer")
        seen |= new
        found.append(triple)
    return found


def _triple(rng: np.random.Generator, split: str, family: str, name: str) -> Triple:
    toxic = _matched(rng, split, family, TOXIC)
    seeming = _matched(rng, split, family, SEEMING, toxic)
    plain = _matched(rng, split, family, PLAIN, toxic, seeming)
    frame = _one(rng, toxic[0].frames)
    made = {
        use.kind: _prompt(rng, use, act, thing, frame, name)
        for use, act, thing in (plain, seeming, toxic)
    }
    return Triple(**made)


_Candidate = tuple[Use, str, str]


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """The combinations of one kind, and their numbers by act and by thing."""

    all: tuple[_Candidate, ...]
    by_act: Mapping[str, list[int]]
    by_thing: Mapping[str, list[int]]


@functools.cache
def _candidates(split: str, family: str, kind: str) -> _Candidates:
    found = tuple(
        (use, act, thing)
        for use, pairs in instances(split).items()
        if (use.family, use.kind) == (family, kind)
        for act, thing in pairs
    )
    by_act: dict[str, list[int]] = {}
    by_thing: dict[str, list[int]] = {}
    for number, (_, act, thing) in enumerate(found):
        by_act.setdefault(act, []).append(number)
        by_thing.setdefault(thing, []).append(number)
    return _Candidates(found, by_act, by_thing)


def _matched(
    rng: np.random.Generator, split: str, family: str, kind: str, *others: _Candidate
) -> _Candidate:
    """One of a kind that shares the thing or the act with one of the others, if any does."""
    candidates = _candidates(split, family, kind)
    numbers = [
        number
        for _, act, thing in others
        for number in (*candidates.by_act.get(act, ()), *candidates.by_thing.get(thing, ()))
    ]
    return candidates.all[_one(rng, numbers or range(len(candidates.all)))]


def _prompt(
    rng: np.random.Generator, use: Use, act: str, thing: str, frame: str, name: str
) -> SafetyPrompt:
    told = {"act": addressed(act), "object": addressed(thing)}
    detail = _one(rng, use.details).format(**told)
    answer = _one(rng, use.answers).format(
        **told, Object=sentence(told["object"]), tip=detail, harm=detail
    )
    return SafetyPrompt(
        id=f"{name}-{use.kind}",
        text=sentence(frame.format(act=act, object=thing)),
        kind=use.kind,
        type=use.family,
        source=SOURCE,
        cluster=name,
        answer=answer,
    )


def _one(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    return options[rng.integers(len(options))]
