"""The published files of SafeRec (SafeCRS, arXiv 2603.03536), read as they are.

    records      a `save_to_disk` folder of Arrow streams, JSON or JSON Lines
    catalogue    list of (title, year): pickle or JSON
    title map    {(title key, year): imdb id}: pickle, or JSON rows [title key, year, imdb id]
    sensitivity  list of {"imdbId", "traits": {key: {"final", ...}}}: JSON

Every reader raises `UserError` naming file, row and field; pickles hold plain data or are refused.
The readers of tables may be given `reject` instead, which is told of a bad row so that the others
are still read.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import Row, read_json, read_rows, shown
from experiments.saferec.lists.records import record_name
from experiments.saferec.oracle.titles import FilmKey, to_film
from experiments.saferec.oracle.traits import SEVERITY_CATEGORIES, TRAITS, Trait, trait_named
from experiments.saferec.published.plain_pickle import load_plain_pickle
from gdpo_jax.data.arrow_rows import read_arrow
from gdpo_jax.errors import UserError

TitleMap = dict[FilmKey, str]
Sensitivity = dict[str, dict[str, float]]
Reject = Callable[[Path, int, str], None]


def refuse(path: Path, row: int, reason: str) -> None:
    """Ends the reading at a bad row."""
    raise UserError(f"{path}, row {row}: {reason}")


def read_records(path: Path) -> list[Row]:
    """The records of a file or `save_to_disk` folder, each with a unique `sample_id`.

    The released Arrow sets have no ids; their records are named by position ("0", "1", ...).
    """
    rows = read_arrow(path) if path.is_dir() else read_rows(path)
    seen: dict[str, int] = {}
    records = []
    for number, row in enumerate(rows):
        name = str(row.get("sample_id", row.get("id", number)))
        if name in seen:
            raise UserError(
                f"{path}, row {number}, field 'sample_id': {name!r} is also the id of row "
                f"{seen[name]}; ids must be unique"
            )
        seen[name] = number
        record = {**row, "sample_id": name}
        _check_prompt(path, record)
        records.append(record)
    if not records:
        raise UserError(f"{path} holds no records")
    return records


def read_catalogue(path: Path, *, reject: Reject = refuse) -> list[FilmKey]:
    """The (title, year) pairs of the catalogue, from a pickle or from JSON."""
    value = _read_value(path)
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise UserError(f"{path}: expected a list of [title, year], found {type(value).__name__}")
    films = []
    for number, entry in enumerate(value):
        try:
            films.append(to_film(entry))
        except ValueError:
            reject(path, number, f"{shown(entry)} is not a pair of title and year")
    return films


def read_title_map(path: Path, *, reject: Reject = refuse) -> TitleMap:
    """The map from (title key, year) to an IMDb id without "tt", in the order of the file.

    Of two rows with one key the first counts.
    """
    value = _read_value(path)
    if isinstance(value, Mapping):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = [(row[:2], row[2]) if _is_row(row, 3) else (row, None) for row in value]
    else:
        raise UserError(f"{path}: expected a table of titles, found {type(value).__name__}")
    titles: TitleMap = {}
    for number, (key, imdb_id) in enumerate(entries):
        try:
            film, found_id = to_film(key), _string(imdb_id)
        except (TypeError, ValueError):
            found = f"{shown(key)} -> {shown(imdb_id)}"
            reject(path, number, f"{found} is not (title, year) -> imdb id")
        else:
            if film in titles:
                _pass_over(reject, path, number, f"{film!r} is there already; the first counts")
            titles.setdefault(film, found_id)
    return titles


def read_sensitivity(path: Path, *, reject: Reject = refuse) -> Sensitivity:
    """{imdb id: {trait key: final risk}}; an id that occurs twice has its last entry."""
    value = read_json(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: expected a list of films, found {type(value).__name__}")
    films: Sensitivity = {}
    rows: dict[str, int] = {}
    for number, film in enumerate(value):
        try:
            imdb_id, risks = _risks_of(film)
        except UserError as error:
            reject(path, number, str(error))
        else:
            if imdb_id in films:
                reason = f"imdbId {imdb_id!r} comes again in row {number}; the last counts"
                _pass_over(reject, path, rows[imdb_id], reason)
            films[imdb_id], rows[imdb_id] = risks, number
    return films


def _pass_over(reject: Reject, path: Path, row: int, reason: str) -> None:
    """A row that repeats another one: listed where bad rows are, but no reason to stop."""
    if reject is not refuse:
        reject(path, row, reason)


def _risks_of(film: Any) -> tuple[str, dict[str, float]]:
    imdb_id = film.get("imdbId") if isinstance(film, Mapping) else None
    traits = film.get("traits") if isinstance(film, Mapping) else None
    if not isinstance(imdb_id, str) or not isinstance(traits, Mapping):
        raise UserError("expected fields 'imdbId' and 'traits'")
    risks = {}
    for key, entry in traits.items():
        final = entry.get("final") if isinstance(entry, Mapping) else None
        if isinstance(final, bool) or not isinstance(final, (int, float)):
            raise UserError(f"trait {key!r}: no number in 'final'")
        if not 0 <= final <= 1:
            raise UserError(f"trait {key!r}: final is {final}, not between 0 and 1")
        risks[trait_named(key).key] = float(final)
    return imdb_id, risks


def read_traits(path: Path) -> tuple[Trait, ...]:
    """The published table of trait weights, in its order; slugs are ours.

    Raises `UserError` for a trait that is not among the twenty or a row without its five weights.
    """
    value = read_json(path)
    rows = value.get("traits") if isinstance(value, Mapping) else None
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected an object with a list 'traits'")
    traits = []
    for number, row in enumerate(rows):
        try:
            guide = row["imdb_parent_guide"]
            traits.append(
                Trait(
                    key=_known_trait(path, number, row["trait"]),
                    slug=trait_named(row["trait"]).slug,
                    weights=tuple(float(guide["weights"][name]) for name in SEVERITY_CATEGORIES),
                    applicability=_string(guide["pg_applicability"]),
                    questions=tuple(_string(question) for question in row["avoid"]),
                )
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{path}, row {number}: missing or malformed field {error}") from None
    missing = {trait.key for trait in TRAITS} - {trait.key for trait in traits}
    if missing:
        raise UserError(f"{path} lacks the trait {sorted(missing)[0]!r}")
    return tuple(traits)


def _check_prompt(path: Path, record: Row) -> None:
    prompt = record.get("prompt")
    if prompt is None or isinstance(prompt, str):
        return
    if isinstance(prompt, list) and all(
        isinstance(message, Mapping) and isinstance(message.get("content"), str)
        for message in prompt
    ):
        return
    raise UserError(
        f"{path}, {record_name(record)}, field 'prompt': expected text or a list of messages with "
        f"'content', found {shown(prompt)}"
    )


def _read_value(path: Path) -> Any:
    if path.suffix in (".pkl", ".pickle"):
        return load_plain_pickle(path)
    return read_json(path)


def _known_trait(path: Path, number: int, key: Any) -> str:
    try:
        return trait_named(key).key
    except UserError as error:
        raise UserError(f"{path}, row {number}: {error}") from None


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == length


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {shown(value)}")
    return value


__all__ = [
    "Reject",
    "Sensitivity",
    "TitleMap",
    "read_catalogue",
    "read_records",
    "read_sensitivity",
    "read_title_map",
    "read_traits",
    "refuse",
]
