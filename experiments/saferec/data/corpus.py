"""What a policy learns from: conversations by split, who judges items, and texts to imitate."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.saferec.data.dataset import load_records, load_table, split_names
from experiments.saferec.data.targets import base_examples, plain_target, safe_target
from experiments.saferec.oracle.catalogue import Catalogue, Oracle, OracleOptions
from experiments.saferec.oracle.conventions import FIXED, Convention
from experiments.saferec.oracle.table import Item, catalogue_of
from experiments.saferec.oracle.titles import FilmKey

__all__ = ["Corpus", "load_corpus", "prompt_of", "with_all_groundtruth"]

_SPLITS = ("train", "validation", "test")
_POLICY_SPLIT = "grpo_train"  # as the published set is called after it is built


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Conversations in the official record format, and what goes with them.

    records: by split, and under "policy" those whose prompts reinforcement learning answers.
    """

    items: Sequence[Item]
    oracle: Oracle
    catalogue: Catalogue
    records: Mapping[str, Sequence[Mapping]]

    @property
    def titles(self) -> frozenset[FilmKey] | None:
        """Exact title and year of every item; None where no catalogue is known."""
        return frozenset((item.title, item.year) for item in self.items) or None

    def examples(self, arm: str, *, list_length: int, shown: int) -> list[tuple[str, str]]:
        """(prompt, completion) texts of a supervised arm, which options of `targets.py` bound.

        Of the published sets the teacher's lists are known without what violates alone, so that
        there the arm "sft" imitates those.
        """
        train = self.records["train"]
        if arm == "base":
            return base_examples(train, self.items, self.oracle)
        if arm == "sft":
            targets = [plain_target(record, list_length=list_length) for record in train]
        else:
            options = {"list_length": list_length, "shown": shown}
            targets = [safe_target(record, self.oracle, **options) for record in train]
        return [(prompt_of(record), target) for record, target in zip(train, targets, strict=True)]


def load_corpus(
    data_dir: Path, *, convention: Convention = FIXED, oracle: OracleOptions = OracleOptions()
) -> Corpus:
    """The data set in `data_dir`, whoever built it, judged under a convention.

    Without prompts of its own, reinforcement learning answers the supervised training prompts.
    Raises UserError where the data set is missing or damaged.
    """
    table = load_table(data_dir)
    records = {split: load_records(data_dir, split) for split in _SPLITS}
    has_own = _POLICY_SPLIT in split_names(data_dir)
    records["policy"] = load_records(data_dir, _POLICY_SPLIT) if has_own else records["train"]
    return Corpus(
        items=table.items,
        oracle=table.oracle(convention=convention, options=oracle),
        catalogue=catalogue_of(table, convention=convention),
        records=records,
    )


def prompt_of(record: Mapping) -> str:
    """The text of the single user message."""
    return record["prompt"][0]["content"]


def with_all_groundtruth(record: Mapping) -> Mapping:
    """The record with the liked items that were removed for violating its sensitivity."""
    field = "groundtruth_with_release_year"
    return {**record, field: [*record[field], *record["removed_groundtruth"]]}
