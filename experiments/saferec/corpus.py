"""What a policy learns from: conversations by split, who judges films, and texts to imitate.

Two sources fill the same record: the embedded data set, and a folder of the published files
(SafeCRS, arXiv 2603.03536) under their published names.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.saferec.catalogue import Catalogue, Oracle, film_oracle
from experiments.saferec.official import published_oracle
from experiments.saferec.outputs import output_text
from experiments.saferec.parsing import SOLUTION_CLOSE, SOLUTION_OPEN
from experiments.saferec.readers import (
    read_catalogue,
    read_records,
    read_sensitivity,
    read_title_map,
)
from experiments.saferec.records import record_name
from experiments.saferec.targets import base_examples, plain_target, safe_target
from gdpo_jax.errors import UserError

__all__ = ["Corpus", "embedded_corpus", "prompt_of", "published_corpus", "with_all_groundtruth"]

SPLITS = ("train", "validation", "test")
_RECORDS = ("saferec_sft_dataset", "processed_datasets/saferec_sft_dataset")
_POLICY = ("saferec_grpo_dataset/train", "processed_datasets/saferec_grpo_dataset/train")

Examples = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Conversations in the official record format, and what goes with them.

    records: by split, and under "policy" those whose prompts reinforcement learning answers.
    examples(arm name, list_length, shown): (prompt, completion) texts of a supervised arm; `shown`
    bounds the left-out films that a reasoning block names.
    """

    name: str
    records: Mapping[str, Sequence[Mapping]]
    oracle: Oracle
    catalogue: Catalogue
    examples: Callable[[str, int, int], Examples]


def prompt_of(record: Mapping) -> str:
    """The text of the single user message."""
    return record["prompt"][0]["content"]


def embedded_corpus(data_dir: Path, *, convention: str = "fixed") -> Corpus:
    """The embedded data set in `data_dir`. Raises UserError where it is missing or damaged."""
    # The builder imports TensorFlow Datasets, which published files do not need.
    from experiments.saferec.dataset import load_films, load_records

    films = load_films(data_dir)
    records = {split: load_records(data_dir, split) for split in SPLITS}
    oracle = film_oracle(films, convention=convention)

    def examples(arm: str, list_length: int, shown: int) -> Examples:
        train = records["train"]
        if arm == "base":
            return base_examples(train, films, oracle)
        if arm == "sft":
            targets = [plain_target(record, list_length=list_length) for record in train]
        else:
            options = {"list_length": list_length, "shown": shown}
            targets = [safe_target(record, oracle, **options) for record in train]
        return [(prompt_of(record), target) for record, target in zip(train, targets, strict=True)]

    return Corpus(
        "embedded",
        {**records, "policy": records["train"]},
        oracle,
        Catalogue.of_films(films, convention=convention),
        examples,
    )


def published_corpus(folder: Path, *, convention: str = "fixed") -> Corpus:
    """A folder of published files: record folders or files, oracle and catalogue.

    Without records of their own, reinforcement learning answers the supervised training prompts.
    Raises UserError that names what is missing or malformed.
    """
    records = {split: read_records(_find(folder, _named(_RECORDS, split))) for split in SPLITS}
    policy = next((folder / name for name in _POLICY if (folder / name).exists()), None)
    records["policy"] = records["train"] if policy is None else read_records(policy)
    sensitivity = read_sensitivity(_find(folder, ["movie_trait_sensitivity.json"]))
    titles = read_title_map(_find(folder, ["title_to_imdb.pkl", "title_to_imdb.json"]))
    catalogue = ["gt_catalog_complete.pkl", "gt_catalog_complete.json"]

    def examples(arm: str, list_length: int, shown: int) -> Examples:
        del list_length, shown  # the published texts are what they are
        target = _raw_list if arm == "sft" else _safe_target
        return [(prompt_of(record), target(record)) for record in records["train"]]

    return Corpus(
        "published",
        records,
        published_oracle(sensitivity, titles, convention=convention),
        Catalogue(read_catalogue(_find(folder, catalogue)), convention=convention),
        examples,
    )


def with_all_groundtruth(record: Mapping) -> Mapping:
    """The record with the liked films that were removed for violating its sensitivity."""
    field = "groundtruth_with_release_year"
    removed = [
        [film["title"], film["year"]] if isinstance(film, Mapping) else film
        for film in record.get("removed_groundtruth") or ()
    ]
    return {**record, field: [*record[field], *removed]}


def _named(folders: Sequence[str], split: str) -> list[str]:
    return [f"{name}/{split}{ending}" for name in folders for ending in ("", ".jsonl", ".json")]


def _find(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{folder} has none of {', '.join(names)}; the README tells its layout")


def _safe_target(record: Mapping[str, Any]) -> str:
    text = output_text(record, record_name(record))
    if SOLUTION_OPEN in text and SOLUTION_CLOSE in text:
        return text
    raise UserError(
        f"{record_name(record)}: its completion has no closed <solution> block; safe-sft imitates "
        "the finished targets, which the raw lists of intermediate records are not"
    )


def _raw_list(record: Mapping[str, Any]) -> str:
    text = output_text(record, record_name(record))
    if SOLUTION_OPEN not in text:
        return f"{SOLUTION_OPEN}\n{text.strip()}\n{SOLUTION_CLOSE}"
    raise UserError(
        f"{record_name(record)}: its completion is a safe target; the arm sft imitates raw lists, "
        "which these files do not hold. Train the other arms: --arms safe-sft safe-gdpo"
    )
