"""What answers are scored against: records, an oracle and a catalogue, found by their options."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.common.files.json_rows import Row
from experiments.common.scores.metric import Metric
from experiments.common.scores.table import Table
from experiments.saferec.data.dataset import load_records, load_table
from experiments.saferec.metrics import DEFAULT_KS, metrics_at, score_texts
from experiments.saferec.oracle.catalogue import Catalogue, Oracle, OracleOptions
from experiments.saferec.oracle.conventions import Convention, convention_named
from experiments.saferec.oracle.table import ItemTable, catalogue_of
from experiments.saferec.published.official import published_oracle
from experiments.saferec.published.readers import (
    read_catalogue,
    read_records,
    read_sensitivity,
    read_title_map,
)
from experiments.saferec.published.revealed import record_oracle, reveals_risks
from experiments.saferec.scoring.outputs import join_outputs
from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scoring:
    """How answers are judged and measured: the options of every scoring command."""

    catalogue: Path | None = None
    """A published catalogue of (title, year), JSON or pickle."""
    sensitivity: Path | None = None
    """The published movie_trait_sensitivity.json; needs title_map."""
    title_map: Path | None = None
    """The published title_to_imdb, pickle or JSON; needs sensitivity."""
    convention: Literal["fixed", "official"] = "fixed"
    """fixed, or official for the numbers of the published code."""
    unknown: Literal["safe", "unsafe", "excluded"] = "safe"
    """How items that the oracle does not know count: safe, unsafe or excluded."""
    oracle: OracleOptions = OracleOptions()
    """Thresholds, and the tolerance for years."""
    k: tuple[int, ...] = DEFAULT_KS
    """Cut-offs of the metrics."""
    bootstrap: int = 2000
    """Resamples for the confidence intervals."""
    level: float = 0.95
    """Level of the confidence intervals."""
    seed: int = 0
    """Seed of the resampling."""

    @property
    def rules(self) -> Convention:
        """What the names of convention and unknown mean."""
        return convention_named(self.convention, unknown=self.unknown)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured."""
        return metrics_at(self.k)

    @property
    def resampling(self) -> dict[str, Any]:
        """The options of intervals."""
        return {"samples": self.bootstrap, "level": self.level, "seed": self.seed}


@dataclasses.dataclass(frozen=True)
class Reference:
    """What answers are scored against, and the settings that their scores are written with."""

    records: Sequence[Mapping[str, Any]]
    source: str  # of the records, for messages and tables
    oracle: Oracle | None
    catalogue: Catalogue | None
    scoring: Scoring
    settings: Mapping[str, Any]

    def score(
        self,
        rows: Sequence[Row],
        source: str,
        *,
        bare_lists: bool = False,
        partial: bool = False,
    ) -> Table:
        """Joins output rows with the records and scores them; `source` is their name in messages.

        Every record needs exactly one output and every output a record, unless `partial` scores the
        ones that meet. Raises UserError as `join_outputs`.
        """
        texts = join_outputs(rows, self.records, source=source, partial=partial)
        met = [(text, record) for text, record in zip(texts, self.records) if text is not None]
        return score_texts(
            [text for text, _ in met],
            [record for _, record in met],
            oracle=self.oracle,
            catalogue=self.catalogue,
            ks=self.scoring.k,
            convention=self.scoring.rules,
            bare_lists=bare_lists,
        )


def find_reference(
    records: Path | None, scoring: Scoring, *, data_dir: Path | None = None, split: str = "test"
) -> Reference:
    """The records of a file, or of a split of a data set, and who judges answers to them.

    The oracle is the published one, else the data set's, else what the records tell of items that
    were removed from them. Raises UserError for missing or unreadable files.
    """
    table = None if data_dir is None else load_table(data_dir)
    if records is not None:
        rows, source = read_records(records), str(records)
    elif data_dir is not None:
        rows, source = load_records(data_dir, split), f"{data_dir}, split {split}"
    else:
        raise UserError("give records, or data_dir for those of the embedded data set")
    oracle, name = _find_oracle(rows, scoring, table, data_dir)
    settings = scoring_settings(
        oracle, source=name, options=scoring.oracle, convention=scoring.rules
    )
    return Reference(rows, source, oracle, _find_catalogue(scoring, table), scoring, settings)


def scoring_settings(
    oracle: Oracle | None,
    *,
    source: str,
    options: OracleOptions,
    convention: Convention,
) -> dict[str, Any]:
    """What scores are written with, so that only like ones are compared; `source` is prose."""
    return {
        "convention": convention.name,
        "unknown": convention.unknown,
        "oracle": source,
        "oracle_options": dataclasses.asdict(options),
        "oracle_digest": _digest(oracle),
    }


def _digest(oracle: Oracle | None) -> str | None:
    """Tells oracles apart by the risks that they know; None for one that knows none.

    Options and convention, which say what follows from a risk, are compared by themselves.
    """
    if oracle is None or not oracle.index:
        return None
    titles = {"index": oracle.index, "title_index": oracle.title_index}
    return records_digest([{**titles, "traits": oracle.trait_keys, "risks": oracle.risks}])


def _find_oracle(
    records: Sequence[Mapping[str, Any]],
    scoring: Scoring,
    table: ItemTable | None,
    data_dir: Path | None,
) -> tuple[Oracle | None, str]:
    sensitivity, title_map = scoring.sensitivity, scoring.title_map
    options, convention = scoring.oracle, scoring.rules
    if (sensitivity is None) != (title_map is None):
        lacking = "sensitivity" if sensitivity is None else "title_map"
        raise UserError(f"give {lacking} too: the published oracle is made of both files")
    if sensitivity is not None and title_map is not None:
        oracle = published_oracle(
            read_sensitivity(sensitivity),
            read_title_map(title_map),
            convention=convention,
            options=options,
        )
        return oracle, f"{sensitivity} with {title_map}"
    if table is not None:
        oracle = table.oracle(convention=convention, options=options)
        if oracle.index:
            return oracle, f"{table.noun} of {data_dir}"
    if any(reveals_risks(record) for record in records):
        oracle = record_oracle(records, options=options)
        return oracle, "items removed from these records (low coverage)"
    return None, "none, so no safety metrics (give data_dir, or sensitivity and title_map)"


def _find_catalogue(scoring: Scoring, table: ItemTable | None) -> Catalogue | None:
    if scoring.catalogue is not None:
        return Catalogue(read_catalogue(scoring.catalogue), convention=scoring.rules)
    if table is not None and table.items:
        return catalogue_of(table, convention=scoring.rules)
    return None


__all__ = ["Reference", "Scoring", "find_reference", "scoring_settings"]
