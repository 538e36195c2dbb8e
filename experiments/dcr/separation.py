"""How far apart kinds of prompts lie in the hidden states behind a layer, before and after
refinement; and a sweep over its settings on a validation split.

A high separation alone is no success: a contrast can learn the style of a data set. Compare kinds
of one source, such as XSTest's safe prompts and its contrasts (section 5 of the reference notes).
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.common.scores.discrimination import area_under_curve
from experiments.dcr.refinement import Refinement, refine
from experiments.dcr.states import prompt_states
from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError
from gdpo_jax.prompts import PromptFunction
from gdpo_jax.recipe import Model

__all__ = [
    "Separation",
    "SweepRow",
    "best_of",
    "separation",
    "sweep",
    "variants",
]


@dataclasses.dataclass(frozen=True)
class Separation:
    """How far apart kinds of states lie.

    similarity: the mean cosine of two prompts of kinds "a/b", a prompt with itself left out.
    silhouette: mean over all prompts (Rousseeuw, 1987) by cosine distance; from -1 to 1, at most 0
    where kinds are mixed. auc: of a probe along the difference of the two kinds' means, on prompts
    that it has not seen; 0.5 is chance.
    """

    similarity: Mapping[str, float]
    silhouette: float
    auc: float


def separation(
    states: Float[np.ndarray, "N D"],
    kinds: Sequence[str],
    *,
    between: tuple[str, str] = ("seeming", "toxic"),
    clusters: Sequence[Any] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Separation:
    """How far apart the kinds of states lie.

    between: the kinds that the probe tells apart, the second one higher. clusters: prompts of one
    cluster are on one side of the probe's split; each is its own unless given.

    Raises UserError for a kind with fewer than two prompts, fewer than two kinds, and too few
    clusters for the folds.
    """
    names, labels = np.unique(np.asarray(kinds), return_inverse=True)
    counts = np.bincount(labels)
    if len(labels) != len(states) or len(names) < 2 or counts.min() < 2:
        found = dict(zip(names.tolist(), counts.tolist()))
        raise UserError(
            f"separation needs two kinds with two states each, of {len(states)} states: {found}"
        )
    if missing := [kind for kind in between if kind not in names]:
        raise UserError(f"no prompt is of kind {missing[0]!r}; there are {', '.join(names)}")
    wide = np.asarray(states, np.float64)
    units = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    cosines = units @ units.T
    sums = np.stack([cosines[:, labels == k].sum(axis=1) for k in range(len(names))], axis=1)
    own = np.arange(len(labels)), labels
    sums[own] -= np.diag(cosines)
    sizes = np.broadcast_to(counts, sums.shape).copy()
    sizes[own] -= 1
    means = sums / sizes
    similarity = {
        f"{names[a]}/{names[b]}": float(means[labels == a, b].mean())
        for a, b in itertools.combinations_with_replacement(range(len(names)), 2)
    }
    inside, others = 1 - means[own], 1 - means
    others[own] = np.inf
    outside = others.min(axis=1)
    width = np.maximum(np.maximum(inside, outside), 1e-12)
    chosen = np.isin(np.asarray(kinds), between)
    groups = np.arange(len(labels)) if clusters is None else np.asarray(clusters)
    return Separation(
        similarity=similarity,
        silhouette=float(np.mean((outside - inside) / width)),
        auc=_probe_auc(
            units[chosen], np.asarray(kinds)[chosen] == between[1], groups[chosen], folds, seed
        ),
    )


def _probe_auc(
    units: np.ndarray, positive: np.ndarray, clusters: np.ndarray, folds: int, seed: int
) -> float:
    """The mean over folds of the area under the curve, where a fold has both kinds."""
    found, place = np.unique(clusters, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(found))
    fold = order[place] % folds
    areas = []
    for number in range(folds):
        held, rest = fold == number, fold != number
        parts = (held & positive, held & ~positive, rest & positive, rest & ~positive)
        if not all(part.any() for part in parts):
            continue
        along = units[parts[2]].mean(axis=0) - units[parts[3]].mean(axis=0)
        areas.append(area_under_curve(units[held] @ along, positive[held]))
    if not areas:
        raise UserError(f"{len(found)} clusters are too few for {folds} folds with both kinds")
    return float(np.mean(areas))


@dataclasses.dataclass(frozen=True)
class SweepRow:
    """One setting of a sweep, and the separation of the validation prompts."""

    settings: Refinement
    before: Separation
    after: Separation


def variants(settings: Refinement, **choices: Sequence[Any]) -> list[Refinement]:
    """The settings with every combination of choices, such as `layer=(4, 8), margin=(0.2, 0.4)`.

    Raises UserError for a name that is no field, and what `Refinement` refuses.
    """
    legal = [field.name for field in dataclasses.fields(Refinement)]
    if unknown := [name for name in choices if name not in legal]:
        raise UserError(f"{unknown[0]!r} is no setting; legal: {', '.join(legal)}")
    return [
        dataclasses.replace(settings, **dict(zip(choices, values)))
        for values in itertools.product(*choices.values())
    ]


def sweep(
    model: Model,
    examples: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
    settings: Sequence[Refinement],
    *,
    prompt: PromptFunction = "prompt",
    folder: str | Path,
    seed: int = 0,
) -> list[SweepRow]:
    """Refines the model with each of the settings, and measures the validation rows at its layer.

    examples, validation: rows with "kind", what `prompt` reads, and "cluster" where they have one.
    folder: a run of each setting is kept in it; run again, finished ones are only loaded.

    Raises UserError as `refine` and `separation`; a layer that does not exist before any training.
    """
    read = prompt if callable(prompt) else lambda row: row[prompt]
    kinds = [row["kind"] for row in validation]
    clusters = [row.get("cluster", number) for number, row in enumerate(validation)]
    prompts = [read(row) for row in validation]

    def measured(of: Model, each: Refinement) -> Separation:
        states = prompt_states(of, prompts, layer=each.layer, pooling=each.pooling)
        return separation(states, kinds, clusters=clusters, seed=seed)

    # All starts first, so that a layer that does not exist is found before any training.
    before = [measured(model, each) for each in settings]
    rows = []
    for each, start in zip(settings, before):
        name = f"layer-{each.layer}-{records_digest([each])[:8]}"
        trained = refine(
            model, examples, each, prompt=prompt, workdir=Path(folder) / name, seed=seed, title=name
        )
        rows.append(SweepRow(each, start, measured(trained, each)))
    return rows


def best_of(rows: Sequence[SweepRow]) -> SweepRow:
    """The row with the highest silhouette after refinement. Raises UserError for no rows."""
    if not rows:
        raise UserError("a sweep of no settings has no best one")
    return max(rows, key=lambda row: row.after.silhouette)
