"""Item tables of one's own: JSON or JSON Lines, one film or game a row.

    {"title": ..., "year": ..., "severities": [0, 3, 1, 0, 2], "tags": ["Are there spiders"]}
    {"title": ..., "year": ..., "rating": "T", "descriptors": ["Mild Blood"]}

`genres` and `popularity` may be left out, and so may `tags` and `descriptors`.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.common.files.json_rows import Row, check_text, read_rows
from experiments.saferec.oracle.catalogue import Film
from experiments.saferec.oracle.games import Game, game_table
from experiments.saferec.oracle.table import RiskTable, film_table
from experiments.saferec.oracle.titles import to_year
from experiments.saferec.oracle.traits import QUESTIONS
from gdpo_jax.errors import UserError

__all__ = ["read_items"]


def read_items(path: Path) -> RiskTable:
    """The table of films (rows with `severities`) or of games (rows with `rating`).

    Raises UserError that names file, row and field.
    """
    rows = read_rows(path)
    games = bool(rows) and "rating" in rows[0]
    make: Callable[[Row, int], Any] = _game if games else _film
    items = []
    for number, row in enumerate(rows):
        try:
            items.append(make(row, number))
            check_text(dataclasses.asdict(items[-1]))
        except UserError as error:
            raise UserError(f"{path}, row {number}: {error}") from None
    if not items:
        raise UserError(f"{path} holds no items")
    return game_table(items) if games else film_table(items)


def _film(row: Row, number: int) -> Film:
    tags, severities = _texts(row, "tags"), row.get("severities")
    for tag in tags:
        if tag not in QUESTIONS:
            raise UserError(f"field 'tags': {tag!r} is none of the questions in traits.json")
    if not isinstance(severities, list):
        raise UserError("field 'severities': give five integers from 0 to 3 (or 'rating', a game)")
    return Film(film_id=f"{number:06d}", tags=tags, severities=tuple(severities), **_common(row))


def _game(row: Row, number: int) -> Game:
    if not isinstance(row.get("rating"), str):
        raise UserError("field 'rating': expected text")
    return Game(
        game_id=f"{number:06d}",
        rating=row["rating"],
        descriptors=_texts(row, "descriptors"),
        **_common(row),
    )


def _common(row: Row) -> dict[str, Any]:
    title, popularity = row.get("title"), row.get("popularity", 1.0)
    if not isinstance(title, str):
        raise UserError("field 'title': expected text")
    try:
        year = to_year(row.get("year"))
    except ValueError as error:
        raise UserError(f"field 'year': {error}") from None
    if isinstance(popularity, bool) or not isinstance(popularity, (int, float)):
        raise UserError("field 'popularity': expected a positive number")
    if not 0 < popularity < math.inf:
        raise UserError(f"field 'popularity': {popularity} is not a positive number")
    genres = _texts(row, "genres")
    return {"title": title, "year": year, "genres": genres, "popularity": float(popularity)}


def _texts(row: Row, field: str) -> tuple[str, ...]:
    value = row.get(field, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UserError(f"field {field!r}: expected a list of texts")
    return tuple(value)
