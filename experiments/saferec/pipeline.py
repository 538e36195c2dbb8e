"""From a workspace to a trained and scored arm. Running a finished arm again only loads it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.common.runs.samples import keep_samples
from experiments.common.scores.summaries import summarize, write_json
from experiments.common.scores.table import Table
from experiments.saferec.arms import (
    Arm,
    advantage_transform,
    arm_named,
    reward_functions,
    token_ranks,
    token_shaping,
)
from experiments.saferec.data.corpus import with_all_groundtruth
from experiments.saferec.metrics import DEFAULT_KS, METRICS, score_texts
from experiments.saferec.scoring.outputs import write_outputs
from experiments.saferec.scoring.references import scoring_settings
from experiments.saferec.workspace import Workspace
from gdpo_jax.recipe import Model, answer, imitate, optimize, sampler_config, with_lora

__all__ = ["evaluate_arm", "generate", "score_arm", "train_arm"]


def train_arm(
    space: Workspace, arm: Arm, seed: int, *, mesh: jax.sharding.Mesh | None = None
) -> Model:
    """Trains the arm, and first the arm it starts from."""
    mesh = mesh or space.make_mesh()
    start, lora = _start_of(space, arm, seed, mesh), space.lora_of(arm)
    if lora is not None:
        start = with_lora(start, lora, jax.random.fold_in(jax.random.key(seed), 1))
    train = _imitate if arm.supervised else _optimize
    params = train(space, arm, seed, start)
    return start.with_params(params)


def _start_of(space: Workspace, arm: Arm, seed: int, mesh: jax.sharding.Mesh) -> Model:
    """The plain model that the arm starts from: new, published, or what another arm trained."""
    if arm.start is None:
        return space.open_start(mesh, seed)
    before = arm_named(arm.start)
    if before.start is None and space.pretrained:
        return space.open_start(mesh, seed)
    return train_arm(space, before, seed, mesh=mesh).merged()


def _identity(space: Workspace, arm: Arm, seed: int) -> dict[str, Any]:
    return {"arm": dataclasses.asdict(arm), "seed": seed, "level": space.preset.level}


def _imitate(space: Workspace, arm: Arm, seed: int, model: Model) -> Any:
    preset, stage = space.preset, space.preset.stage(arm.name)
    options = {"list_length": preset.list_length, "shown": preset.risks_shown}
    state = imitate(
        model,
        space.corpus.examples(arm.name, **options),
        prompt=lambda example: space.prompt([{"role": "user", "content": example[0]}]),
        completion=lambda example: example[1],
        optimizer=stage.optimizer,
        config=stage.run,
        seed=seed,
        workdir=space.arm_dir(arm.name, seed),
        identity=_identity(space, arm, seed),
        title=f"{arm.title}, seed {seed}",
    )
    return state.params


def _optimize(space: Workspace, arm: Arm, seed: int, model: Model) -> Any:
    preset, records = space.preset, space.corpus.records["policy"]
    if arm.all_groundtruth:
        records = [with_all_groundtruth(record) for record in records]
    config = dataclasses.replace(preset.rl, seed=seed)
    workdir = space.arm_dir(arm.name, seed)
    state = optimize(
        model,
        records,
        prompt=lambda record: space.prompt(record["prompt"]),
        rewards=reward_functions(arm, preset, space.corpus.oracle),
        estimator=advantage_transform(arm, preset),
        objective=preset.objective,
        optimizer=preset.rl_optimizer,
        config=config,
        sampler=sampler_config(
            model, max_new_tokens=preset.max_new_tokens, temperature=config.temperature
        ),
        workdir=workdir,
        segment=token_ranks(preset),
        num_ranks=preset.num_ranks if preset.level == "rank" else None,
        shaping=token_shaping(preset),
        identity=_identity(space, arm, seed),
        on_step=keep_samples(workdir / "samples.jsonl", every=preset.samples_every),
        title=f"{arm.title}, seed {seed}",
    )
    return state.params


def generate(
    space: Workspace,
    model: Model,
    records: Sequence[Mapping],
    *,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """One completion for each record, in order; greedy unless a temperature is given."""
    preset = space.preset
    prompts = [space.encode(record["prompt"]) for record in records]
    buckets, longest = preset.rl.prompt_buckets, max(map(len, prompts), default=0)
    return answer(
        model,
        prompts,
        sampler=sampler_config(
            model, max_new_tokens=preset.max_new_tokens, temperature=temperature
        ),
        # Unlike in training, every conversation has to be answered.
        prompt_buckets=buckets if longest <= max(buckets) else (*buckets, -(-longest // 64) * 64),
        batch_size=preset.evaluation_batch,
        key=jax.random.key(seed),
    )


def score_arm(space: Workspace, texts: list[str], records: Sequence, folder: Path) -> Table:
    """Writes outputs.jsonl and scores.json into `folder`; returns the values of every answer."""
    if jax.process_index() == 0:
        write_outputs(folder / "outputs.jsonl", records, texts)
    table = score_texts(
        texts,
        records,
        oracle=space.corpus.oracle,
        catalogue=space.corpus.catalogue,
        convention=space.preset.convention,
    )
    settings = scoring_settings(
        space.corpus.oracle,
        source="the data set's own",
        options=space.preset.oracle,
        convention=space.preset.convention,
    )
    if jax.process_index() == 0:
        summary = {**settings, "k": list(DEFAULT_KS), **summarize(table, METRICS)}
        write_json(folder / "scores.json", summary)
    return table


def evaluate_arm(
    space: Workspace, arm: Arm, seed: int, *, mesh: jax.sharding.Mesh | None = None
) -> Table:
    """Trains the arm if need be, answers the test conversations greedily, and scores them."""
    trained = train_arm(space, arm, seed, mesh=mesh)
    records = space.corpus.records["test"]
    texts = generate(space, trained, records)
    return score_arm(space, texts, records, space.arm_dir(arm.name, seed))
