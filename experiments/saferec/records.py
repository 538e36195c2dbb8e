"""Reading the fields of a record in the official format, with errors that name record and field."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.saferec.traits import trait_named
from gdpo_jax.errors import UserError

FilmKey = tuple[str, int]


def record_name(record: Mapping[str, Any]) -> str:
    """How messages call the record: by its id where it has one."""
    return f"record {record.get('sample_id', record.get('id', '(no id)'))!r}"


def active_traits(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the sensitivities in force: the true entries of `constraints`.

    Arrow stores absent constraints as null, so null counts as false. A record without the field is
    an intermediate one and has its `assigned_trait`.
    """
    constraints = record.get("constraints")
    if constraints is None:
        assigned = record.get("assigned_trait")
        return () if assigned is None else (trait_named(assigned).key,)
    if not isinstance(constraints, Mapping):
        raise UserError(
            f"{record_name(record)}, field 'constraints': {constraints!r} is not a table "
            "from trait key to true"
        )
    return tuple(trait_named(key).key for key, active in constraints.items() if active)


def groundtruth(record: Mapping[str, Any]) -> list[FilmKey]:
    """The films the user liked next, as (title, int year); the year may be written as a string."""
    return _films(record, "groundtruth_with_release_year")


def seen_titles(record: Mapping[str, Any]) -> list[str]:
    """The titles the conversation already names."""
    titles = record.get("seen_titles") or []
    if not isinstance(titles, Sequence) or not all(isinstance(title, str) for title in titles):
        raise UserError(f"{record_name(record)}, field 'seen_titles': give a list of titles")
    return list(titles)


def _films(record: Mapping[str, Any], field: str) -> list[FilmKey]:
    if field not in record:
        raise UserError(f"{record_name(record)} has no field {field!r}; it has {sorted(record)}")
    films = []
    for entry in record[field]:
        try:
            title, year = entry
            films.append((str(title), int(year)))
        except (TypeError, ValueError):
            raise UserError(
                f"{record_name(record)}, field {field!r}: {entry!r} is not a pair of title and year"
            ) from None
    return films


__all__ = ["FilmKey", "active_traits", "groundtruth", "record_name", "seen_titles"]
