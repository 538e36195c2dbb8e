"""From a workspace to trained and scored arms. What is finished is read and not done again."""

import dataclasses
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.files.json_rows import read_json, write_rows
from experiments.common.runs.arms import Arm, ModelReply, way_to
from experiments.common.runs.folder import Workspace
from experiments.common.runs.settings import Optimization
from experiments.common.runs.stages import Job
from experiments.common.scores.summaries import read_summary, summarize, write_json
from experiments.common.scores.table import Table
from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError
from gdpo_jax.prompts import Prompt
from gdpo_jax.recipe import Model, answer, sampler_config
from gdpo_jax.training import agreed_maximum

__all__ = [
    "Event",
    "Tell",
    "arms_on_the_way",
    "evaluate_arm",
    "evaluate_arms",
    "generate",
    "is_scored",
    "is_trained",
    "measure",
    "score_arm",
    "train_arm",
]

_SPLIT = "test"  # of the scores that tables show


Tell = Callable[["Event"], None]


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that ended. what: "trained", "scored", or "kept" (scored by an earlier call)."""

    what: str
    arm: Arm
    seed: int
    seconds: float
    table: Table | None = None  # of a scored arm


def train_arm(
    space: Workspace,
    arm: Arm,
    seed: int,
    *,
    mesh: jax.sharding.Mesh | None = None,
    kept: MutableMapping[str, Model] | None = None,
    tell: Tell | None = None,
) -> Model:
    """Trains the arm, and first the arm it starts from.

    kept: plain models of this seed by arm, under "" the one before the first stage. Starts are
    taken from there, and those that are made here join it.
    """
    mesh = mesh or space.make_mesh()
    kept = {} if kept is None else kept
    *_, before = ["", *(step.name for step in arms_on_the_way(space, arm)[:-1])]
    if before not in kept:
        if before == "":
            kept[before] = space.open_start(mesh, seed)
        else:
            start = space.experiment.arm(before)
            kept[before] = train_arm(space, start, seed, mesh=mesh, kept=kept, tell=tell).merged()
    started = time.monotonic()
    trained = arm.stage.train(_job(space, arm, seed, kept[before]))
    if tell is not None and arm.stage.steps(space.preset):
        tell(Event("trained", arm, seed, time.monotonic() - started))
    return trained


def arms_on_the_way(space: Workspace, arm: Arm) -> list[Arm]:
    """The arms of the run that are trained for this one, itself the last."""
    return way_to(space.experiment.arms, arm, published=space.preset.pretrained is not None)


def _job(space: Workspace, arm: Arm, seed: int, start: Model) -> Job:
    experiment, data, preset = space.experiment, space.data, space.preset

    def examples(name: str) -> Sequence[Mapping[str, Any]]:
        if name not in experiment.examples:
            legal = ", ".join(experiment.examples)
            raise UserError(f"arm {arm.name!r} learns from {name!r}; legal: {legal}")
        return experiment.examples[name](data, preset)

    return Job(
        title=f"{arm.title}, seed {seed}",
        seed=seed,
        preset=preset,
        model=start,
        examples=examples,
        rewards=lambda: experiment.rewards(arm, data, preset),
        prompt=lambda row: space.prompt(row["prompt"]),
        folder=space.arm_dir(arm.name, seed),
        identity=space.identity(arm, seed),
    )


def generate(
    space: Workspace,
    arm: Arm,
    model: Model,
    records: Sequence[Mapping[str, Any]],
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """The arm's answer to each record, in order; greedy unless a temperature is given."""
    preset = space.preset
    trained = [s.run.prompt_buckets for s in preset.stages.values() if isinstance(s, Optimization)]

    def answers(model: Model, prompts: Sequence[Prompt]) -> list[str]:
        rows = [space.encode(prompt) for prompt in prompts]
        buckets, longest = next(filter(None, trained), None), max(map(len, rows), default=0)
        if buckets is not None and longest > max(buckets):
            # Unlike in training, every conversation has to be answered.
            buckets = (*buckets, -(-longest // 64) * 64)
        return answer(
            model,
            rows,
            sampler=sampler_config(
                model, max_new_tokens=preset.max_new_tokens, temperature=temperature
            ),
            prompt_buckets=buckets,
            batch_size=preset.evaluation_batch,
            key=jax.random.key(seed),
        )

    return arm.answer.answer(ModelReply(model, space.encode, answers), records)


def measure(
    space: Workspace, model: Model, records: Sequence[Mapping[str, Any]]
) -> Mapping[str, np.ndarray]:
    """What the experiment measures of the model itself: columns by name, an entry a record."""
    if space.experiment.measure is None:
        return {}
    prompts = [space.prompt(record["prompt"]) for record in records]
    return space.experiment.measure(model, prompts, records, space.data, space.preset)


def score_arm(
    space: Workspace,
    texts: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    identity: str = "",
    columns: Mapping[str, np.ndarray] | None = None,
) -> Table:
    """Writes outputs.jsonl and scores.json into `folder`; returns the values of every answer.

    columns: of `measure`, beside those of the answers.
    """
    table = space.experiment.score(texts, records, space.data, space.preset)
    table = dataclasses.replace(table, values={**table.values, **(columns or {})})
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        rows = zip(table.ids, texts, strict=True)
        write_rows(folder / "outputs.jsonl", [{"sample_id": i, "text": text} for i, text in rows])
        about = {"identity": identity, **space.data.judged}
        write_json(folder / "scores.json", {**about, **summarize(table, space.experiment.metrics)})
    return table


def evaluate_arms(
    space: Workspace,
    arms: Sequence[Arm],
    seed: int,
    *,
    mesh: jax.sharding.Mesh | None = None,
    tell: Tell = lambda event: None,
) -> None:
    """Trains the arms, answers the test records greedily and scores the answers.

    An arm with scores that are newer than all training behind them, and of the same identity, is
    left alone. A model is kept as long as a later arm starts from it.
    """
    kept: dict[str, Model] = {}
    left = [arm for arm in arms if not is_scored(space, arm, seed)]
    for arm in arms:
        folder = space.arm_dir(arm.name, seed)
        if arm not in left:
            tell(Event("kept", arm, seed, 0.0, read_summary(folder / "scores.json")))
            continue
        trained = evaluate_arm(space, arm, seed, mesh=mesh, kept=kept, tell=tell)
        left.remove(arm)
        if any(arm in arms_on_the_way(space, other) for other in left):
            kept[arm.name] = trained.merged()
        for name in kept.keys() - {_nearest(space, other, kept) for other in left}:
            del kept[name]


def evaluate_arm(
    space: Workspace,
    arm: Arm,
    seed: int,
    *,
    mesh: jax.sharding.Mesh | None = None,
    kept: MutableMapping[str, Model] | None = None,
    tell: Tell = lambda event: None,
) -> Model:
    """Trains the arm, answers the test records greedily and scores the answers; returns the model.

    kept: as of `train_arm`.
    """
    trained = train_arm(space, arm, seed, mesh=mesh, kept=kept, tell=tell)
    started = time.monotonic()
    records = space.data.records[_SPLIT]
    texts = generate(space, arm, trained, records)
    columns = measure(space, trained, records)
    folder, identity = space.arm_dir(arm.name, seed), _digest(space, arm, seed)
    table = score_arm(space, texts, records, folder, identity=identity, columns=columns)
    tell(Event("scored", arm, seed, time.monotonic() - started, table))
    return trained


def is_scored(space: Workspace, arm: Arm, seed: int) -> bool:
    """Has the arm scores of this identity, newer than all training they rest on?"""
    found = jax.process_index() == 0 and _is_scored(space, arm, seed)
    return bool(agreed_maximum(int(found)))


def _is_scored(space: Workspace, arm: Arm, seed: int) -> bool:
    folder = space.arm_dir(arm.name, seed)
    scores = folder / "scores.json"
    if not scores.is_file() or not (folder / "outputs.jsonl").is_file():
        return False
    stored = read_json(scores)
    if not isinstance(stored, dict) or stored.get("identity") != _digest(space, arm, seed):
        return False
    written = scores.stat().st_mtime_ns
    return all(_finished(space, step, seed, before=written) for step in arms_on_the_way(space, arm))


def is_trained(space: Workspace, arm: Arm, seed: int) -> bool:
    """Is the arm's last step stored?"""
    return _finished(space, arm, seed, before=time.time_ns())


def _finished(space: Workspace, arm: Arm, seed: int, *, before: int) -> bool:
    """Was the arm's last step stored before this time (ns)?"""
    steps = arm.stage.steps(space.preset)
    last = space.arm_dir(arm.name, seed) / "checkpoints" / str(steps)
    return steps == 0 or (last.is_dir() and last.stat().st_mtime_ns <= before)


def _nearest(space: Workspace, arm: Arm, kept: Mapping[str, Model]) -> str:
    """The last kept model on the way to the arm."""
    names = ["", *(step.name for step in arms_on_the_way(space, arm)[:-1])]
    return next((name for name in reversed(names) if name in kept), "")


def _digest(space: Workspace, arm: Arm, seed: int) -> str:
    """Of all that an arm's scores depend on."""
    way = [space.identity(step, seed) for step in arms_on_the_way(space, arm)]
    return records_digest([space.preset.to_json(), *way])
