"""What supervised fine-tuning imitates: the teacher's list, raw or made safe (Safe-SFT, SafeCRS).

A target first says in a reasoning block what it read. The safe one names the sensitivity, a film
left out with its risk, and then lists the rest of the teacher's films without refilling, so that
its length varies with what had to go. A record that has a finished target, a `completion` with a
solution block, keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.saferec.embedded.phrases import NEWEST_FIRST
from experiments.saferec.lists.parsing import SOLUTION_OPEN
from experiments.saferec.lists.records import active_traits, teacher_list
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.table import Item
from experiments.saferec.oracle.titles import FilmKey

__all__ = ["base_examples", "plain_target", "reading_target", "safe_target", "solution_block"]


def solution_block(items: list[tuple[str, int]], *, newest_first: bool = True) -> str:
    """The closed block that holds the list, one `Title (Year)` a line, newest first or as given.

    A small policy learns from the order not to repeat itself.
    """
    items = sorted(items, key=lambda item: -item[1]) if newest_first else items
    return "".join(
        ["<solution>\n", *(f"{title} ({year})\n" for title, year in items), "</solution>"]
    )


def reading_target(record: Mapping) -> str:
    """What the conversation says, without a list: the wishes and the sensitivity, by name."""
    return _reasoning(_wishes(record) + _sensitivity(record))


def plain_target(record: Mapping, *, list_length: int) -> str:
    """The wishes, then the first `list_length` films of the teacher, safe or not."""
    block = solution_block(teacher_list(record)[:list_length], newest_first=_newest_first(record))
    wishes = _wishes(record)
    return f"{_reasoning(wishes)}\n{block}" if wishes else block


def safe_target(
    record: Mapping,
    oracle: Oracle,
    *,
    list_length: int,
    shown: int = 1,
    fillers: Sequence[FilmKey] = (),
) -> str:
    """Wishes, sensitivity and films left out, then at most `list_length` safe films of the teacher.

    `shown` bounds the left-out films that the reasoning names with their risk; `fillers` make up
    for what is missing at the end of the list.
    """
    finished = record.get("completion")
    if finished and SOLUTION_OPEN in finished[-1]["content"]:
        return finished[-1]["content"]
    traits, teacher = active_traits(record), teacher_list(record)
    verdicts = oracle.judge(teacher, traits)
    kept = [film for film, violates in zip(teacher, verdicts) if violates is not True]
    left_out = [
        (*film, max(oracle.risk(*film, key) for key in traits))
        for film, violates in zip(teacher, verdicts)
        if violates is True
    ]
    lines = _wishes(record) + _sensitivity(record)
    lines += [
        f"Left out: {title} ({year}), risk {risk:.2f}" for title, year, risk in left_out[:shown]
    ]
    listed = [*kept, *fillers][:list_length]
    block = solution_block(listed, newest_first=_newest_first(record))
    return f"{_reasoning(lines)}\n{block}" if lines else block


def _wishes(record: Mapping) -> list[str]:
    """What invented conversations say about the user's taste; nothing for others."""
    return [f"Wants: {', '.join(record['wishes'])}"] if record.get("wishes") else []


def _newest_first(record: Mapping) -> bool:
    return NEWEST_FIRST in record["prompt"][0]["content"]


def _sensitivity(record: Mapping) -> list[str]:
    traits = active_traits(record)
    return [f"Avoid: {', '.join(traits)}"] if traits else []


def _reasoning(lines: list[str]) -> str:
    return "\n".join(["<reasoning>", *lines, "</reasoning>"])


def base_examples(
    records: Sequence[Mapping],
    films: Sequence[Item],
    oracle: Oracle,
    *,
    draws: int = 40,
    shown: int = 4,
    seed: int = 0,
) -> list[tuple[str, str]]:
    """(prompt, completion) pairs from which a policy learns to read and to know films.

    Single sentences and whole conversations with what they say; films by genre, by content, and by
    genre without some content (`draws` lists of at most `shown` films for each of these pairs, from
    `seed`). Like a pretrained language model, it then knows which films contain what, but no
    conversation is joined with a film: that is left to the later stages.
    """
    read = [(record["prompt"][0]["content"], reading_target(record)) for record in records]
    for number, record in enumerate(records):
        if sentences := record.get("sentences", [])[:: 1 if number % 2 else -1]:
            read.append((" ".join(sentences), reading_target(record)))
    known = []
    for film in films:
        block = solution_block([(film.title, film.year)])
        known += [(f"Films: {genre}", block) for genre in film.genres]
        known += [
            (f"Content: {key}", block) for key in oracle.trait_keys if _contains(oracle, film, key)
        ]
    rng = np.random.default_rng(seed)
    for genre in sorted({genre for film in films for genre in film.genres}):
        of_genre = [film for film in films if genre in film.genres]
        for key in oracle.trait_keys:
            free = [film for film in of_genre if not _contains(oracle, film, key)]
            for _ in range(draws if free else 0):
                drawn = [free[i] for i in rng.permutation(len(free))[:shown]]
                block = solution_block([(film.title, film.year) for film in drawn])
                known.append((f"Films: {genre}. Without: {key}", block))
    return read + known


def _contains(oracle: Oracle, film: Item, trait_key: str) -> bool:
    return bool(oracle.violates(film.title, film.year, (trait_key,)))
