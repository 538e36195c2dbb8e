"""What the sample browser knows of a completion: marks of its titles, and its rewards' z-scores.

Titles are marked with what the training saw: ground truth (hit), a film that violates the user's
sensitivity, a title that the catalogue lacks. z-scores are those of GDPO (arXiv 2601.05242, eq. 4)
inside the group.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.saferec.lists.hits import greedy_hits
from experiments.saferec.lists.parsing import Recommendation, parse_recommendations
from experiments.saferec.lists.records import active_traits, groundtruth
from experiments.saferec.oracle.catalogue import Oracle
from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.oracle.titles import match_key
from gdpo_jax.advantages import RewardBatch, gdpo, per_sample_diagnostics, reward_batch

MARKS = {
    "hit": "✓ liked",
    "violation": "✕ violates",
    "unknown": "? not in the catalogue",
}


@dataclasses.dataclass(frozen=True)
class Item:
    """One line of a list and its marks, keys of `MARKS`."""

    film: Recommendation
    marks: tuple[str, ...]


def mark_items(
    text: str,
    record: Mapping[str, Any],
    oracle: Oracle | None,
    *,
    convention: Convention = FIXED,
) -> list[Item]:
    """The items of a completion in order, as the rewards of that convention read them. Without an
    oracle, the ground truth that was removed for safety is all that is known to violate.
    """
    films = parse_recommendations(text, convention=convention)
    hits = greedy_hits(films, groundtruth(record), normalize=convention.reward_key)
    if oracle is None:
        removed = {match_key(title) for title, _ in record.get("removed_groundtruth", ())}
        verdicts = [match_key(film.title) in removed for film in films]
    else:
        verdicts = oracle.judge(films, active_traits(record))
    return [
        Item(
            film,
            tuple(
                name
                for name, applies in (
                    ("hit", bool(hit)),
                    ("violation", verdict is True),
                    ("unknown", verdict is None),
                )
                if applies
            ),
        )
        for film, hit, verdict in zip(films, hits, verdicts)
    ]


def group_z_scores(
    rewards: Mapping[str, Sequence[Any]], *, convention: Convention = FIXED
) -> np.ndarray:
    """z `[G, K]` or `[G, K, R]` of one group's rewards, given per name as `[G]` or `[G][R]`.

    Those of the official convention are what trl, with which it was trained, makes of them. A
    missing reward (None) has z = 0, as it has no vote.
    """
    columns = [np.array(column, dtype=np.float64) for column in rewards.values()]
    values = np.stack(columns, axis=1)[None].astype(np.float32)
    return np.asarray(_z_scores(reward_batch(values, tuple(rewards)), convention.z_scores))[0]


@functools.partial(jax.jit, static_argnums=1)
def _z_scores(batch: RewardBatch, convention: str) -> jax.Array:
    transform = gdpo(convention=convention)
    return per_sample_diagnostics(transform, batch, transform.init(batch.names))["z"]


__all__ = ["MARKS", "Item", "group_z_scores", "mark_items"]
