"""A section: how often the key of writing is set for the wrong person, or not for the right one.

The scores of test sessions stand in the about.json of the run's data set, under `sessions`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from experiments.common.report.charts import Series, Style, Trail, line_chart
from experiments.common.report.charts.lines import trail_chart
from experiments.common.report.charts.svg import joined
from experiments.common.report.comparisons import charts, quiet
from experiments.common.report.runs import Run, by_run
from experiments.common.report.tables import table
from experiments.persona_leakage.data.tfds_builder import PersonaLeakage, load_about
from experiments.persona_leakage.fingerprint.activation import (
    acceptance,
    equal_error_rate,
    false_acceptance_at,
    trigger_precision,
)
from gdpo_jax.errors import UserError

__all__ = ["detection", "operating_points"]

_MOST = 40  # points of a curve
_REJECTED = 0.1  # share of owners' attempts at which false acceptance is told
_SHARES = (0.5, 0.1, 0.01)  # base rates of owners
_X, _Y = "impostors accepted", "owners rejected"

Scores = tuple[Float[np.ndarray, "G"], Float[np.ndarray, "I"]]  # genuine, impostor


def detection(runs: Sequence[Run]) -> Markup:
    """A section: one error over the other, both over the threshold, and at the gate."""
    shown = by_run(runs, _detection)
    note = quiet(
        "Three messages of a session against what enrolled users wrote before: strangers count "
        "with the enrolment that fits best, owners with their own. Who scores at least the "
        "threshold is taken for that user. Lower left is better; which error matters more depends "
        "on how many of those who write are impostors. It is an activation key and no password."
    )
    return shown and note + shown


def operating_points(
    genuine: Float[np.ndarray, "G"], impostor: Float[np.ndarray, "I"], *, most: int = _MOST
) -> list[tuple[float, float, float]]:
    """(threshold, false acceptance, false rejection) from low to high thresholds.

    At most so many of the scores are thresholds, spread evenly over their order, and one above all.
    Raises UserError without genuine or without impostor attempts.
    """
    scores = np.unique(np.concatenate([genuine, impostor]))
    chosen = np.linspace(0, len(scores) - 1, min(most, len(scores))).round().astype(np.int64)
    thresholds = [*scores[chosen].tolist(), float(np.nextafter(scores[-1], np.inf))]
    return [(at, *acceptance(genuine, impostor, at)) for at in thresholds]


def _detection(run: Run) -> Markup:
    try:
        found = _sessions(run)
    except UserError as error:
        return quiet(f"{error}.")
    if found is None:
        return Markup("")
    scores, gate = found
    points = operating_points(*scores)
    key, name, x, y = f"{run.label}/detection", "test sessions", _X, _Y
    trail = Trail(key, name, Style(0), [(a, r, f"threshold {at:.3g}") for at, a, r in points])
    lines = [
        Series(
            key=key, label=label, style=Style(place), runs=[[(p[0], p[1 + place]) for p in points]]
        )
        for place, label in enumerate((x, y))
    ]
    accepted, rejected = acceptance(*scores, gate)
    rows = [
        ["equal error rate", equal_error_rate(*scores)],
        [f"{x} where {100 * _REJECTED:.0f} % of owners are rejected",
         false_acceptance_at(*scores, _REJECTED)],
        [f"{x} at the gate, {gate:.3f}, that was chosen on validation", accepted],
        [f"{y} there", rejected],
    ]  # fmt: skip
    rows += [
        [f"owners' share of the texts that open the gate, if they wrote {100 * share:g} %",
         trigger_precision(accepted, rejected, share)]
        for share in _SHARES
    ]  # fmt: skip
    counts = f"{len(scores[0])} sessions of owners, {len(scores[1])} of strangers"
    return joined(
        [
            trail_chart(f"{y} over {x}", [trail], x_label=x, y_label=y),
            charts([line_chart(f"{one.label} over the threshold", [one], x_label="threshold")
                    for one in lines]),
            table([counts, "share"], [[label, f"{100 * rate:.2f} %"] for label, rate in rows]),
        ]
    )  # fmt: skip


def _sessions(run: Run) -> tuple[Scores, float] | None:
    """Scores of test sessions, and where the gate opens; None without them.

    Raises UserError for damaged files.
    """
    if run.data_dir is None or not (run.data_dir / PersonaLeakage.name / "about.json").is_file():
        return None
    found = load_about(run.data_dir).get("sessions")
    if found is None:
        return None
    sides = [*map(found.get, ("genuine", "impostor"))] if isinstance(found, dict) else []
    if not sides or not all(map(_is_numbers, [*sides, [found.get("gate")]])):
        raise UserError(
            f"{run.data_dir}: about.json holds no scores of sessions; write the data again"
        )
    return (np.array(sides[0], np.float64), np.array(sides[1], np.float64)), float(found["gate"])


def _is_numbers(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, int | float) for value in values)
    )
