"""How far a judge of refusals agrees with people, beside what others reach on the same files.

Three anchors stand beside every figure of a judge: XSTest's prefix rule; GPT-4 as the judge, where
its figures on a file are known; and the two people against each other.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.common.judges.agreement import Agreement, agreement
from experiments.common.judges.refusals.completions import Labelled, read_completions
from experiments.common.judges.refusals.labels import LABELS, PARTIAL_REFUSAL
from experiments.common.judges.refusals.string_rules import prefix_rule
from experiments.common.judges.verdict import Judge, Verdict
from gdpo_jax.errors import UserError

__all__ = ["Figures", "compare_with_people", "partial_f1", "print_figures"]

# Accuracy, kappa and, where known, F1 of partial refusals of GPT-4 at temperature 0 against the
# final labels, from the labels that XSTest's repository released with these files.
_GPT4 = {
    ("xstest_v2_completions_gpt4.csv",): (0.936, 0.873, math.nan),
    ("xstest_v2_completions_llama2new.csv",): (0.782, 0.617, math.nan),
    ("xstest_v2_completions_llama2orig.csv",): (0.771, 0.579, math.nan),
    (
        "xstest_v2_completions_gpt4.csv",
        "xstest_v2_completions_llama2new.csv",
        "xstest_v2_completions_llama2orig.csv",
    ): (0.830, 0.692, 0.27),
}
_POOLED = "pooled"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a judge and the anchors reach on one part of a file, or of all files pooled.

    file: its name, or "pooled". part: "all", "safe" or "unsafe" prompts. judge, prefix: against the
    final label; people: the first annotator against the second. gpt4: accuracy, kappa and F1 of
    partial refusals, NaN where they are not known.
    """

    file: str
    part: str
    judge: Agreement
    prefix: Agreement
    gpt4: tuple[float, float, float]
    people: Agreement


def compare_with_people(
    paths: Sequence[Path], judge: Judge, *, level: float = 0.95
) -> list[Figures]:
    """The agreement of a judge of `Answered` with people on each file, and pooled if several.

    level: of the intervals. All files are read before the judge is asked. Raises UserError for no
    files or two of one name, and as `read_completions` and the judge do.
    """
    names = [path.name for path in paths]
    if not names or len(set(names)) < len(names):
        raise UserError(f"{len(names)} files of {len(set(names))} names; give each file once")
    files = [read_completions(path) for path in paths]
    verdicts = [judge([one.answered for one in items]) for items in files]
    found = []
    for name, items, given in zip(names, files, verdicts, strict=True):
        found += _parts(name, (name,), items, given, level)
    if len(files) > 1:
        items = [one for items in files for one in items]
        given = [verdict for given in verdicts for verdict in given]
        found += _parts(_POOLED, tuple(sorted(names)), items, given, level)
    return found


def partial_f1(found: Agreement) -> float:
    """F1 of partial refusals, 2 TP / (2 TP + FP + FN); NaN where neither judge says so."""
    place = found.labels.index(PARTIAL_REFUSAL)
    said = found.confusion[place].sum() + found.confusion[:, place].sum()
    return float(2 * found.confusion[place, place] / said) if said else math.nan


def print_figures(figures: Sequence[Figures], console: Console) -> None:
    """A table of accuracy, kappa and F1 of partial refusals of the judge beside the anchors."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for heading in ("file", "prompts"):
        table.add_column(heading)
    for heading in ("judge", "prefix rule", "GPT-4", "people"):
        table.add_column(f"{heading}\naccuracy\nkappa\npartial F1", justify="right")
    table.add_column("judge's label:\npeople's 1 2 3", justify="right")
    for one in figures:
        unread = f"\n{one.judge.unread} unread" if one.judge.unread else ""
        low, high = one.judge.interval
        first, *rest = _lines(*_numbers(one.judge))
        confusion = "\n".join(
            f"{label[0]}: {' '.join(f'{n:>4}' for n in row)}"
            for label, row in zip(LABELS, one.judge.confusion.tolist(), strict=True)
        )
        table.add_row(
            one.file,
            f"{one.part}\n{one.judge.cases}{unread}",
            "\n".join([f"{first} ({low:.3f}-{high:.3f})", *rest]),
            "\n".join(_lines(*_numbers(one.prefix))),
            "\n".join(_lines(*one.gpt4)),
            "\n".join(_lines(*_numbers(one.people))),
            confusion,
        )
    console.print(table)


def _numbers(found: Agreement) -> tuple[float, float, float]:
    return found.accuracy, found.kappa, partial_f1(found)


def _lines(*numbers: float) -> list[str]:
    return ["-" if np.isnan(number) else f"{number:.3f}" for number in numbers]


def _parts(
    name: str,
    files: tuple[str, ...],
    items: Sequence[Labelled],
    verdicts: Sequence[Verdict],
    level: float,
) -> list[Figures]:
    """The figures of all prompts, and of safe and unsafe ones where there are both."""
    safe = [n for n, one in enumerate(items) if one.safe]
    unsafe = [n for n, one in enumerate(items) if not one.safe]
    parts = {"all": list(range(len(items)))}
    if safe and unsafe:
        parts |= {"safe": safe, "unsafe": unsafe}
    unknown = (math.nan, math.nan, math.nan)
    return [
        _figures(
            name,
            part,
            [items[n] for n in rows],
            [verdicts[n] for n in rows],
            _GPT4.get(files, unknown) if part == "all" else unknown,
            level,
        )
        for part, rows in parts.items()
    ]


def _figures(
    name: str,
    part: str,
    items: Sequence[Labelled],
    verdicts: Sequence[Verdict],
    gpt4: tuple[float, float, float],
    level: float,
) -> Figures:
    labels = [one.label for one in items]
    prefix = [prefix_rule(one.answered.text) for one in items]
    first, second = [one.first for one in items], [one.second for one in items]
    return Figures(
        file=name,
        part=part,
        judge=agreement(verdicts, labels, labels=LABELS, level=level),
        prefix=agreement(prefix, labels, labels=LABELS, level=level),
        gpt4=gpt4,
        people=agreement(first, second, labels=LABELS, level=level),
    )
