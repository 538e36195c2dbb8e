"""Answers that people have labelled, and how far a judge agrees with each of them."""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.judges.agreement import Agreement, agreement
from experiments.common.judges.verdict import Judge, Verdict
from experiments.curate.data.cases import Case
from experiments.curate.judging.judged import LABELS, UNCLEAR, Judged
from gdpo_jax.errors import UserError

__all__ = ["Labelled", "Rater", "agree", "print_agreement", "read_labels"]

_TEXTS = {
    "scenario": "Scenario",
    "category": "Category",
    "constraint": "First User Input",
    "question": "Last User Input",
    "answer": "Last Model Response",
}
_RATINGS = {
    "published judge": "Model Eval Rating",
    "human 1": "Human 1 Eval Rating",
    "human 2": "Human 2 Eval Rating",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """One answer with the labels that it got, by rater."""

    judged: Judged
    ratings: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rater:
    """How far a judge agrees with one rater: with all three labels, and without what either of
    them calls unclear. `part` is the category, or "all"."""

    rater: str
    part: str
    three: Agreement
    decided: Agreement


def read_labels(path: Path) -> list[Labelled]:
    """The rows of a table in the form of CURaTe's comparison of judge and people.

    Raises UserError by file, row (from 1) and column.
    """
    try:
        # Fields hold line ends, and the first byte may be a mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            rows = list(reader)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}; save it as one") from None
    for column in (*_TEXTS.values(), *_RATINGS.values()):
        if column not in columns:
            raise UserError(f"{path} has no column {column!r}; it has {', '.join(columns)[:200]}")
    if not rows:
        raise UserError(f"{path} has no rows")
    return [_labelled(row, number, path) for number, row in enumerate(rows, start=1)]


def agree(items: Sequence[Labelled], judge: Judge, *, level: float = 0.95) -> list[Rater]:
    """The agreement of a judge with every rater, over all items and by category.

    level: of the intervals. Raises UserError as the judge does.
    """
    verdicts = judge([item.judged for item in items])
    parts = {"all": list(range(len(items)))}
    for n, item in enumerate(items):
        parts.setdefault(item.judged.case.category, []).append(n)
    if len(parts) == 2:
        parts = {"all": parts["all"]}
    return [
        _rater(
            rater, part, [verdicts[n] for n in rows], [items[n].ratings[rater] for n in rows], level
        )
        for rater in items[0].ratings
        for part, rows in parts.items()
    ]


def print_agreement(raters: Sequence[Rater], console: Console) -> None:
    """A table of accuracy and kappa with their number of items, and the counts of all labels."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for heading in ("rater", "items", "three labels\naccuracy", "kappa", "two labels\naccuracy"):
        table.add_column(heading, justify="left" if heading in ("rater", "items") else "right")
    table.add_column("kappa", justify="right")
    table.add_column("judge's label:\nrater's 0 1 2", justify="right")
    for found in raters:
        confusion = "\n".join(
            f"{label}: {' '.join(f'{n:>3}' for n in row)}"
            for label, row in zip(found.three.labels, found.three.confusion.tolist(), strict=True)
        )
        unread = f"\n{found.three.unread} unread" if found.three.unread else ""
        table.add_row(
            found.rater,
            f"{found.part}{unread}",
            *_cells(found.three),
            *_cells(found.decided),
            confusion,
        )
    console.print(table)


def _cells(found: Agreement) -> tuple[str, str]:
    low, high = found.interval
    if math.isnan(found.accuracy):
        return "-", "-"
    return f"{found.accuracy:.3f}\n{low:.2f}-{high:.2f}\nof {found.cases}", f"{found.kappa:.3f}"


def _rater(
    rater: str, part: str, verdicts: Sequence[Verdict], labels: Sequence[int], level: float
) -> Rater:
    decided = [n for n, v in enumerate(verdicts) if UNCLEAR not in (v.label, labels[n])]
    return Rater(
        rater=rater,
        part=part,
        three=agreement(verdicts, labels, labels=LABELS, level=level),
        decided=agreement(
            [verdicts[n] for n in decided],
            [labels[n] for n in decided],
            labels=[label for label in LABELS if label != UNCLEAR],
            level=level,
        ),
    )


def _labelled(row: Mapping[str | None, str], number: int, path: Path) -> Labelled:
    if None in row or None in row.values():
        raise UserError(f"{path}, row {number} has too many or too few fields; is a quote missing?")
    texts = {}
    for field, column in _TEXTS.items():
        texts[field] = row[column]
        if not texts[field].strip():
            raise UserError(f"{path}, row {number}, column {column!r}: expected text, found none")
    ratings = {}
    for rater, column in _RATINGS.items():
        if row[column].strip() not in {str(label) for label in LABELS}:
            raise UserError(
                f"{path}, row {number}, column {column!r}: {row[column]!r}; give 0 (fail), "
                "1 (unclear) or 2 (pass)"
            )
        ratings[rater] = int(row[column])
    case = Case(
        id=f"{texts['scenario']}/{number}",
        row=number - 1,
        scenario=texts["scenario"],
        category=texts["category"],
        constraint=texts["constraint"],
        turns=(texts["question"],),
    )
    return Labelled(judged=Judged(case=case, answer=texts["answer"]), ratings=ratings)
