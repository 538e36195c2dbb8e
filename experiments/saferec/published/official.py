"""The published oracle and the published token rules, faults included, to compare with.

The oracle of SafeCRS (arXiv 2603.03536) joins a title map with per-film sensitivities. The token
rules are those of Rank-GRPO (arXiv 2510.20150), on which its per-rank training was built.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from experiments.saferec.oracle.catalogue import Oracle, OracleOptions, index_oracle
from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.oracle.titles import FilmKey, exact_key
from experiments.saferec.oracle.traits import TRAIT_KEYS
from gdpo_jax.rollouts import Completion

__all__ = ["length_shaping", "newline_segments", "published_oracle", "published_ranks"]


def published_oracle(
    sensitivity: Mapping[str, Mapping[str, float]],
    title_map: Mapping[FilmKey, str],
    *,
    convention: Convention = FIXED,
    options: OracleOptions = OracleOptions(),
) -> Oracle:
    """The oracle of `read_sensitivity` and `read_title_map`.

    official: titles are looked up under another key than the map was built with, so that titles
    with an article or an apostrophe miss or meet another film; years go y, y-1, y+1, y-2, y+2, then
    the first film of that title, whatever its year. fixed: one key on both sides, years must agree
    within the tolerance. A mapped film without sensitivities is unknown and ends either search.
    """
    columns = {key: column for column, key in enumerate(TRAIT_KEYS)}
    # The last row belongs to all films of the map that have no sensitivities.
    risks = np.full((len(sensitivity) + 1, len(columns)), np.nan)
    rows = {imdb_id: row for row, imdb_id in enumerate(sensitivity)}
    for imdb_id, traits in sensitivity.items():
        for key, final in traits.items():
            risks[rows[imdb_id], columns[key]] = final
    if convention.first_wins:  # the map holds keys, which the published code takes as they are
        convention = dataclasses.replace(convention, index_key=exact_key)
    entries = (
        (title, year, rows.get(imdb_id, len(sensitivity)))
        for (title, year), imdb_id in title_map.items()
    )
    return index_oracle(entries, risks, convention=convention, options=options)


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
