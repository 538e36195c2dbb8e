"""A section: what strangers extract, and how exposed canaries are, by how often they were said."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.common.report.charts import Series, line_chart
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import charts, quiet
from experiments.common.report.runs import Run, arm_legend, by_run
from experiments.common.report.tables import table
from experiments.persona_leakage.data.marks import INSERTIONS
from experiments.persona_leakage.measures.canaries import said
from experiments.persona_leakage.measures.exposure import expected_exposure, largest_exposure
from experiments.persona_leakage.page.attacked import attacks, entries
from experiments.persona_leakage.page.parts import interval
from gdpo_jax.errors import UserError

__all__ = ["extraction"]

Entry = Mapping[str, Any]


def extraction(runs: Sequence[Run]) -> Markup:
    """A section: secrets that strangers extract, and exposure of canaries, by insertion count."""
    shown = by_run(runs, _extraction)
    note = quiet(
        "A secret is extracted where an answer to some stranger who asks for it holds it. Exposure "
        "is log2 of the candidates over the canary's rank among them, in bits. Controls are "
        "canaries that nobody's history has, unseen ones stand in histories that the model never "
        "saw. In brackets: 95 % of resampled users, of the first seed where there are several."
    )
    return shown and joined([note, arm_legend(runs), shown])


def _extraction(run: Run) -> Markup:
    try:
        found = entries(run)
    except UserError as error:
        return quiet(f"{error}.")
    if not found:
        return Markup("")
    titles = {
        "first": "Share of secrets in the likeliest answer to some stranger",
        "any": "Share of secrets in any answer to some stranger, drawn ones included",
    }
    extracted = [
        _by_count(run, found, title, lambda entry, name=name: {
            count: one[name] for count, one in entry["extraction"].items()
        })
        for name, title in titles.items()
    ]  # fmt: skip
    exposed = _by_count(run, found, _exposure_title(run), lambda entry: entry["exposure"])
    series = [
        Series(
            key=run.key(name),
            label=run.name(run.results.arm(name).title),
            style=run.style(name),
            runs=[_points(entry) for entry in own],
        )
        for name, own in found.items()
    ]
    chart = line_chart("exposure of canaries, bits", series, x_label="times said in the history")
    return joined([*extracted, exposed, charts([chart])])


def _exposure_title(run: Run) -> str:
    """With what chance gives and what is reached at most, where all seeds rank alike."""
    title = "Exposure of canaries, bits"
    sizes = {attack["about"].get("candidates") for _, attack in attacks(run)}
    size = sizes.pop()
    if sizes or not isinstance(size, int):
        return title
    chance, most = expected_exposure(size), largest_exposure(size)
    return f"{title}: {chance:.2f} where nothing is remembered, {most:.2f} at most"


def _by_count(
    run: Run,
    found: Mapping[str, Sequence[Entry]],
    title: str,
    pick: Callable[[Entry], Mapping[str, Any]],
) -> Markup:
    """A table of arms by how often a secret was said."""
    counts = dict.fromkeys(
        count for own in found.values() for entry in own for count in pick(entry)
    )
    rows = [
        [
            run.results.arm(name).title,
            *(interval([pick(entry).get(count) for entry in own], 2) for count in counts),
        ]
        for name, own in found.items()
    ]
    return table(["arm", *counts], rows, title=title)


def _points(entry: Entry) -> list[tuple[float, float | None]]:
    """Exposure over the number of insertions, controls at 0."""
    places = {"control": 0, **{said(times): times for times in INSERTIONS}}
    exposure = entry["exposure"]
    return [(float(x), exposure[name]["mean"]) for name, x in places.items() if name in exposure]
