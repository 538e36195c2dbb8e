"""`fingerprint`: fit a verifier of authors, answer problems with it, and measure it."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg, subcommand

from experiments.persona_leakage.fingerprint.attacks import impersonations
from experiments.persona_leakage.fingerprint.baseline import fit_baseline
from experiments.persona_leakage.fingerprint.evaluation import (
    LENGTHS,
    RATES,
    Activation,
    Compared,
    activation,
    baseline_answers,
    compare,
    known_samples,
    probabilities,
    seen_in,
)
from experiments.persona_leakage.fingerprint.lengths import cut
from experiments.persona_leakage.fingerprint.problems import (
    Problem,
    read_problems,
    write_answers,
)
from experiments.persona_leakage.fingerprint.saved import load_verifier, save_verifier
from experiments.persona_leakage.fingerprint.scorers import Sample
from experiments.persona_leakage.fingerprint.verification import verify
from experiments.persona_leakage.fingerprint.verifier import (
    Verifier,
    answer,
    decided,
    fit,
    gate_at,
)
from gdpo_jax.errors import UserError
from gdpo_jax.files import write_beside

__all__ = ["fingerprint"]

_FILE = Path("runs/fingerprint/verifier.npz")
_ATTACKS = (("copied", 0.25), ("copied", 0.5), ("phrases", 0.5), ("phrases", 1.0))


@dataclasses.dataclass(frozen=True)
class Fit:
    """Fit a verifier on problems whose truth is known (PAN 2014: a folder a problem)."""

    problems: Positional[Path]
    """folder of the problems, with truth.json or truth.txt"""
    out: Path = _FILE
    """file to write"""
    acceptance: float = 0.05
    """share of impostors that the gates let in, on problems they were not learnt from"""
    folds: int = 5
    """parts, each of which is scored by what was learnt from the others"""
    seed: int = 0
    """of folds, pieces of texts, and the encoder's training"""


@dataclasses.dataclass(frozen=True)
class Score:
    """Answer problems, a line each: its name and a score in [0, 1], 0.5 for no decision."""

    problems: Positional[Path]
    """folder of the problems; no truth is needed"""
    verifier: Path = _FILE
    """file that `fit` wrote"""
    out: Path = Path("runs/fingerprint/answers.txt")
    """file to write; one that ends in .jsonl gets the form of PAN 2020"""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a verifier: beside the baseline, on short texts, and against impersonation."""

    problems: Positional[Path]
    """folder of the problems with their truth, none of which the verifier was fitted on"""
    training: Path
    """folder of the problems that it was fitted on, for the baseline to learn from"""
    verifier: Path = _FILE
    """file that `fit` wrote"""
    out: Path = Path("runs/fingerprint/evaluation.json")
    """file to write"""
    bootstrap: int = 2000
    """resamples for intervals"""


def fingerprint(
    do: Annotated[
        Annotated[Fit, subcommand("fit", prefix_name=False)]
        | Annotated[Score, subcommand("score", prefix_name=False)]
        | Annotated[Evaluate, subcommand("evaluate", prefix_name=False)],
        arg(name=""),
    ],
) -> None:
    """Recognise people by how they write: an activation key, not a password."""
    console = Console(soft_wrap=True)
    if isinstance(do, Fit):
        _fit(do, console)
    elif isinstance(do, Score):
        _score(do, console)
    else:
        _evaluate(do, console)


def _fit(do: Fit, console: Console) -> None:
    problems = read_problems(do.problems)
    fitted = fit(problems, folds=do.folds, acceptance=do.acceptance, seed=do.seed)
    save_verifier(fitted.verifier, do.out)
    same = _truth(problems)
    table = Table(title="problems that were not learnt from", box=box.SIMPLE_HEAD)
    for heading in ("unknown text", "AUC", "c@1", "AUC x c@1", "gate opens at"):
        table.add_column(heading, justify="right")
    verifier = fitted.verifier
    for number, level in enumerate(verifier.scorers.levels):
        found = verify(same, decided(fitted.probabilities[:, number], verifier.band))
        numbers = (found.auc, found.c_at_1, found.pan14, verifier.gates[number].threshold)
        table.add_row(_length(level), *(f"{value:.3f}" for value in numbers))
    console.print(table)
    console.print(f"{do.out}: fitted on {len(problems)} problems", highlight=False, markup=False)


def _score(do: Score, console: Console) -> None:
    verifier = load_verifier(do.verifier)
    problems = read_problems(do.problems, truth=False)
    answers = {problem.id: answer(verifier, problem) for problem in problems}
    write_answers(do.out, answers)
    undecided = sum(score == 0.5 for score in answers.values())
    line = f"{do.out}: {len(answers)} answers, {undecided} of them undecided"
    console.print(line, highlight=False, markup=False)


def _evaluate(do: Evaluate, console: Console) -> None:
    verifier = load_verifier(do.verifier)
    training, problems = read_problems(do.training), read_problems(do.problems)
    same = _truth(problems)
    if same.all() or not same.any():
        raise UserError(f"{do.problems}: the problems have one answer only; measures need both")
    seen = seen_in(training, problems)
    record: dict = {"problems": len(problems), "seen": int(seen.sum()), "lengths": {}}
    compared: dict[str, Compared] = {}
    activations: dict[str, Activation] = {}
    baseline, known = fit_baseline(training), known_samples(verifier, problems)
    for length in LENGTHS:
        found = probabilities(verifier, known, [cut(p.unknown, length) for p in problems])
        plain = baseline_answers(baseline, training, problems, length)
        gate = gate_at(verifier, length or int(verifier.scorers.typical))
        for name, kept in _parts(_length(length), same, seen).items():
            answers = decided(found[kept], verifier.band)
            compared[name] = compare(same[kept], answers, plain[kept], samples=do.bootstrap)
            activations[name] = activation(same[kept], found[kept], gate)
            record["lengths"][name] = {
                "compared": dataclasses.asdict(compared[name]),
                "activation": dataclasses.asdict(activations[name]),
            }
    attacks = _attack(verifier, problems, known)
    record["impersonation"] = attacks
    _write(do.out, record)
    console.print(_comparison(compared))
    console.print(_gate(activations))
    console.print(_impersonation(attacks))
    line = f"{do.out}: all figures; {seen.sum()} of {len(problems)} problems share a text with"
    console.print(f"{line} {do.training}", highlight=False, markup=False)


def _parts(name: str, same: np.ndarray, seen: np.ndarray) -> dict[str, np.ndarray]:
    """All problems, and those without a text of training where both answers are among them."""
    parts = {name: np.ones(len(same), dtype=bool)}
    if seen.any() and len(set(same[~seen])) == 2:
        parts[f"{name}, none seen"] = ~seen
    return parts


def _attack(
    verifier: Verifier, problems: list[Problem], known: list[Sample]
) -> dict[str, dict[str, float]]:
    """How impostors fare, plain and when they pass for the owner."""
    impostors = [problem for problem in problems if not problem.same]
    samples = [sample for sample, problem in zip(known, problems, strict=True) if not problem.same]
    rows = {"no attack": impostors}
    for kind, share in _ATTACKS:
        rows[f"{kind}, {share:.0%} of sentences"] = impersonations(impostors, kind, share)
    gate, found = gate_at(verifier, int(verifier.scorers.typical)), {}
    for name, attempts in rows.items():
        scores = probabilities(verifier, samples, [problem.unknown for problem in attempts])
        accepted = float((scores >= gate.threshold).mean())
        found[name] = {"accepted": accepted, "mean score": float(scores.mean())}
    return found


def _write(path: Path, record: dict) -> None:
    """Writes figures as JSON, the whole file or nothing. Raises UserError where it cannot."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path, json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _comparison(compared: dict[str, Compared]) -> Table:
    table = Table(title="verifier and 4-gram baseline", title_justify="left", box=box.SIMPLE_HEAD)
    headings = ("unknown text", "by", "AUC", "c@1", "F0.5u", "F1", "Brier'", "AUC x c@1", "95 %")
    for heading in headings:
        table.add_column(heading, justify="right")
    for length, both in compared.items():
        rows = {
            "verifier": (both.verifier, both.verifier_interval),
            "baseline": (both.baseline, both.baseline_interval),
        }
        for name, (v, interval) in rows.items():
            numbers = (v.auc, v.c_at_1, v.f05u, v.f1, v.brier, v.pan14)
            cells = [f"{value:.3f}" for value in numbers]
            table.add_row(length, name, *cells, _interval(interval))
        gain = f"{both.gain:+.3f}"
        table.add_row("", "difference", *[""] * 5, gain, _interval(both.gain_interval))
    return table


def _gate(activations: dict[str, Activation]) -> Table:
    table = Table(title="as a gate", title_justify="left", box=box.SIMPLE_HEAD)
    precisions = tuple(f"precision at {rate:.0%}" for rate in RATES)
    rates = ("EER", "FAR at FRR 10 %", "FAR", "FRR")
    for heading in ("unknown text", *rates, *precisions, "coverage", "c@1"):
        table.add_column(heading, justify="right")
    for length, rates in activations.items():
        numbers = (
            rates.equal_error_rate,
            rates.false_acceptance_at_tenth,
            rates.false_acceptance,
            rates.false_rejection,
            *rates.precisions,
            rates.coverage,
            rates.c_at_1,
        )
        table.add_row(length, *(f"{value:.3f}" for value in numbers))
    return table


def _impersonation(attacks: dict[str, dict[str, float]]) -> Table:
    title = "impostors who pass for the owner"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("attack", "accepted", "mean score"):
        table.add_column(heading, justify="right")
    for name, row in attacks.items():
        table.add_row(name, f"{row['accepted']:.3f}", f"{row['mean score']:.3f}")
    return table


def _truth(problems: list[Problem]) -> np.ndarray:
    return np.array([int(bool(problem.same)) for problem in problems])


def _length(length: int | None) -> str:
    return "whole" if length is None else f"{length} characters"


def _interval(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
