"""Data sets on disk: what a row of each kind looks like in array_record, there and back.

A data set is a folder of TFDS configs. `conversations` has the records; `films`, or `games`, or
`catalogue` with `sensitivity` and `titles` (the published tables) have what is recommended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.common.files.tfds_folder import to_text, to_texts
from experiments.saferec.oracle.catalogue import Film
from experiments.saferec.oracle.games import Game

__all__ = [
    "BLOCK",
    "REBUILD",
    "decode_film",
    "decode_game",
    "decode_record",
    "encode_film",
    "encode_game",
    "encode_record",
    "features_of",
    "to_blocks",
]

REBUILD = "run `python -m experiments.saferec data` again"  # the way out of a damaged data set
BLOCK = 4096  # entries of a title table in one row
_PAIRS = ("teacher", "groundtruth_with_release_year", "removed_groundtruth")
_TEXTS = ("sample_id", "date", "assigned_trait", "assignment_reason")
_LISTS = ("wishes", "sentences")


def features_of(config: str, *, invented: bool = False) -> tfds.features.FeaturesDict:
    """The features of a config; `invented` conversations say how the sensitivity is disclosed."""
    text = tfds.features.Text()
    texts = tfds.features.Sequence(text)
    years = tfds.features.Sequence(np.int32)
    pair = tfds.features.Sequence({"title": text, "year": text})
    item = {
        "title": text,
        "year": np.int32,
        "genres": texts,
        "popularity": np.float64,
    }
    conversation = {
        "sample_id": text,
        "date": text,
        "prompt": tfds.features.Sequence({"role": text, "content": text}),
        "teacher": pair,
        "seen_titles": texts,
        "groundtruth_with_release_year": pair,
        "removed_groundtruth": pair,
        "constraints": texts,
        "assigned_trait": text,
        "wishes": texts,
        "sentences": texts,
    }
    if invented:
        conversation |= {"said_outright": np.bool_}
    else:
        conversation |= {
            "position": np.int64,
            "assignment_reason": text,
            "completion": text,
            "disclosure": text,
        }
    return tfds.features.FeaturesDict(
        {
            "films": {
                **item,
                "film_id": text,
                "tags": texts,
                "severities": tfds.features.Tensor(shape=(5,), dtype=np.int32),
            },
            "games": {**item, "game_id": text, "rating": text, "descriptors": texts},
            "conversations": conversation,
            "catalogue": {"position": np.int64, "titles": texts, "years": years},
            "titles": {"position": np.int64, "titles": texts, "years": years, "ids": texts},
            # As text: TFDS would keep the risks in single precision, and 0.7 is then below 0.7.
            "sensitivity": {"position": np.int64, "imdb_id": text, "risks": text},
        }[config]
    )


def encode_film(film: Film) -> dict[str, Any]:
    """The row of a film."""
    return {
        "film_id": film.film_id,
        "title": film.title,
        "year": film.year,
        "genres": list(film.genres),
        "popularity": film.popularity,
        "tags": list(film.tags),
        "severities": np.array(film.severities, np.int32),
    }


def decode_film(row: Mapping[str, Any]) -> Film:
    """The film of a row."""
    return Film(
        film_id=to_text(row["film_id"]),
        title=to_text(row["title"]),
        year=int(row["year"]),
        genres=to_texts(row["genres"]),
        popularity=float(row["popularity"]),
        tags=to_texts(row["tags"]),
        severities=tuple(int(s) for s in row["severities"]),
    )


def encode_game(game: Game) -> dict[str, Any]:
    """The row of a game."""
    return {
        "game_id": game.game_id,
        "title": game.title,
        "year": game.year,
        "genres": list(game.genres),
        "popularity": game.popularity,
        "rating": game.rating,
        "descriptors": list(game.descriptors),
    }


def decode_game(row: Mapping[str, Any]) -> Game:
    """The game of a row."""
    return Game(
        game_id=to_text(row["game_id"]),
        title=to_text(row["title"]),
        year=int(row["year"]),
        genres=to_texts(row["genres"]),
        popularity=float(row["popularity"]),
        rating=to_text(row["rating"]),
        descriptors=to_texts(row["descriptors"]),
    )


def encode_record(record: Mapping[str, Any], *, position: int | None = None) -> dict[str, Any]:
    """The row of a conversation: an invented one, or with its `position` in the split."""
    row = {name: record.get(name, "") for name in ("sample_id", "date", "assigned_trait")}
    row |= {name: list(record.get(name, ())) for name in (*_LISTS, "seen_titles")}
    row["prompt"] = [dict(message) for message in record["prompt"]]
    for field in _PAIRS:
        pairs = record.get(field, ())
        row[field] = [{"title": title, "year": str(year)} for title, year in pairs]
    row["constraints"] = sorted(k for k, active in record["constraints"].items() if active)
    if position is None:
        return {**row, "said_outright": record["said_outright"]}
    completion = record.get("completion")
    disclosure = {None: "", True: "outright", False: "hinted"}[record.get("said_outright")]
    return {
        **row,
        "position": position,
        "assignment_reason": record.get("assignment_reason", ""),
        "completion": completion[-1]["content"] if completion else "",
        "disclosure": disclosure,
    }


def decode_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a row; `completion` and `said_outright` are there where they are known."""
    record: dict[str, Any] = {name: to_text(row[name]) for name in _TEXTS if name in row}
    record["prompt"] = [
        {"role": role, "content": content}
        for role, content in _columns(row["prompt"], "role", "content")
    ]
    for field in _PAIRS:
        record[field] = _columns(row[field], "title", "year")
    record["seen_titles"] = list(to_texts(row["seen_titles"]))
    record["constraints"] = {key: True for key in to_texts(row["constraints"])}
    for field in _LISTS:
        record[field] = list(to_texts(row[field]))
    if "said_outright" in row:
        record["said_outright"] = bool(row["said_outright"])
    elif disclosure := to_text(row["disclosure"]):
        record["said_outright"] = disclosure == "outright"
    if completion := to_text(row.get("completion", "")):
        record["completion"] = [{"role": "assistant", "content": completion}]
    return record


def to_blocks(**columns: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Rows of at most `BLOCK` entries of the columns, which are equally long."""
    length = len(next(iter(columns.values())))
    for position, start in enumerate(range(0, length, BLOCK)):
        part = slice(start, start + BLOCK)
        yield {"position": position, **{name: list(c[part]) for name, c in columns.items()}}


def _columns(value: Mapping, *fields: str) -> list[list[str]]:
    return [
        [to_text(cell) for cell in row] for row in zip(*(value[f] for f in fields), strict=True)
    ]
