"""Which recommendations are ground truth: the two published matchings and the fixed one."""

from collections.abc import Iterable, Sequence

from experiments.saferec.oracle.catalogue import years_within
from experiments.saferec.oracle.conventions import Convention
from experiments.saferec.oracle.titles import FilmKey, Normalizer

__all__ = ["first_match_hits", "greedy_hits", "metric_hits"]

_TOLERANCE = 2
_YEARS = years_within(_TOLERANCE)


def metric_hits(
    films: Iterable[FilmKey], groundtruth: Sequence[FilmKey], *, convention: Convention
) -> list[int]:
    """1 for every film that Recall and NDCG count as ground truth, else 0."""
    match = greedy_hits if convention.one_hit_each else first_match_hits
    return match(films, groundtruth, normalize=convention.metric_key)


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
            for offset in _YEARS:
                if left.get((name, year + offset), 0):
                    left[name, year + offset] -= 1
                    hit = 1
                    break
        hits.append(hit)
    return hits


def first_match_hits(
    films: Iterable[FilmKey], groundtruth: Sequence[FilmKey], *, normalize: Normalizer
) -> list[int]:
    """The matching of the published metrics: each ground-truth film marks the first film with its
    title and a year at most two off; two may mark the same film.
    """
    ranks: dict[str, list[tuple[int, int]]] = {}
    hits = []
    for rank, film in enumerate(films):
        ranks.setdefault(normalize(film[0]), []).append((rank, film[1]))
        hits.append(0)
    for title, year in groundtruth:
        for rank, listed_year in ranks.get(normalize(title), ()):
            if abs(year - listed_year) <= _TOLERANCE:
                hits[rank] = 1
                break
    return hits
