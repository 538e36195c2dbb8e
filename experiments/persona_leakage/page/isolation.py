"""A section: what selective isolation costs and leaves, over the threshold of personalisation.

It reads what the command `strength` wrote into the seed folders, and sizes out of the store.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from experiments.common.report.charts import Series, Style, line_chart
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import charts, quiet
from experiments.common.report.runs import Run, by_run
from experiments.common.report.tables import table
from experiments.common.scores.results import seed_folders
from experiments.persona_leakage.isolation import Curve, curve, thresholds
from experiments.persona_leakage.measures.strength import STRENGTH_FILES, Strength, read_strengths
from experiments.persona_leakage.page.costs import stored_costs
from experiments.persona_leakage.page.parts import mean
from gdpo_jax.errors import UserError

__all__ = ["isolation"]

_MOST = 25  # thresholds of a curve
_TITLES = {
    "divergence": "by KL of notes, in nats a token",
    "recall": "by recall of marks minus base rate",
}
_COLUMNS = {
    "share": ("users isolated", 3),
    "storage": ("bytes stored of them", 0),
    "rest": ("leakage of the rest", 4),
    "total": ("leakage of all users", 4),
}


def isolation(runs: Sequence[Run]) -> Markup:
    """A section: share isolated, storage, and leakage of the rest, over gamma."""
    shown = by_run(runs, _isolation)
    note = quiet(
        "Whose strength of personalisation is above gamma stays in a store of his own; "
        "conversations of the others may be pooled, and learnt from. At 0 everybody is isolated, "
        "at infinity nobody. Strength is told in two ways: how far a user's notes move what the "
        "base says to him, and how much oftener his marks come back from the arm without a "
        "safeguard than from its twin. The leakage of a user is that arm's, minus its twin's, with "
        "all users pooled: that the others leak the same where some are left out is assumed. It is "
        "known of half of the users; the others count with share and storage alone. Mean and range "
        "over seeds."
    )
    return shown and note + shown


def _isolation(run: Run) -> Markup:
    try:
        sizes = {cost.user: cost.bytes for cost in stored_costs(run)}
        parts = [_curves(run, name, sizes) for name in STRENGTH_FILES]
    except UserError as error:
        return quiet(f"{error}.")
    return joined([part for part in parts if part])


def _curves(run: Run, name: str, sizes: Mapping[str, int]) -> Markup:
    """Charts and a table of one kind of strength."""
    paths = [folder / STRENGTH_FILES[name] for _, folder in seed_folders(run.path)]
    seeds = [read_strengths(path) for path in paths if path.is_file()]
    if not seeds:
        return Markup("")
    for user in (one.user for found in seeds for one in found):
        if user not in sizes:
            raise UserError(
                f"the store of the run's data has no user {user!r}, whose strength was measured; "
                "run the command `strength` again"
            )
    gammas = _gammas([one.strength for found in seeds for one in found])
    found = [_curve(one, sizes, gammas) for one in seeds]
    drawn = [_chart(run, found, name, column) for column in ("share", "storage", "rest")]
    rows = [
        [f"{gamma:.3g}", *(_cell(found, column, place) for column in _COLUMNS)]
        for place, gamma in enumerate(gammas)
    ]
    labels = [label for label, _ in _COLUMNS.values()]
    title = f"Selective isolation {_TITLES[name]}"
    return joined([charts(drawn), table(["gamma", *labels], rows, title=title)])


def _gammas(strengths: Sequence[float]) -> np.ndarray:
    """The thresholds at which somebody more is isolated, thinned evenly, 0 and infinity kept."""
    every = thresholds(strengths)
    chosen = np.linspace(0, len(every) - 1, min(_MOST, len(every))).round().astype(np.int64)
    return every[chosen]


def _curve(found: Sequence[Strength], sizes: Mapping[str, int], gammas: np.ndarray) -> Curve:
    return curve(
        [one.strength for one in found],
        [sizes[one.user] for one in found],
        [one.leakage for one in found],
        gammas,
    )


def _chart(run: Run, found: Sequence[Curve], name: str, column: str) -> Markup:
    """A line over all finite thresholds."""
    label = _COLUMNS[column][0]
    lines = [
        [
            (float(gamma), None if math.isnan(value) else float(value))
            for gamma, value in zip(one.gammas, getattr(one, column))
            if math.isfinite(gamma)
        ]
        for one in found
    ]
    style = Style(list(_COLUMNS).index(column))
    series = Series(key=f"{run.label}/isolation-{name}", label=label, style=style, runs=lines)
    return line_chart(f"{label}, {_TITLES[name]}", [series], x_label="gamma")


def _cell(found: Sequence[Curve], column: str, place: int) -> str:
    values = [float(getattr(one, column)[place]) for one in found]
    value = mean(None if math.isnan(one) else one for one in values)
    return "-" if value is None else f"{value:.{_COLUMNS[column][1]}f}"
