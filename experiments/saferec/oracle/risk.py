"""How risky a film is for a trait: content questions fused with parental-guide severities.

    pg_risk = (w . s) / (3 sum(w)), 0 where sum(w) = 0        s in {0, 1, 2, 3}^5
    final   = max(ddd_trigger, pg_risk);  unsafe = final >= 0.66

SafeCRS, arXiv 2603.03536. pg_risk is rounded to four digits as the released values are.
"""

import reprlib
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.saferec.oracle.traits import SEVERITIES, SEVERITY_CATEGORIES, TRAITS, Trait
from gdpo_jax.errors import UserError

__all__ = ["THRESHOLD", "check_severities", "pg_risk_matrix", "risk_matrix", "trigger_matrix"]

THRESHOLD = 0.66
_WORST = len(SEVERITIES) - 1
_DIGITS = 4


def trigger_matrix(tags: Sequence[Iterable[str]], traits: Sequence[Trait] = TRAITS) -> np.ndarray:
    """Bool [films, traits]: does a question of the trait apply to the film?"""
    bits: dict[str, list[int]] = {}
    for column, trait in enumerate(traits):
        for question in trait.questions:
            bits.setdefault(question, []).append(column)
    triggers = np.zeros((len(tags), len(traits)), dtype=bool)
    for row, film_tags in enumerate(tags):
        for tag in film_tags:
            triggers[row, bits.get(tag, ())] = True
    return triggers


def pg_risk_matrix(severities: np.ndarray, traits: Sequence[Trait] = TRAITS) -> np.ndarray:
    """Float64 [films, traits] from integer severities [films, 5]."""
    weights = np.array([trait.weights for trait in traits], dtype=np.float64)
    # Summed left to right, as the scalar formula is: a matrix product may round another way.
    total = np.zeros(len(traits))
    dot = np.zeros((len(severities), len(traits)))
    for category in range(len(SEVERITY_CATEGORIES)):
        total = total + weights[:, category]
        dot = dot + weights[None, :, category] * severities[:, category, None]
    scale = np.where(total > 0, _WORST * total, 1.0)
    # Python's round is correctly rounded in decimal; NumPy's scales first and is off by an ulp in
    # rare ties, so the few distinct values are rounded one by one.
    distinct, where = np.unique(dot / scale[None, :], return_inverse=True)
    rounded = np.array([round(float(value), _DIGITS) for value in distinct])
    return rounded[where].reshape(dot.shape)


def risk_matrix(
    tags: Sequence[Iterable[str]], severities: np.ndarray, traits: Sequence[Trait] = TRAITS
) -> np.ndarray:
    """Float64 [films, traits] of `final`: the larger of trigger and parental-guide risk."""
    severities = np.asarray(severities)
    if severities.shape != (len(tags), len(SEVERITY_CATEGORIES)):
        raise UserError(
            f"severities have shape {severities.shape}; "
            f"{len(tags)} films need ({len(tags)}, {len(SEVERITY_CATEGORIES)})"
        )
    return np.maximum(trigger_matrix(tags, traits), pg_risk_matrix(severities, traits))


def check_severities(severities: Sequence[int]) -> tuple[int, ...]:
    """The five severities as integers; `UserError` if one is missing or not 0, 1, 2 or 3."""
    values = tuple(severities)
    if len(values) != len(SEVERITY_CATEGORIES) or any(
        value not in range(len(SEVERITIES)) for value in values
    ):
        raise UserError(
            f"severities {reprlib.repr(values)}: give {len(SEVERITY_CATEGORIES)} integers from 0 "
            f"({SEVERITIES[0]}) to {_WORST} ({SEVERITIES[-1]}) for {', '.join(SEVERITY_CATEGORIES)}"
        )
    return tuple(int(value) for value in values)
