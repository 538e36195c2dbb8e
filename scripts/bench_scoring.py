#!/usr/bin/env python
"""Time to score a million parsed recommendations against 25,000 films, on one core.

    python scripts/bench_scoring.py [--recommendations 1000000] [--films 25000] [--one-by-one 50000]

Lists of twenty, one in twenty titles misspelt beyond recognition; measured are Recall, NDCG, SVR,
S-DCG, count and coverage at 5, 10 and 20, and catalogue match, the look-up tables included. The
alternative, on the first `--one-by-one` recommendations of the same lists, takes one recommendation
after the other: its title is normalised anew each time, as the published code does, and every
metric is summed anew for every cut-off.
"""

import argparse
import dataclasses
import math
import random
import time

from experiments.saferec.lists.parsing import Recommendation
from experiments.saferec.lists.records import active_traits, groundtruth
from experiments.saferec.metrics import DEFAULT_KS, score_lists
from experiments.saferec.oracle.catalogue import Catalogue, Film, Oracle, film_oracle
from experiments.saferec.oracle.titles import match_key
from experiments.saferec.oracle.traits import QUESTIONS, TRAIT_KEYS

LENGTH = 20


def invent(num_films: int, draw: random.Random) -> list[Film]:
    """Films with tags, severities and titles that need normalising."""
    return [
        Film(
            film_id=str(number),
            title=f"The {number}th Mill & Other Stories",
            year=1930 + number % 90,
            genres=(),
            popularity=1.0,
            tags=tuple(draw.sample(QUESTIONS, 3)),
            severities=tuple(draw.choices(range(4), k=5)),
        )
        for number in range(num_films)
    ]


def invent_lists(films: list[Film], count: int, draw: random.Random):
    """`count` lists of twenty, each with the record of a user of its own."""
    lists, records = [], []
    for number in range(count):
        shown = draw.choices(films, k=LENGTH)
        lists.append(
            [
                Recommendation(
                    film.title if draw.random() > 0.05 else f"{film.title} again",
                    film.year + draw.choice((-1, 0, 0, 1)),
                    0,
                    0,
                )
                for film in shown
            ]
        )
        liked = [*draw.sample(shown, 2), *draw.choices(films, k=3)]
        records.append(
            {
                "sample_id": str(number),
                "prompt": f"conversation {number}",
                "seen_titles": [film.title for film in draw.choices(films, k=2)],
                "groundtruth_with_release_year": [[film.title, film.year] for film in liked],
                "constraints": {draw.choice(TRAIT_KEYS): True},
            }
        )
    return lists, records


def one_by_one(lists, records, oracle: Oracle, catalogue: Catalogue) -> dict[str, float]:
    """The same means, asked and summed one recommendation at a time, no title remembered."""
    key = match_key.__wrapped__
    plain = dataclasses.replace(oracle.convention, lookup_key=key)
    oracle = dataclasses.replace(oracle, convention=plain)
    sums: dict[str, list[float]] = {}
    for items, record in zip(lists, records, strict=True):
        traits = active_traits(record)
        verdicts = [oracle.violates(item.title, item.year, traits) for item in items]
        seen = [key(title) for title in record["seen_titles"]]
        liked = [(key(t), y) for t, y in groundtruth(record) if key(t) not in seen]
        hits = []
        for item in items:
            if key(item.title) in seen:
                continue
            near = [(key(item.title), item.year + off) for off in (0, 1, -1, 2, -2)]
            found = next((film for film in near if film in liked), None)
            if found is not None:
                liked.remove(found)
            hits.append(found is not None)
        total = len(groundtruth(record))
        for k in DEFAULT_KS:
            ideal = sum(1 / math.log2(i + 2) for i in range(min(k, total)))
            first, judged = hits[:k], verdicts[:k]
            values = {
                "recall": sum(first) / total,
                "ndcg": sum(h / math.log2(i + 2) for i, h in enumerate(first)) / ideal,
                "svr": sum(v is True for v in judged) / len(judged),
                "sdcg": sum(1 / math.log2(i + 2) for i, v in enumerate(judged) if v),
                "count": sum(v is True for v in judged),
                "coverage": sum(v is not None for v in judged) / len(judged),
            }
            for name, value in values.items():
                sums.setdefault(f"{name}@{k}", []).append(value)
        matches = [(item.title, item.year) in catalogue for item in items]
        sums.setdefault("catalogue", []).append(sum(matches) / len(matches))
    return {name: sum(column) / len(column) for name, column in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("recommendations", 1_000_000),
        ("films", 25_000),
        ("one-by-one", 50_000),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    draw = random.Random(0)
    films = invent(options.films, draw)
    lists, records = invent_lists(films, options.recommendations // LENGTH, draw)
    match_key.cache_clear()

    start = time.process_time()
    oracle, catalogue = film_oracle(films), Catalogue((f.title, f.year) for f in films)
    build = time.process_time() - start
    score_lists(lists, records, oracle=oracle, catalogue=catalogue)
    seconds = time.process_time() - start

    few = slice(options.one_by_one // LENGTH)
    start = time.process_time()
    expected = one_by_one(lists[few], records[few], oracle, catalogue)
    slow = time.process_time() - start
    again = score_lists(lists[few], records[few], oracle=oracle, catalogue=catalogue).means()
    error = max(abs(again[name] - mean) for name, mean in expected.items())

    scored = len(lists) * LENGTH
    rate, slow_rate = scored / (seconds - build), len(lists[few]) * LENGTH / slow
    print(f"recommendations           {scored}, in lists of {LENGTH}")
    print(f"films                     {len(films)}")
    print(f"tables and scores         {seconds:8.2f} s of one core")
    print(f"of it tables              {build:8.2f} s")
    print(f"scored                    {rate:8.0f} a second")
    print(f"one by one                {slow_rate:8.0f} a second")
    print(f"one by one / score_lists  {rate / slow_rate:8.2f} x the time")
    print(f"largest difference        {error:8.1e}")


if __name__ == "__main__":
    main()
