"""`strength`: how strongly a run is personalised for each enrolled user, and what leaks of him."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from experiments.common.chats.log_probs import next_token_log_probs
from experiments.common.files.json_rows import read_rows
from experiments.common.runs.chat_models import check_scored, check_trained
from experiments.common.runs.experiment import Experiment
from experiments.common.runs.folder import Workspace
from experiments.common.runs.options import Invocation, unset
from experiments.common.runs.pipeline import generate, train_arm
from experiments.persona_leakage.data.population import SOURCES, enrolled, population
from experiments.persona_leakage.data.users import User
from experiments.persona_leakage.language import notes_prompt
from experiments.persona_leakage.measures.detectors import hits
from experiments.persona_leakage.measures.leakage import own_detections, paired
from experiments.persona_leakage.measures.strength import (
    STRENGTH_FILES,
    Strength,
    divergences,
    recall_strengths,
    user_strengths,
    write_strengths,
)
from experiments.persona_leakage.records import probes_of

__all__ = ["measuring_strength"]

Record = Mapping[str, Any]
_BATCH = 8  # probes whose whole distributions exist at a time


def measuring_strength(
    experiment: Experiment, *, partners: Mapping[str, str], remembering: str, pooled: str
) -> Callable[..., None]:
    """The command `strength` of an experiment.

    partners: of an arm, the one that was trained alike without the sources. remembering: the arm
    whose model is asked with notes and without. pooled: the arm that learnt from everybody.
    """
    plain, own_plain, _ = unset(experiment, [arm.name for arm in experiment.compared])

    def strength(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        seed: int = 0,
    ) -> None:
        """Measure how strong every enrolled user's personalisation is, for selective isolation.

        In two ways, each written into the run's seed folder as a file that `store curve` and
        `store pool` read: the divergence per token of what the base says to a user with his notes
        in front of his requests from what it says without them (all users), and how much oftener
        his marks come back from the arm without a safeguard than from its twin, which never saw him
        (half of the users). Beside them stands what that arm leaks of him to strangers.

        Args:
            seed: of the arms.
        """
        run = Invocation(experiment, options, own)
        if run.planned():
            return
        space = run.open_begun()
        check_trained(space, experiment.arm(remembering), seed)  # all before the work on any
        for name in (pooled, partners[pooled]):
            check_scored(space, experiment.arm(name), seed)
        users = enrolled(population(space.preset.data_seed))
        sources = [user for user in users if user.half == SOURCES]
        sides = [_said(space, name, seed) for name in (pooled, partners[pooled])]
        leaked = _leakage(space, sources, *sides)
        found = {
            "divergence": _divergence(space, remembering, seed),
            "recall": _recall(space, sources, *sides),
        }
        folder = space.path / f"seed-{seed}"
        for name, strengths in found.items():
            rows = [
                Strength(user=user, strength=value, leakage=leaked.get(user, math.nan))
                for user, value in strengths.items()
            ]
            write_strengths(folder / STRENGTH_FILES[name], rows)
        _tell(users, found, leaked)
        for name in STRENGTH_FILES.values():
            _say(f"written to {folder / name}; `report` shows the curve on the page")

    return strength


def _said(space: Workspace, name: str, seed: int) -> dict[str, str]:
    """What an arm answered to the test records, by their ids."""
    rows = read_rows(space.arm_dir(name, seed) / "outputs.jsonl")
    return {row["sample_id"]: row["text"] for row in rows}


def _divergence(space: Workspace, name: str, seed: int) -> dict[str, float]:
    """KL per token of every owner: answers are drawn with his notes, at temperature 1, and at each
    of their tokens the whole distributions are compared."""
    arm, owners = space.experiment.arm(name), probes_of(space.data, "owner")
    model = train_arm(space, arm, seed)  # finished, so it is read
    texts = generate(space, arm, model, owners, temperature=1.0, seed=seed)
    tokenizer, most = model.tokenizer, space.preset.max_new_tokens
    answers = [[*tokenizer.encode(text), tokenizer.eos_id][:most] for text in texts]
    plain = [space.encode(record["prompt"]) for record in owners]
    noted = [space.encode(notes_prompt(record["notes"], record["prompt"])) for record in owners]
    sides = (next_token_log_probs(model, one, answers, batch_size=_BATCH) for one in (noted, plain))
    found = np.concatenate([divergences(*both) for both in zip(*sides, strict=True)])
    mask = np.arange(found.shape[1]) < np.array([[len(answer)] for answer in answers])
    return user_strengths(found, mask, [record["user"] for record in owners])


def _recall(
    space: Workspace, users: Sequence[User], full: Mapping[str, str], without: Mapping[str, str]
) -> dict[str, float]:
    """Recall minus base rate of every source."""
    records, ids = probes_of(space.data, "owner"), [user.id for user in users]
    asked = [record["user"] for record in records]
    tables = [
        own_detections(hits(users, [side[record["id"]] for record in records]), ids, asked)
        for side in (full, without)
    ]
    return dict(zip(ids, recall_strengths(*tables).tolist(), strict=True))


def _leakage(
    space: Workspace, users: Sequence[User], full: Mapping[str, str], without: Mapping[str, str]
) -> dict[str, float]:
    """Paired leakage of every source to strangers."""
    records = probes_of(space.data, "stranger")
    sides: list[Float[np.ndarray, "S N"]] = [
        hits(users, [side[record["id"]] for record in records]) for side in (full, without)
    ]
    means = paired(*sides).mean(axis=1).tolist()
    return {user.id: mean for user, mean in zip(users, means, strict=True)}


def _tell(
    users: Sequence[User], found: Mapping[str, Mapping[str, float]], leaked: Mapping[str, float]
) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("user")
    for heading in ("KL of notes\nnats a token", "recall minus\nbase rate", "leakage"):
        table.add_column(heading, justify="right")
    for user in users:
        values = [*(of_user.get(user.id) for of_user in found.values()), leaked.get(user.id)]
        table.add_row(user.id, *("-" if value is None else f"{value:.4f}" for value in values))
    Console().print(table)


def _say(line: str) -> None:
    Console(soft_wrap=True).print(line, highlight=False, markup=False)
