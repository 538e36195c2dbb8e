"""Which recommendations are ground truth: the two published matchings and the fixed one."""

from collections.abc import Iterable, Sequence

from experiments.saferec.lists.records import FilmKey
from experiments.saferec.oracle.catalogue import YEAR_OFFSETS
from experiments.saferec.oracle.titles import Normalizer


def greedy_hits(
    films: Iterable[FilmKey], groundtruth: Sequence[FilmKey], *, normalize: Normalizer
) -> list[int]:
    """1 for every film that consumes a ground-truth film, in order of rank, else 0.

    Titles agree under `normalize`, years exactly or else at +1, -1, +2, -2; each ground-truth film
    is consumed once. With `casefold_key` this is the matching of the published rewards.
    """
    left: dict[FilmKey, int] = {}
    for title, year in groundtruth:
        key = (normalize(title), year)
        left[key] = left.get(key, 0) + 1
    titles = {title for title, _ in left}
    hits = []
    for film in films:
        hit = 0
        name = normalize(film[0])
        if name in titles:
            year = film[1]
            for offset in YEAR_OFFSETS:
                if left.get((name, year + offset), 0):
                    left[name, year + offset] -= 1
                    hit = 1
                    break
        hits.append(hit)
    return hits


def first_match_hits(
    films: Iterable[FilmKey], groundtruth: Sequence[FilmKey], *, year_tolerance: int = 2
) -> list[int]:
    """The matching of the published metrics: each ground-truth film marks the first film with
    exactly its title and a year within the tolerance; two may mark the same film.
    """
    ranks: dict[str, list[tuple[int, int]]] = {}
    hits = []
    for rank, film in enumerate(films):
        ranks.setdefault(film[0], []).append((rank, film[1]))
        hits.append(0)
    for title, year in groundtruth:
        for rank, listed_year in ranks.get(title, ()):
            if abs(year - listed_year) <= year_tolerance:
                hits[rank] = 1
                break
    return hits


__all__ = ["first_match_hits", "greedy_hits"]
