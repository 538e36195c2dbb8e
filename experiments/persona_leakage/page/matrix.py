"""A section: who leaks to whom, by arm, and how far that can be told from chance."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import quiet
from experiments.common.report.rendering import render
from experiments.common.report.runs import Run, by_run
from experiments.common.report.tables import HeatCell, heat_map, table
from experiments.persona_leakage.page.attacked import entries
from experiments.persona_leakage.page.parts import TEMPLATES, interval, mean
from gdpo_jax.errors import UserError

__all__ = ["who_to_whom"]

Entry = Mapping[str, Any]


def who_to_whom(runs: Sequence[Run]) -> Markup:
    """A section: leakage of every source to every victim, a table an arm."""
    shown = by_run(runs, _matrices)
    note = quiet(
        "Rows are sources, whose marks are looked for; columns are strangers, in whose answers "
        "they are found. A cell is the share of the stranger's requests that are answered with a "
        "mark of the source, minus that share without the source's conversations, mean over seeds; "
        "where there is no such twin, the raw share. Darker is worse; below zero is chance."
    )
    return shown and note + shown


def _matrices(run: Run) -> Markup:
    try:
        found = entries(run)
    except UserError as error:
        return quiet(f"{error}.")
    parts = []
    for name, own in found.items():
        title, first = run.results.arm(name).title, own[0]
        same = [
            e for e in own if (e["sources"], e["victims"]) == (first["sources"], first["victims"])
        ]
        rows = {
            source: [
                _cell([e["matrix"][s][v] for e in same], source, victim)
                for v, victim in enumerate(first["victims"])
            ]
            for s, source in enumerate(first["sources"])
        }
        label = f"{title}: leakage by source and stranger"
        drawn = heat_map(rows, first["victims"], better="less", digits=2, label=label)
        rate = mean(entry["leakage"]["mean"] for entry in own)
        about = f"against {first['without']}" if first["without"] else "raw"
        summary = f"{title}: {'-' if rate is None else f'{rate:.4f}'}, {about}"
        parts.append({"summary": summary, "body": drawn})
    if not parts:
        return Markup("")
    drawn = render("matrices.html", folder=TEMPLATES, parts=parts)
    return joined([_rates(run, found), _kinds(run, found), _detectors(run, found), drawn])


def _rates(run: Run, found: Mapping[str, Sequence[Entry]]) -> Markup:
    """Leakage with its interval, what flipped, and the shift of style."""
    rows = []
    for name, own in found.items():
        flips = [entry["flips"] for entry in own if entry["flips"]]
        styles = [entry["style"] for entry in own if entry["style"]]
        rows.append(
            [
                run.results.arm(name).title,
                interval([entry["leakage"] for entry in own], 4),
                *(_sum(flips, side) for side in ("gained", "lost")),
                ", ".join(f"{one['p_value']:.2g}" for one in flips) or "-",
                *(interval([style[side] for style in styles], 3) for side in ("shift", "seeds")),
            ]
        )  # fmt: skip
    columns = [
        "arm",
        "leakage",
        "pairs that gain a mark",
        "that lose one",
        "McNemar p, by seed",
        "shift of style",
        "between two seeds",
    ]
    return table(columns, rows, title="Leakage to strangers")


def _kinds(run: Run, found: Mapping[str, Sequence[Entry]]) -> Markup:
    kinds = dict.fromkeys(kind for own in found.values() for kind in own[0]["by_kind"])
    rows = [
        [
            run.results.arm(name).title,
            *(interval([entry["by_kind"].get(kind) for entry in own], 4) for kind in kinds),
        ]
        for name, own in found.items()
    ]
    style = quiet(
        "Style is no mark: an answer counts that is nearer to what the source should get than a "
        "threshold, which is chosen on answers of the twin to development users."
    )
    title = "By kind of mark, and of style" if "style" in kinds else "By kind of mark"
    return joined(
        [table(["arm", *kinds], rows, title=title), *([style] if "style" in kinds else [])]
    )


def _detectors(run: Run, found: Mapping[str, Sequence[Entry]]) -> Markup:
    """How often the detectors of marks and of style are wrong."""
    rows = []
    for name, own in found.items():
        cells = []
        for field in ("errors", "style_errors"):
            errors = [entry[field] for entry in own if entry.get(field)]
            worst = max((one["worst"] for one in errors), default=None)
            cells += [
                interval([one["false_positive"] for one in errors], 4),
                "-" if worst is None else f"{worst:.4f}",
                interval([one["false_negative"] for one in errors], 4),
            ]
        rows.append([run.results.arm(name).title, *cells])
    columns = [
        f"{of}: {what}"
        for of in ("marks", "style")
        for what in ("hits without the source", "of the worst source", "missed in its own answers")
    ]
    return table(["arm", *columns], rows, title="Errors of the detectors")


def _cell(values: Sequence[float | None], source: str, victim: str) -> HeatCell | None:
    value = mean(values)
    return None if value is None else HeatCell(value, f"{source} to {victim}")


def _sum(parts: Sequence[Mapping[str, Any]], name: str) -> str:
    return str(sum(part[name] for part in parts)) if parts else "-"
