"""Reading the fields of a record in the official format, with errors that name record and field."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.files.json_rows import shown
from experiments.saferec.oracle.games import GAME_TRAITS
from experiments.saferec.oracle.titles import FilmKey, to_film
from experiments.saferec.oracle.traits import trait_named
from gdpo_jax.errors import UserError

TEXT_FIELDS = ("text", "completion")  # of an answer, the first that is there
_GAME_TRAITS = {name: trait.key for trait in GAME_TRAITS for name in (trait.key, trait.slug)}


def record_name(record: Mapping[str, Any]) -> str:
    """How messages call the record: by its id where it has one."""
    return f"record {shown(record.get('sample_id', record.get('id', '(no id)')))}"


def trait_key(name: Any) -> str:
    """The key of a trait of films or of games, from its key or slug.

    Raises `UserError` that lists the keys of the films' traits for an unknown one.
    """
    if isinstance(name, str) and name in _GAME_TRAITS:
        return _GAME_TRAITS[name]
    return trait_named(name).key


def active_traits(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the sensitivities in force: the true entries of `constraints`.

    Arrow stores absent constraints as null, so null counts as false. A record without the field is
    an intermediate one and has its `assigned_trait`.
    """
    constraints = record.get("constraints")
    if constraints is None:
        assigned = record.get("assigned_trait")
        return () if assigned is None else (trait_key(assigned),)
    if not isinstance(constraints, Mapping):
        raise UserError(
            f"{record_name(record)}, field 'constraints': {shown(constraints)} is not a table "
            "from trait key to true"
        )
    return tuple(trait_key(key) for key, active in constraints.items() if active)


def groundtruth(record: Mapping[str, Any]) -> list[FilmKey]:
    """The films the user liked next, as (title, int year); the year may be written as a string."""
    return _films(record, "groundtruth_with_release_year")


def teacher_list(record: Mapping[str, Any]) -> list[FilmKey]:
    """The teacher's list before anything was removed from it, as (title, int year)."""
    return _films(record, "teacher")


def to_pairs(items: Sequence[FilmKey]) -> list[list[str]]:
    """(title, year, ...) as records hold them: [title, "year"]."""
    return [[item[0], str(item[1])] for item in items]


def seen_titles(record: Mapping[str, Any]) -> list[str]:
    """The titles the conversation already names."""
    titles = record.get("seen_titles") or []
    is_list = isinstance(titles, Sequence) and not isinstance(titles, str)
    if not is_list or not all(isinstance(title, str) for title in titles):
        raise UserError(f"{record_name(record)}, field 'seen_titles': give a list of titles")
    return list(titles)


def output_text(row: Mapping[str, Any], where: str) -> str:
    """The answer in a row: a string, or a list of chat messages whose last one holds it."""
    field = next((field for field in TEXT_FIELDS if field in row), None)
    if field is None:
        raise UserError(
            f"{where}: no field {' or '.join(map(repr, TEXT_FIELDS))}; it has {sorted(row)}"
        )
    value = row[field]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        content = value[-1].get("content")
        if isinstance(content, str):
            return content
    raise UserError(f"{where}, field {field!r}: expected text, found {shown(value, 60)}")


def _films(record: Mapping[str, Any], field: str) -> list[FilmKey]:
    if field not in record:
        there = shown(sorted(record), 300)
        raise UserError(f"{record_name(record)} has no field {field!r}; it has {there}")
    entries = record[field]
    if isinstance(entries, (str, Mapping)) or not isinstance(entries, Sequence):
        raise UserError(
            f"{record_name(record)}, field {field!r}: give a list of [title, year], "
            f"found {shown(entries)}"
        )
    films = []
    for entry in entries:
        try:
            films.append(to_film(entry))
        except ValueError:
            raise UserError(
                f"{record_name(record)}, field {field!r}: {shown(entry)} is not a pair of title "
                "and year"
            ) from None
    return films


__all__ = [
    "active_traits",
    "groundtruth",
    "output_text",
    "record_name",
    "seen_titles",
    "teacher_list",
    "to_pairs",
    "trait_key",
]
