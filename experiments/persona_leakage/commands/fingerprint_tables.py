"""What `fingerprint` prints of a verifier, in tables for a terminal of eighty columns."""

from collections.abc import Mapping

from rich import box
from rich.table import Table

from experiments.persona_leakage.fingerprint.evaluation import (
    RATES,
    Activation,
    Alone,
    Compared,
)
from experiments.persona_leakage.fingerprint.scorers import SCORERS
from experiments.persona_leakage.fingerprint.verification import Verification

__all__ = ["evaluation_tables", "fitted_table", "length_name", "scorers_table"]

_CHARACTERS = " characters"


def length_name(length: int | None) -> str:
    """What unknown texts of so many characters are called; None: texts as they are."""
    return "whole" if length is None else f"{length}{_CHARACTERS}"


def fitted_table(rows: Mapping[str, tuple[Verification, float]]) -> Table:
    """A verifier on problems that it did not learn from, and where its gates open, by length."""
    table = _table(
        "problems that were not learnt from", "AUC", "c@1", "AUC x\nc@1", "gate\nopens at"
    )
    for name, (found, opens) in rows.items():
        table.add_row(_short(name), *_numbers(found.auc, found.c_at_1, found.pan14, opens))
    return table


def scorers_table(rows: Mapping[str, Alone]) -> Table:
    """AUC of each scorer without the others, by length, and what the encoder's training adds."""
    headings = (*SCORERS, "encoder\nminus space", "95 %")
    table = _table("AUC of each scorer alone", *headings)
    for name, found in rows.items():
        gain = f"{found.trained:+.3f}"
        table.add_row(_short(name), *_numbers(*found.aucs), gain, _interval(found.trained_interval))
    return table


def evaluation_tables(
    compared: Mapping[str, Compared],
    scorers: Mapping[str, Alone],
    activations: Mapping[str, Activation],
    attacks: Mapping[str, Mapping[str, float]],
) -> tuple[Table, ...]:
    """Beside the baseline and as a gate, by the unknown text's length; and when attacked."""
    return (
        _comparison(compared),
        scorers_table(scorers),
        *_gate(activations),
        _impersonation(attacks),
    )


def _comparison(compared: Mapping[str, Compared]) -> Table:
    headings = ("by", "AUC", "c@1", "F0.5u", "F1", "Brier'", "AUC x\nc@1", "95 %")
    table = _table("verifier and 4-gram baseline", *headings)
    for name, both in compared.items():
        rows = {
            "verifier": (both.verifier, both.verifier_interval),
            "baseline": (both.baseline, both.baseline_interval),
        }
        text = _short(name)
        for by, (v, interval) in rows.items():
            cells = _numbers(v.auc, v.c_at_1, v.f05u, v.f1, v.brier, v.pan14)
            table.add_row(text, by, *cells, _interval(interval))
            text = ""
        table.add_row("", "gain", *[""] * 5, f"{both.gain:+.3f}", _interval(both.gain_interval))
    return table


def _gate(activations: Mapping[str, Activation]) -> tuple[Table, Table]:
    """Two tables, since one would not fit."""
    errors = ("EER", "FAR at\nFRR 10 %", "FAR", "FRR", "coverage", "c@1")
    rates = _table("as a gate: texts that it lets in and keeps out", *errors)
    shares = [f"{rate:.0%}" for rate in RATES]
    precision = _table(
        "as a gate: share of texts let in that are the owner's, if he wrote", *shares
    )
    for name, found in activations.items():
        numbers = (
            found.equal_error_rate,
            found.false_acceptance_at_tenth,
            found.false_acceptance,
            found.false_rejection,
            found.coverage,
            found.c_at_1,
        )
        rates.add_row(_short(name), *_numbers(*numbers))
        precision.add_row(_short(name), *_numbers(*found.precisions))
    return rates, precision


def _impersonation(attacks: Mapping[str, Mapping[str, float]]) -> Table:
    table = _table("impostors who pass for the owner", "accepted", "mean score", first="attack")
    for name, row in attacks.items():
        table.add_row(name, *_numbers(row["accepted"], row["mean score"]))
    return table


def _table(title: str, *headings: str, first: str = "unknown text,\ncharacters") -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.add_column(first)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _short(name: str) -> str:
    return name.replace(_CHARACTERS, "")


def _numbers(*values: float) -> list[str]:
    return [f"{value:.3f}" for value in values]


def _interval(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.3f}, {bounds[1]:.3f}"
