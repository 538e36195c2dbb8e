"""The published oracle and the published token rules, faults included, to compare with.

The oracle of SafeCRS (arXiv 2603.03536) joins a title map with per-film sensitivities. The token
rules are those of Rank-GRPO (arXiv 2510.20150), on which its per-rank training was built.
"""

from collections.abc import Mapping

import numpy as np

from experiments.saferec.oracle.catalogue import (
    CONVENTIONS,
    Oracle,
    check_choice,
    index_oracle,
    offsets_within,
)
from experiments.saferec.oracle.risk import THRESHOLD
from experiments.saferec.oracle.titles import lookup_key
from experiments.saferec.oracle.traits import TRAIT_KEYS
from gdpo_jax.rollouts import Completion


def published_oracle(
    sensitivity: Mapping[str, Mapping[str, float]],
    title_map: Mapping[tuple[str, int], str],
    *,
    convention: str = "fixed",
    threshold: float = THRESHOLD,
    trait_thresholds: Mapping[str, float] | None = None,
    year_tolerance: int = 2,
) -> Oracle:
    """The oracle of `read_sensitivity` and `read_title_map`.

    official: titles are looked up under another key than the map was built with, so that titles
    with an article or an apostrophe miss or meet another film; years go y, y-1, y+1, y-2, y+2, then
    the first film of that title, whatever its year. fixed: one key on both sides, years must agree
    within the tolerance. A mapped film without sensitivities is unknown and ends either search.
    """
    check_choice("convention", convention, CONVENTIONS)
    columns = {key: column for column, key in enumerate(TRAIT_KEYS)}
    # The last row belongs to all films of the map that have no sensitivities.
    risks = np.full((len(sensitivity) + 1, len(columns)), np.nan)
    rows = {imdb_id: row for row, imdb_id in enumerate(sensitivity)}
    for imdb_id, traits in sensitivity.items():
        for key, final in traits.items():
            risks[rows[imdb_id], columns[key]] = final
    located = {film: rows.get(imdb_id, len(sensitivity)) for film, imdb_id in title_map.items()}
    if convention == "fixed":
        return index_oracle(
            ((title, year, row) for (title, year), row in located.items()),
            risks,
            threshold=threshold,
            trait_thresholds=trait_thresholds,
            year_tolerance=year_tolerance,
        )
    titles: dict[str, int] = {}
    for (title, _), row in located.items():
        titles.setdefault(title, row)
    return Oracle(
        risks=risks,
        index=located,
        title_index=titles,
        threshold=threshold,
        trait_thresholds=trait_thresholds or {},
        normalize=lookup_key,
        year_offsets=offsets_within(year_tolerance, convention=convention),
    )


def newline_segments(completion: Completion, num_ranks: int) -> list[int]:
    """The published rank of every token: the number of line breaks before it.

    A token with line breaks belongs to the line it ends. Lines from `num_ranks` on are overflow and
    get `num_ranks`; every line counts, tags, blank lines and reasoning included.
    """
    segments = []
    lines = at = 0
    for start, end in completion.spans:
        lines += completion.text.count("\n", at, start)
        segments.append(min(lines, num_ranks))
        lines += completion.text.count("\n", start, end)
        at = max(start, end)
    return segments


def length_shaping(
    completion: Completion, num_ranks: int, *, coefficient: float = 0.1
) -> list[float]:
    """The published additions to the token advantages that ask for `num_ranks` lines.

    -c on every overflow token. On the stop token, the last one of a finished answer: +c for at
    least `num_ranks` lines without overflow, -c for fewer; nothing for an unfinished answer.
    """
    segments = newline_segments(completion, num_ranks)
    shaping = [-coefficient if segment >= num_ranks else 0.0 for segment in segments]
    if completion.finished and segments:
        if segments[-1] < num_ranks - 1:
            shaping[-1] = -coefficient
        elif segments[-1] == num_ranks - 1:
            shaping[-1] = coefficient
    return shaping


def published_ranks(completion: Completion, num_ranks: int) -> list[int]:
    """The published credit: tokens have the advantage of their line; overflow and stop token none,
    which is -1.
    """
    ranks = [-1 if s >= num_ranks else s for s in newline_segments(completion, num_ranks)]
    if completion.finished and ranks:
        ranks[-1] = -1
    return ranks


__all__ = [
    "length_shaping",
    "newline_segments",
    "published_oracle",
    "published_ranks",
]
