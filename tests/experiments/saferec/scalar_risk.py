"""The risk of one film for one trait, read off the formula: what the arrays are held against."""

import dataclasses

from experiments.saferec.oracle.traits import trait_named


@dataclasses.dataclass(frozen=True)
class Risk:
    """One entry of the released `movie_trait_sensitivity.json`."""

    final: float
    unsafe: bool
    source: str
    ddd_trigger: int
    pg_risk: float


def pg_risk(severities, weights):
    total = sum(weights)
    dot = sum(weight * severity for weight, severity in zip(weights, severities))
    return round(dot / (3 * total), 4) if total > 0 else 0.0


def fuse(trigger, guide, *, threshold=0.66):
    final = max(float(trigger), guide)
    if trigger:
        source = "Both" if guide > 0 else "DDD"
    else:
        source = "ParentGuide" if guide >= threshold else "None"
    return Risk(final, final >= threshold, source, trigger, guide)


def film_risk(tags, severities, trait):
    trait = trait_named(trait) if isinstance(trait, str) else trait
    return fuse(int(bool(set(tags) & set(trait.questions))), pg_risk(severities, trait.weights))
