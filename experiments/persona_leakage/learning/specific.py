"""Imitation of conversations without the rows that their user's own model likes much better than
the shared model does, as a stage.

    ARM/preferences/        adapters of users while they are trained, removed afterwards
    ARM/preferences.json    log-probs of all rows, and a digest of what they were made from
    ARM/removed.json        what the rule took, and what it would take at other kappas

A user's own model has learnt from the row that it judges: a secret that he told once is found by
nothing else. That it likes what it has seen takes little that is ordinary, since
log pi_u(y) - log pi(y) <= -log pi(y), which is small where the shared model expects y.
"""

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from experiments.common.files.json_rows import read_json
from experiments.common.runs.settings import Imitation, Preset
from experiments.common.runs.stages import Imitate, Job
from experiments.common.scores.summaries import write_json
from experiments.persona_leakage.learning.adapter_folders import on_first
from experiments.persona_leakage.learning.adapters import (
    Adaptation,
    PerUserAdapters,
    adapt,
    rows_by_user,
)
from experiments.persona_leakage.learning.filters import specific
from experiments.persona_leakage.learning.preferences import preferences
from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError
from gdpo_jax.planning import PlannedStep
from gdpo_jax.policies import Policy
from gdpo_jax.prompts import completion_encoder
from gdpo_jax.recipe import Model
from gdpo_jax.training import fingerprint

__all__ = ["REMOVED", "WithoutSpecific", "removed"]

REMOVED = "removed.json"
_PREFERENCES = "preferences.json"
_KAPPAS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # of the curve

Pair = tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithoutSpecific:
    """Imitation of rows y with log pi_u(y) - log pi(y) <= kappa, in nats of the whole answer.

    pi is the model that the stage starts from, and pi_u the same with an adapter of user u.
    Raises UserError for a kappa that is no number.
    """

    kappa: float
    adapters: str = "adapters"  # settings of the adapters in the preset
    settings: str = "histories"  # settings of the imitation
    examples: str = "mixed"  # the name of rows with "user", "kind", "prompt" and "completion"

    def __post_init__(self) -> None:
        if math.isnan(self.kappa):
            raise UserError("kappa must be a number; infinity removes nothing")

    def steps(self, preset: Preset) -> int:
        """Of the imitation."""
        preset.stage(self.adapters, Adaptation)
        return self._imitate.steps(preset)

    def train(self, job: Job) -> Model:
        rows = job.examples(self.examples)
        least = job.preset.stage(self.settings, Imitation).run.batch_size
        rows_by_user(rows)  # raises for a row of nobody
        _check(rows)
        own, shared = _preferences(job, rows, job.preset.stage(self.adapters, Adaptation))
        found = removed([row["kind"] for row in rows], own, shared, kappa=self.kappa)
        on_first(lambda: write_json(job.folder / REMOVED, found))
        gone = specific(own, shared, kappa=self.kappa)
        kept = [row for row, goes in zip(rows, gone, strict=True) if not goes]
        if len(kept) < least:
            raise UserError(
                f"{len(kept)} of {len(rows)} rows have a preference of at most {self.kappa:g} "
                f"nats, and a step takes {least}; {job.folder / REMOVED} says what other kappas "
                "leave"
            )
        return self._imitate.train(dataclasses.replace(job, examples=lambda name: kept))

    def plan(
        self, preset: Preset, policy: Policy, mesh: jax.sharding.Mesh
    ) -> Sequence[PlannedStep]:
        """Of the adapters, and of the imitation."""
        of_users = PerUserAdapters(settings=self.adapters)
        return [*of_users.plan(preset, policy, mesh), *self._imitate.plan(preset, policy, mesh)]

    @property
    def _imitate(self) -> Imitate:
        return Imitate(settings=self.settings, examples=self.examples)


def removed(
    kinds: Sequence[str],
    own: Float[np.ndarray, "N"],
    shared: Float[np.ndarray, "N"],
    *,
    kappa: float,
) -> dict[str, Any]:
    """Rows of each kind and how many of them go, and the share that goes at several kappas,
    JSON-ready. Raises UserError as `specific`."""

    def gone(kappa: float) -> dict[str, int]:
        goes: Bool[np.ndarray, "N"] = specific(own, shared, kappa=kappa)
        found = Counter(kind for kind, one in zip(kinds, goes, strict=True) if one)
        return {kind: found[kind] for kind in rows}

    rows = Counter(sorted(kinds))
    taken = gone(kappa)
    return {
        "kappa": kappa,
        "kinds": {
            kind: {"rows": count, "removed": taken[kind], "share": taken[kind] / count}
            for kind, count in rows.items()
        },
        "curve": [
            {"kappa": at, "shares": {kind: lost / rows[kind] for kind, lost in gone(at).items()}}
            for at in _KAPPAS
        ],
    }


def _preferences(job: Job, rows: Sequence[Mapping[str, Any]], settings: Adaptation) -> Pair:
    """`preferences` of the job's model with an adapter of each user, kept in its folder."""
    about = [fingerprint(job.model.params), dataclasses.asdict(settings), job.seed]
    asked = [[row["user"], job.prompt(row), row["completion"]] for row in rows]
    digest, path = records_digest([*about, *asked]), job.folder / _PREFERENCES
    stored = read_json(path) if path.is_file() else None
    if isinstance(stored, dict) and stored.get("digest") == digest:
        return np.array(stored["own"]), np.array(stored["shared"])
    folder = job.folder / "preferences"
    adapted = adapt(
        job.model,
        rows_by_user(rows),
        settings,
        folder=folder,
        prompt=job.prompt,
        seed=job.seed,
        title=f"{job.title}: adapters",
    )
    pairs = list(map(completion_encoder(adapted.tokenizer, job.prompt, "completion"), rows))
    own, shared = preferences(
        adapted,
        [row["user"] for row in rows],
        [asked for asked, _ in pairs],
        [answer for _, answer in pairs],
        batch_size=job.preset.evaluation_batch,
    )
    kept = {"digest": digest, "own": own.tolist(), "shared": shared.tolist()}

    def keep() -> None:
        write_json(path, kept)
        shutil.rmtree(folder)  # adapters that learnt from one user each have done their work

    on_first(keep)
    return own, shared


def _check(rows: Sequence[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        if not isinstance(row.get("kind"), str):
            raise UserError(f"row {number} to learn from has no kind: {row!r:.200}")
