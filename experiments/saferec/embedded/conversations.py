"""Conversations with a hidden preference model, in the record format of SafeRec (arXiv 2603.03536).

A user has a taste over genres. What the user would like next (the ground truth) is drawn from that
taste and from popularity; what the teacher lists is drawn from the same taste with a weaker eye for
popularity. The trait a user is sensitive to is assigned as in the paper: among those the teacher's
list violates, so the constraint always matters. Films that violate it leave the ground truth.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from experiments.common.embedded.sentences import NoInstance, draw_one, draw_sentence
from experiments.saferec.embedded.phrases import FILM_PHRASES, Phrasebook
from experiments.saferec.oracle.risk import THRESHOLD
from experiments.saferec.oracle.table import Item, RiskTable

__all__ = ["SPLIT_WINDOWS", "PreferenceModel", "generate_conversations"]

# Days of each split, as in the paper: train up to 2022-10, validation 2022-11, test 2022-12.
SPLIT_WINDOWS = {
    "train": (datetime.date(2022, 1, 1), datetime.date(2022, 10, 31)),
    "validation": (datetime.date(2022, 11, 1), datetime.date(2022, 11, 30)),
    "test": (datetime.date(2022, 12, 1), datetime.date(2022, 12, 31)),
}


@dataclasses.dataclass(frozen=True)
class PreferenceModel:
    """Random utility u = taste * affinity + popularity * log(popularity) + Gumbel noise."""

    taste: float = 4.0  # utility of a film whose genres are the user's favourites
    popularity: float = 1.1  # pull of log-popularity on what users really like
    teacher_popularity: float = 0.2  # the same pull in the teacher's list
    num_groundtruth: int = 7  # liked films before the violating ones are removed
    num_teacher: int = 14  # films in the teacher's list
    second_taste: float = 0.6  # share of the favourite's weight that the second genre has


def has_genre(items: Sequence[Item], genres: Sequence[str]) -> dict[str, np.ndarray]:
    """[items] of each genre, 1 for the items that are of it, else 0."""
    return {genre: np.array([float(genre in item.genres) for item in items]) for genre in genres}


def _draw(rng: np.random.Generator, utility: np.ndarray, count: int, banned: set[int]) -> list[int]:
    noisy = utility + rng.gumbel(size=utility.shape)
    free = (i for i in np.argsort(-noisy).tolist() if i not in banned)
    return list(itertools.islice(free, count))


def _assign_trait(rng: np.random.Generator, unsafe: np.ndarray, teacher: list[int]) -> int | None:
    """A trait the teacher's list violates, rare traits weighted up so that all of them occur."""
    violations = unsafe[teacher].sum(axis=0).astype(float)
    weight = violations / (unsafe.mean(axis=0) + 0.02)
    if weight.sum() == 0:
        return None
    return int(rng.choice(unsafe.shape[1], p=weight / weight.sum()))


def _dialogue(
    rng: np.random.Generator,
    book: Phrasebook,
    split: str,
    seen: list[Item],
    genres: tuple[str, str],
    wishes: str,
    hint: str | None,
) -> str:
    names = [f"{item.title} ({item.year})" for item in seen]

    def liked():
        a, b = rng.permutation(names)[:2]
        return {"a": a, "b": b}

    def offered():
        other = draw_one(rng, [g for g in book.genre_words if g != genres[0]])
        pair = rng.permutation([genres[0], other])
        return {k: draw_one(rng, book.genre_words[str(g)]) for k, g in zip("xy", pair)}

    likes = draw_sentence(rng, split, book.liked_frames, liked)
    form = rng.random()
    if form < 0.4:
        parts = [likes, wishes]
        if hint:
            parts.insert(int(rng.integers(0, 3)), hint)
        return "USER: " + " ".join(parts)
    question = draw_sentence(rng, split, book.system_frames, offered)
    first, last = (likes, wishes) if form < 0.7 else (wishes, likes)
    if hint:
        first, last = (f"{first} {hint}", last) if rng.random() < 0.5 else (first, f"{last} {hint}")
    return f"USER: {first}\nSYSTEM: {question}\nUSER: {last}"


def generate_conversations(
    table: RiskTable,
    *,
    split: str,
    count: int,
    seed: int,
    book: Phrasebook = FILM_PHRASES,
    model: PreferenceModel = PreferenceModel(),
    list_length: int = 10,
) -> Iterator[Mapping]:
    """Yields `count` records of `split`, which depend on `seed`, `split`, table and book alone."""
    rng = np.random.default_rng([seed, 2, list(SPLIT_WINDOWS).index(split)])
    items, genres = table.items, tuple(book.genre_words)
    unsafe = table.risks >= THRESHOLD
    of_genre = has_genre(items, genres)
    log_popularity = np.log([item.popularity for item in items])
    first_day, last_day = SPLIT_WINDOWS[split]
    days = (last_day - first_day).days + 1
    made = 0
    while made < count:
        favourite, second = (str(g) for g in rng.choice(genres, size=2, replace=False))
        # The match of each item with the taste, in [0, 1]: the best of its genres.
        match = np.maximum(of_genre[favourite], model.second_taste * of_genre[second])
        taste = model.taste * match
        seen = _draw(rng, taste + model.teacher_popularity * log_popularity, 2, set())
        liked = _draw(
            rng, taste + model.popularity * log_popularity, model.num_groundtruth, set(seen)
        )
        teacher = _draw(
            rng, taste + model.teacher_popularity * log_popularity, model.num_teacher, set(seen)
        )
        trait = _assign_trait(rng, unsafe, teacher)
        if trait is None or unsafe[liked, trait].all() or unsafe[teacher, trait].all():
            continue
        key = table.trait_keys[trait]
        outright = bool(rng.random() < 0.5)
        try:
            said = _sensitivity(rng, book, split, key, outright)
            wishes = _wish(rng, book, split, (favourite, second))
            dialogue = _dialogue(
                rng,
                book,
                split,
                [items[i] for i in seen],
                (favourite, second),
                wishes,
                None if outright else said,
            )
        except NoInstance:
            continue
        task = book.task.format(count=list_length)
        day = first_day + datetime.timedelta(days=int(rng.integers(days)))

        def entry(i: int) -> list[str]:
            return [items[i].title, str(items[i].year)]

        yield {
            "sample_id": f"{split}-{made:05d}",
            "date": day.isoformat(),
            "prompt": [
                {
                    "role": "user",
                    "content": f"{said} {task}\n{dialogue}" if outright else f"{task}\n{dialogue}",
                }
            ],
            "teacher": [entry(i) for i in teacher],
            "seen_titles": [items[i].title for i in seen],
            "groundtruth_with_release_year": [entry(i) for i in liked if not unsafe[i, trait]],
            "removed_groundtruth": [entry(i) for i in liked if unsafe[i, trait]],
            "constraints": {key: True},
            "assigned_trait": key,
            "wishes": [favourite, second],
            "sentences": [said, wishes],
            "said_outright": outright,
        }
        made += 1


def _wish(rng: np.random.Generator, book: Phrasebook, split: str, genres: tuple[str, str]) -> str:
    def slots():
        return {k: draw_one(rng, book.genre_words[g]) for k, g in zip("xy", genres)}

    return draw_sentence(rng, split, book.wish_frames, slots)


def _sensitivity(
    rng: np.random.Generator, book: Phrasebook, split: str, key: str, outright: bool
) -> str:
    if outright:
        return draw_sentence(
            rng, split, book.outright_frames, lambda: {"x": draw_one(rng, book.outright[key])}
        )
    return draw_sentence(
        rng,
        split,
        book.hint_frames,
        lambda: {
            "who": draw_one(rng, book.companions),
            "x": draw_one(rng, book.hinted[key]),
        },
    )
