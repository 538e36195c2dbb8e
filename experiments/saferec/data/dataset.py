"""The embedded data sets, and reading any data set back without TensorFlow.

Invented films with 5,600 conversations, and invented games (SafeGame) with 2,000, one sensitivity
each, in the official record format (SafeCRS, arXiv 2603.03536). Everything follows from one seed.
`published_folder.py` writes data sets of published files, and `own_conversations.py` of other
conversations; `load_records` and `load_table` read all of them.
"""

from __future__ import annotations

from pathlib import Path

from experiments.common.files.tfds_folder import find_config
from experiments.saferec.data.store import (
    load_records,
    load_table,
    require_config,
    split_sizes,
    write_dataset,
)
from experiments.saferec.embedded.conversations import SPLIT_WINDOWS, generate_conversations
from experiments.saferec.embedded.films import invent_films
from experiments.saferec.embedded.games import invent_games
from experiments.saferec.embedded.phrases import FILM_PHRASES, GAME_PHRASES
from experiments.saferec.oracle.games import game_table
from experiments.saferec.oracle.table import film_table
from gdpo_jax.errors import UserError

__all__ = [
    "DOMAINS",
    "SPLIT_SIZES",
    "build_dataset",
    "load_records",
    "load_table",
    "require_config",
    "split_names",
]

SPLIT_SIZES = {"train": 4800, "validation": 400, "test": 400}
GAME_SPLIT_SIZES = {"train": 1600, "validation": 200, "test": 200}
DOMAINS = {
    "films": (lambda: film_table(invent_films()), FILM_PHRASES, SPLIT_SIZES),
    "games": (lambda: game_table(invent_games()), GAME_PHRASES, GAME_SPLIT_SIZES),
}
_SEED = 0


def build_dataset(data_dir: Path, domain: str | None = None) -> dict[str, int]:
    """Makes sure that `data_dir` holds a data set; returns the split sizes.

    What is there is kept, whichever command wrote it; otherwise the embedded one of `domain`
    (films unless given) is written. Raises UserError if `domain` is given and another is there.
    """
    if find_config(data_dir, "conversations") is None:
        make_table, book, sizes = DOMAINS[domain or "films"]
        table = make_table()
        records = {
            split: list(
                generate_conversations(
                    table, split=split, count=sizes[split], seed=_SEED, book=book
                )
            )
            for split in SPLIT_WINDOWS
        }
        write_dataset(data_dir, table, records, counts={"domain": domain or "films", "seed": _SEED})
    elif domain is not None and find_config(data_dir, domain) is None:
        raise UserError(
            f"{data_dir} already holds a data set without {domain}; choose another --data-dir"
        )
    items = [name for name in DOMAINS if find_config(data_dir, name)]
    counts = {name: sum(split_sizes(data_dir, name).values()) for name in items}
    return counts | split_sizes(data_dir, "conversations")


def split_names(data_dir: Path) -> list[str]:
    """The splits of the conversations; raises UserError when there are none."""
    return list(split_sizes(data_dir, "conversations"))
