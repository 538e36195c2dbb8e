"""The command `evaluate`: find what answers are scored against, score, compare, show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from experiments.common.files.json_rows import read_rows
from experiments.common.scores.results import Results, assemble
from experiments.common.scores.results_tables import print_table
from experiments.common.scores.summaries import plain, summarize, write_json
from experiments.common.scores.table import Table
from experiments.saferec.scoring.baselines import read_baseline
from experiments.saferec.scoring.references import Reference, Scoring, find_reference
from gdpo_jax.errors import UserError

_BASELINE, _OWN = "baseline", "the records' own lists"


def evaluate(
    records: Path | None = None,
    outputs: tuple[Path, ...] = (),
    *,
    out: Path | None = None,
    baseline: Path | None = None,
    data_dir: Path | None = None,
    split: str = "test",
    bare_lists: bool = False,
    partial: bool = False,
    scoring: Annotated[Scoring, tyro.conf.arg(name="")] = Scoring(),
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
        bare_lists: the outputs are lists without <solution> around them.
        partial: score the conversations that have an output instead of asking for all.
        scoring: how answers are judged and measured.
    """
    reference = find_reference(records, scoring, data_dir=data_dir, split=split)
    options = {"bare_lists": bare_lists, "partial": partial}
    return score_files(reference, outputs, out=out, baseline=baseline, **options)


def score_files(
    reference: Reference,
    outputs: Sequence[Path],
    *,
    out: Path | None = None,
    baseline: Path | None = None,
    bare_lists: bool = False,
    partial: bool = False,
) -> dict[str, Any]:
    """Scores files of answers (or the records' own), prints the tables and writes the metrics to
    `out`, which are returned as well.
    """
    options = {"bare_lists": bare_lists, "partial": partial}
    paths = label_paths(outputs)
    tables = {n: reference.score(read_rows(p), str(p), **options) for n, p in paths.items()}
    if not tables:
        tables = {_OWN: reference.score(reference.records, reference.source, **options)}
    against, note = None, ""
    if baseline is not None:
        against, note = read_baseline(baseline, reference, **options)
    results = compare(reference, tables, against)
    held = baseline or (outputs[0] if len(outputs) > 1 else None)
    record = as_json(reference, tables, results, paths, baseline=held, bare_lists=bare_lists)
    if out is not None:
        write_json(out, record)
    show(results, record, note)
    return record


def compare(reference: Reference, tables: Mapping[str, Table], against: Table | None) -> Results:
    """The systems as results for tables, the baseline first where there is one."""
    scores = {name: {0: table} for name, table in tables.items()}
    titles = {name: name for name in tables}
    if against is not None:
        first = f"{_BASELINE} of {reference.source}"
        scores, titles = {first: {0: against}, **scores}, {first: _BASELINE, **titles}
    scoring = reference.scoring
    return assemble(
        scores,
        titles=titles,
        metrics=scoring.metrics,
        source=reference.source,
        bootstrap=scoring.bootstrap,
        level=scoring.level,
        seed=scoring.seed,
    )


def as_json(
    reference: Reference,
    tables: Mapping[str, Table],
    results: Results,
    paths: Mapping[str, Path],
    *,
    baseline: Path | None,
    bare_lists: bool,
) -> dict[str, Any]:
    """The metrics of one system, or of several under "systems", with the settings behind them."""
    scoring = reference.scoring
    record: dict[str, Any] = {
        "records": reference.source,
        **reference.settings,
        "bare_lists": bare_lists,
        "k": list(scoring.k),
        "bootstrap": scoring.bootstrap,
        "level": scoring.level,
        "seed": scoring.seed,
    }
    if baseline is not None:
        record["baseline"] = str(baseline)
    systems = {
        name: {
            "outputs": str(paths[name]) if name in paths else None,
            **summarize(table, scoring.metrics, **scoring.resampling),
            "comparison": {m: plain(one) for m, one in results.arm(name).against.items()},
        }
        for name, table in tables.items()
    }
    if len(systems) > 1:
        return {**record, "systems": systems}
    (alone,) = systems.values()
    if baseline is None:
        del alone["comparison"]
    return {**record, **alone}


def show(results: Results, record: Mapping[str, Any], note: str = "") -> None:
    """Prints the tables, whose word on violations was taken, and what looks wrong."""
    console = Console()
    print_table(results, console)
    console.print(
        f"{record['convention']} convention; oracle: {record['oracle']}; unknown items count as "
        f"{record['unknown']}",
        highlight=False,
        markup=False,
    )
    if note:
        console.print(note, style="yellow", highlight=False, markup=False)
    if not record["bare_lists"] and any(arm.mean("empty") > 0.5 for arm in results.arms):
        console.print(
            "More than half of the outputs hold no list in a closed <solution> block; "
            "if they are plain lists, use --bare-lists.",
            style="yellow",
        )


def label_paths(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for each path: its last parts, as many as tell all of them apart.

    Raises UserError if a path is given twice.
    """
    whole = [path.resolve() for path in paths]
    for place, path in enumerate(whole):
        if path in whole[:place]:
            raise UserError(f"{path} is given twice; give every outputs file once")
    for count in range(1, max((len(path.parts) for path in whole), default=0) + 1):
        names = ["/".join(path.parts[-count:]) for path in whole]
        if len(set(names)) == len(names):
            return dict(zip(names, paths))
    return {}


__all__ = ["evaluate", "label_paths", "score_files"]
