"""`fingerprint`: fit a verifier of authors, answer problems with it, and measure it."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from tyro.conf import Positional, arg, subcommand

from experiments.persona_leakage.commands.fingerprint_tables import (
    evaluation_tables,
    fitted_table,
    length_name,
    scorers_table,
)
from experiments.persona_leakage.fingerprint.attacks import impersonations
from experiments.persona_leakage.fingerprint.baseline import fit_baseline
from experiments.persona_leakage.fingerprint.evaluation import (
    LENGTHS,
    Activation,
    Alone,
    Compared,
    activation,
    alone,
    baseline_answers,
    compare,
    judged,
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
    rows, scorers, verifier = {}, {}, fitted.verifier
    for number, level in enumerate(verifier.scorers.levels):
        found = verify(same, decided(fitted.probabilities[:, number], verifier.band))
        rows[length_name(level)] = found, verifier.gates[number].threshold
        scorers[length_name(level)] = alone(same, fitted.scores[:, number])
    for table in (fitted_table(rows), scorers_table(scorers)):
        console.print(table, soft_wrap=False)
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
    scorers: dict[str, Alone] = {}
    activations: dict[str, Activation] = {}
    baseline, known = fit_baseline(training), known_samples(verifier, problems)
    for length in LENGTHS:
        scores, found = judged(verifier, known, [cut(p.unknown, length) for p in problems])
        plain = baseline_answers(baseline, training, problems, length)
        gate = gate_at(verifier, length or int(verifier.scorers.typical))
        for name, kept in _parts(length_name(length), same, seen).items():
            answers = decided(found[kept], verifier.band)
            compared[name] = compare(same[kept], answers, plain[kept], samples=do.bootstrap)
            scorers[name] = alone(same[kept], scores[kept], samples=do.bootstrap)
            activations[name] = activation(same[kept], found[kept], gate)
            record["lengths"][name] = {
                "compared": dataclasses.asdict(compared[name]),
                "alone": dataclasses.asdict(scorers[name]),
                "activation": dataclasses.asdict(activations[name]),
            }
    attacks = _attack(verifier, problems, known)
    record["impersonation"] = attacks
    _write(do.out, record)
    # Lines may be longer than the terminal, tables not: their cells would be cut.
    for table in evaluation_tables(compared, scorers, activations, attacks):
        console.print(table, soft_wrap=False)
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


def _truth(problems: list[Problem]) -> np.ndarray:
    return np.array([int(bool(problem.same)) for problem in problems])
