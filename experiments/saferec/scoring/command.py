"""Scoring any system's outputs: join texts with records, parse, measure, report.

`outputs.py` says how output rows name the records they answer, `published/readers.py` which record
files are read, `metrics.py` what is measured.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from experiments.common.files.json_rows import Row, read_rows
from experiments.common.scores.results_tables import print_table
from experiments.saferec.evaluation.metrics import DEFAULT_KS, MetricTable, score_lists
from experiments.saferec.evaluation.outputs import join_outputs
from experiments.saferec.evaluation.summaries import (
    compare,
    plain_comparison,
    print_oracle,
    print_summary,
    read_summary,
    summarize,
    write_json,
)
from experiments.saferec.evaluation.systems import compare_tables, label_paths, read_baseline
from experiments.saferec.lists.parsing import (
    SOLUTION_CLOSE,
    SOLUTION_OPEN,
    Recommendation,
    parse_recommendations,
)
from experiments.saferec.oracle.catalogue import Catalogue, Oracle, OracleOptions
from experiments.saferec.oracle.table import ItemTable, catalogue_of
from experiments.saferec.published.official import published_oracle
from experiments.saferec.published.readers import (
    read_catalogue,
    read_records,
    read_sensitivity,
    read_title_map,
)
from experiments.saferec.published.revealed import record_oracle, reveals_risks
from gdpo_jax.errors import UserError


def score_texts(
    texts: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    *,
    oracle: Oracle | None = None,
    catalogue: Catalogue | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    convention: str = "fixed",
    unknown: str = "safe",
    bare_lists: bool = False,
) -> MetricTable:
    """Scores one answer per record, in order.

    `bare_lists` reads every text whole, as a list without <solution> around it.
    """
    return score_lists(
        [_parse(text, convention=convention, bare=bare_lists) for text in texts],
        records,
        oracle=oracle,
        catalogue=catalogue,
        ks=ks,
        convention=convention,
        unknown=unknown,
    )


def score_outputs(
    rows: Sequence[Row],
    records: Sequence[Mapping[str, Any]],
    oracle: Oracle | None = None,
    *,
    source: str = "outputs",
    partial: bool = False,
    **options,
) -> MetricTable:
    """Joins output rows with records and scores them; `options` as in `score_texts`.

    Every record needs exactly one output and every output a record, unless `partial` scores the
    ones that meet. `source` is the name of the outputs in messages.
    """
    texts = join_outputs(rows, records, source=source, partial=partial)
    met = [(text, record) for text, record in zip(texts, records) if text is not None]
    return score_texts(
        [text for text, _ in met], [record for _, record in met], oracle=oracle, **options
    )


def evaluate_command(
    records: Path | None = None,
    outputs: tuple[Path, ...] = (),
    *,
    out: Path | None = None,
    baseline: Path | None = None,
    data_dir: Path | None = None,
    split: str = "test",
    catalogue: Path | None = None,
    sensitivity: Path | None = None,
    title_map: Path | None = None,
    convention: Literal["fixed", "official"] = "fixed",
    unknown: Literal["safe", "unsafe", "excluded"] = "safe",
    oracle: OracleOptions = OracleOptions(),
    bare_lists: bool = False,
    partial: bool = False,
    k: tuple[int, ...] = DEFAULT_KS,
    bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    console: Annotated[Console | None, tyro.conf.Suppress] = None,
) -> dict[str, Any]:
    """Scores outputs of any system, prints tables and writes the metrics as JSON.

    Outputs are JSON Lines whose rows name their conversation by `sample_id` (or `id`) or by
    `prompt`, and hold the answer as `text` (or `completion`). Several files are scored on the same
    records and held against one baseline.

    Args:
        records: conversations in the official format: JSON, JSON Lines or a save_to_disk folder;
            left out, those of the embedded data set.
        outputs: files of answers; left out, each record's own completion is scored.
        out: where the metrics go as JSON.
        baseline: what to compare with: answers to the same records, or a metrics file; of several
            outputs the first, unless given.
        data_dir: the embedded data set; its films are the catalogue and the oracle.
        split: the split of the embedded data set, where records are left out.
        catalogue: a published catalogue of (title, year), JSON or pickle.
        sensitivity: the published movie_trait_sensitivity.json; needs title_map.
        title_map: the published title_to_imdb, pickle or JSON; needs sensitivity.
        convention: fixed, or official for the numbers of the published code.
        unknown: how films that the oracle does not know count: safe, unsafe or excluded.
        oracle: thresholds, and the tolerance for years.
        bare_lists: the outputs are lists without <solution> around them.
        partial: score the conversations that have an output instead of asking for all.
        k: cut-offs of the metrics.
        bootstrap: resamples for the confidence intervals.
        level: level of the confidence intervals.
        seed: seed of the resampling.
        console: where the table is printed; standard output if left out.
    """
    rows, source = _find_records(records, data_dir=data_dir, split=split)
    found, oracle_name = _find_oracle(
        rows,
        dataclasses.asdict(oracle),
        data_dir=data_dir,
        sensitivity=sensitivity,
        title_map=title_map,
        convention=convention,
    )
    films = _find_catalogue(catalogue, data_dir=data_dir, convention=convention)
    settings = {"convention": convention, "unknown": unknown, "oracle": oracle_name}
    settings["oracle_options"] = dataclasses.asdict(oracle)

    def score(answers: Sequence[Row], name: str) -> MetricTable:
        return score_outputs(
            answers,
            rows,
            found,
            source=name,
            partial=partial,
            catalogue=films,
            ks=k,
            convention=convention,
            unknown=unknown,
            bare_lists=bare_lists,
        )

    paths = label_paths(outputs)
    tables = {label: score(read_rows(path), str(path)) for label, path in paths.items()}
    against = None if baseline is None else read_baseline(baseline, score, settings=settings)
    options = {"bootstrap": bootstrap, "level": level, "seed": seed}
    result = {
        "records": source,
        **settings,
        "bare_lists": bare_lists,
        "k": list(k),
        **options,
    }
    if baseline is not None:
        result["baseline"] = str(baseline)
    numbers = {"samples": bootstrap, "level": level, "seed": seed}
    if len(tables) > 1:
        compared = compare_tables(tables, against, source=source, **options)
        result["baseline"] = str(baseline or outputs[0])
        result["systems"] = {
            label: {
                "outputs": str(paths[label]),
                **summarize(table, **numbers),
                "comparison": plain_comparison(compared.arm(label).against),
            }
            for label, table in tables.items()
        }
    else:
        table = next(iter(tables.values())) if tables else score(rows, source)
        result["outputs"] = str(outputs[0]) if outputs else None
        result |= summarize(table, **numbers)
        if against is not None:
            result["comparison"] = compare(against, table, **numbers)
    if out is not None:
        write_json(out, result)
    console = console or Console()
    if len(tables) > 1:
        print_table(compared, console)
        print_oracle(result, console=console)
    else:
        print_summary(result, console=console)
    return result


def _parse(text: str, *, convention: str, bare: bool) -> list[Recommendation]:
    if not bare:
        return parse_recommendations(text, convention=convention)
    whole = text.replace(SOLUTION_OPEN, "").replace(SOLUTION_CLOSE, "")
    return parse_recommendations(f"{SOLUTION_OPEN}{whole}{SOLUTION_CLOSE}", convention=convention)


def _find_records(
    records: Path | None, *, data_dir: Path | None, split: str
) -> tuple[Sequence[Mapping[str, Any]], str]:
    if records is not None:
        return read_records(records), str(records)
    if data_dir is None:
        raise UserError("give records, or data_dir for those of the embedded data set")
    # The builder imports TensorFlow Datasets, which scoring published files does not need.
    from experiments.saferec.data.dataset import load_records

    return load_records(data_dir, split), f"{data_dir}, split {split}"


def _find_oracle(
    records: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    *,
    data_dir: Path | None,
    sensitivity: Path | None,
    title_map: Path | None,
    convention: str,
) -> tuple[Oracle | None, str]:
    if (sensitivity is None) != (title_map is None):
        lacking = "sensitivity" if sensitivity is None else "title_map"
        raise UserError(f"give {lacking} too: the published oracle is made of both files")
    if sensitivity is not None and title_map is not None:
        oracle = published_oracle(
            read_sensitivity(sensitivity),
            read_title_map(title_map),
            convention=convention,
            **options,
        )
        return oracle, f"{sensitivity} with {title_map}"
    if data_dir is not None:
        table = _load_table(data_dir)
        oracle = table.oracle(convention=convention, **options)
        if oracle.index:
            return oracle, f"{table.noun} of {data_dir}"
    if any(reveals_risks(record) for record in records):
        return record_oracle(records, **options), "films removed from these records (low coverage)"
    return None, "none, so no safety metrics (give data_dir, or sensitivity and title_map)"


def _find_catalogue(
    catalogue: Path | None, *, data_dir: Path | None, convention: str
) -> Catalogue | None:
    if catalogue is not None:
        return Catalogue(read_catalogue(catalogue), convention=convention)
    if data_dir is not None:
        table = _load_table(data_dir)
        return catalogue_of(table, convention=convention) if table.items else None
    return None


def _load_table(data_dir: Path) -> ItemTable:
    from experiments.saferec.data.dataset import load_table

    return load_table(data_dir)


__all__ = [
    "evaluate_command",
    "read_summary",
    "score_outputs",
    "score_texts",
    "summarize",
    "write_json",
]
