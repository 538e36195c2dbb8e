"""What intermediate published records reveal: the risks of the films removed from their lists."""

from collections.abc import Iterable, Mapping

import numpy as np

from experiments.common.files.json_rows import shown
from experiments.saferec.lists.records import record_name
from experiments.saferec.oracle.catalogue import Oracle, OracleOptions
from experiments.saferec.oracle.titles import match_key, to_year
from experiments.saferec.oracle.traits import TRAIT_KEYS, trait_named
from gdpo_jax.errors import UserError


def record_oracle(
    records: Iterable[Mapping], *, options: OracleOptions = OracleOptions()
) -> Oracle:
    """An oracle of the films that `removed_groundtruth` names with their risk.

    Knows each film only for the traits it was removed for, so its coverage is low and its SVR a
    lower bound; useful where the full sensitivity file is not at hand.
    """
    rows: dict[tuple[str, int], np.ndarray] = {}
    for record in filter(reveals_risks, records):
        column = TRAIT_KEYS.index(trait_named(record.get("assigned_trait")).key)
        for removed in record["removed_groundtruth"]:
            try:
                film = (match_key(removed["title"]), to_year(removed["year"]))
                risk = float(removed["trait_info"]["final"])
            except (AttributeError, KeyError, TypeError, ValueError):
                raise UserError(
                    f"{record_name(record)}, field 'removed_groundtruth': {shown(removed)} lacks a "
                    "title, a year or a risk ('trait_info', 'final')"
                ) from None
            row = rows.setdefault(film, np.full(len(TRAIT_KEYS), np.nan))
            row[column] = np.fmax(row[column], risk)
    risks = np.stack(list(rows.values())) if rows else np.empty((0, len(TRAIT_KEYS)))
    return Oracle(risks, index={film: i for i, film in enumerate(rows)}, options=options)


def reveals_risks(record: Mapping) -> bool:
    """Does the record say how risky the films removed from it are?"""
    removed = record.get("removed_groundtruth") or ()
    return (
        isinstance(removed, (list, tuple))
        and bool(removed)
        and all(isinstance(film, Mapping) and "trait_info" in film for film in removed)
    )


__all__ = ["record_oracle", "reveals_risks"]
