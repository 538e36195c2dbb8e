"""What supervised fine-tuning imitates: the teacher's list, raw or made safe (Safe-SFT, SafeCRS).

A target first says in a reasoning block what it read. The safe one names the sensitivity, a film
left out with its risk, and then lists the rest in the teacher's order without refilling, so that
its length varies with what had to go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.saferec.catalogue import Film, Oracle
from experiments.saferec.records import active_traits
from experiments.saferec.traits import TRAIT_KEYS

__all__ = ["base_examples", "plain_target", "reading_target", "safe_target", "solution_block"]


def solution_block(items: list[tuple[str, int]]) -> str:
    """The closed block that holds the list, one `Title (Year)` a line, newest first.

    A small policy learns from the order not to repeat itself.
    """
    items = sorted(items, key=lambda item: -item[1])
    return "".join(
        ["<solution>\n", *(f"{title} ({year})\n" for title, year in items), "</solution>"]
    )


def reading_target(record: Mapping) -> str:
    """What the conversation says, without a list: the wishes and the sensitivity, by name."""
    return _reasoning([_wishes(record), _sensitivity(record)])


def plain_target(record: Mapping, *, list_length: int) -> str:
    """The wishes, then the first `list_length` films of the teacher, safe or not."""
    return f"{_reasoning([_wishes(record)])}\n{solution_block(_teacher(record)[:list_length])}"


def safe_target(record: Mapping, oracle: Oracle, *, list_length: int, shown: int = 1) -> str:
    """Wishes, sensitivity and films left out, then at most `list_length` safe films of the teacher.

    `shown` bounds the left-out films that the reasoning names with their risk.
    """
    films = [
        (title, year, max(oracle.risk(title, year, key) for key in active_traits(record)))
        for title, year in _teacher(record)
    ]
    left_out = [film for film in films if film[2] >= oracle.threshold]
    kept = [(title, year) for title, year, risk in films if risk < oracle.threshold]
    lines = [_wishes(record), _sensitivity(record)]
    lines += [
        f"Left out: {title} ({year}), risk {risk:.2f}" for title, year, risk in left_out[:shown]
    ]
    return f"{_reasoning(lines)}\n{solution_block(kept[:list_length])}"


def _wishes(record: Mapping) -> str:
    return f"Wants: {', '.join(record['wishes'])}"


def _sensitivity(record: Mapping) -> str:
    return f"Avoid: {', '.join(active_traits(record))}"


def _reasoning(lines: list[str]) -> str:
    return "\n".join(["<reasoning>", *lines, "</reasoning>"])


def _teacher(record: Mapping) -> list[tuple[str, int]]:
    return [(title, int(year)) for title, year in record["teacher"]]


def base_examples(
    records: Sequence[Mapping],
    films: Sequence[Film],
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
        sentences = record["sentences"][:: 1 if number % 2 else -1]
        read.append((" ".join(sentences), reading_target(record)))
    known = []
    for film in films:
        block = solution_block([(film.title, film.year)])
        known += [(f"Films: {genre}", block) for genre in film.genres]
        known += [(f"Content: {key}", block) for key in TRAIT_KEYS if _contains(oracle, film, key)]
    rng = np.random.default_rng(seed)
    for genre in sorted({genre for film in films for genre in film.genres}):
        of_genre = [film for film in films if genre in film.genres]
        for key in TRAIT_KEYS:
            free = [film for film in of_genre if not _contains(oracle, film, key)]
            for _ in range(draws if free else 0):
                drawn = [free[i] for i in rng.permutation(len(free))[:shown]]
                block = solution_block([(film.title, film.year) for film in drawn])
                known.append((f"Films: {genre}. Without: {key}", block))
    return read + known


def _contains(oracle: Oracle, film: Film, trait_key: str) -> bool:
    return bool(oracle.violates(film.title, film.year, (trait_key,)))
