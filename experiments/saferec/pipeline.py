"""From a workspace to a trained and scored arm. Running a finished arm again only loads it."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.saferec.arms import Arm, advantage_transform, arm_named, reward_functions
from experiments.saferec.parsing import parse_recommendations, rank_segments
from experiments.saferec.samples import SampleWriter
from experiments.saferec.scoring import score_texts, summarize, write_json
from experiments.saferec.targets import base_examples, plain_target, safe_target
from experiments.saferec.workspace import Workspace, prompt_of
from gdpo_jax.data import pad_right, record_batches
from gdpo_jax.rollouts import SamplerConfig, jax_engine
from gdpo_jax.rollouts.rewards import Completion, decode_completions
from gdpo_jax.training import (
    MeshConfig,
    batch_sharding,
    create_state,
    make_mesh,
    make_optimizer,
    process_share,
    run_policy_optimization,
    run_sft,
    to_global,
    to_local,
)

__all__ = ["evaluate_arm", "generate", "rank_of_tokens", "score_arm", "train_arm"]


def train_arm(space: Workspace, arm: Arm, seed: int, *, mesh: jax.sharding.Mesh | None = None):
    """Trains the arm, and first the arm it starts from; returns the parameters."""
    mesh = mesh or make_mesh(MeshConfig())
    start = None
    if arm.start is not None:
        start = train_arm(space, arm_named(arm.start), seed, mesh=mesh)
    train = _train_supervised if arm.supervised else _train_policy
    return train(space, arm, seed, mesh, start)


def _train_supervised(space: Workspace, arm: Arm, seed: int, mesh: jax.sharding.Mesh, start: Any):
    preset, tokenizer = space.preset, space.tokenizer
    stage = {"base": preset.base, "sft": preset.sft, "safe-sft": preset.safe_sft}[arm.name]
    examples = _examples(space, arm)

    def encode(example: tuple[str, str]) -> tuple[list[int], list[int]]:
        prompt, target = example
        return tokenizer.encode(prompt), [*tokenizer.encode(target), tokenizer.eos_id]

    optimizer = make_optimizer(stage.optimizer)
    state = create_state(space.policy, optimizer, key=jax.random.key(seed), mesh=mesh, params=start)
    index, count = process_share(mesh)
    state = run_sft(
        space.policy,
        state,
        optimizer=optimizer,
        records=record_batches(
            examples,
            batch_size=stage.run.batch_size,
            seed=seed,
            process_index=index,
            process_count=count,
        ),
        encode=encode,
        pad_id=tokenizer.pad_id,
        config=stage.run,
        workdir=space.arm_dir(arm.name, seed),
        mesh=mesh,
        identity=_identity(space, arm, seed, stage.optimizer),
        title=f"{arm.title}, seed {seed}",
    )
    return state.params


def _examples(space: Workspace, arm: Arm) -> list[tuple[str, str]]:
    """(prompt, completion) texts of a supervised arm."""
    preset, records = space.preset, space.records["train"]
    if arm.name == "base":
        return base_examples(records, space.films, space.oracle)
    length = preset.list_length
    if arm.name == "sft":
        targets = [plain_target(record, list_length=length) for record in records]
    else:
        targets = [
            safe_target(record, space.oracle, list_length=length, shown=preset.risks_shown)
            for record in records
        ]
    return [(prompt_of(record), target) for record, target in zip(records, targets, strict=True)]


def _train_policy(space: Workspace, arm: Arm, seed: int, mesh: jax.sharding.Mesh, start: Any):
    preset, tokenizer = space.preset, space.tokenizer
    records = space.records["train"]
    if arm.all_groundtruth:
        records = [_with_all_groundtruth(record) for record in records]

    per_rank = preset.level == "rank"
    optimizer = make_optimizer(preset.rl_optimizer)
    config = dataclasses.replace(preset.rl, seed=seed)
    state = create_state(space.policy, optimizer, key=jax.random.key(seed), mesh=mesh, params=start)
    index, count = process_share(mesh)
    workdir = space.arm_dir(arm.name, seed)
    with SampleWriter(workdir / "samples.jsonl", every=preset.samples_every) as samples:
        state = run_policy_optimization(
            space.policy,
            jax_engine(
                space.policy,
                _sampler(space, temperature=config.temperature),
                batch_sharding=batch_sharding(mesh),
                bucket=preset.rl.prompt_buckets[0],
            ),
            state,
            optimizer=optimizer,
            objective=preset.objective,
            transform=advantage_transform(arm, preset),
            reward_functions=reward_functions(arm, preset, space.oracle),
            records=record_batches(
                records,
                batch_size=config.prompts_per_step,
                seed=seed + 1,
                process_index=index,
                process_count=count,
            ),
            encode=lambda record: tokenizer.encode(prompt_of(record)),
            tokenizer=tokenizer,
            config=config,
            workdir=workdir,
            mesh=mesh,
            ref_params=start if preset.objective.needs_reference else None,
            segment=rank_of_tokens(preset.num_ranks) if per_rank else None,
            num_ranks=preset.num_ranks if per_rank else None,
            identity=_identity(space, arm, seed, preset.rl_optimizer),
            on_step=samples.write,
            title=f"{arm.title}, seed {seed}",
        )
    return state.params


def rank_of_tokens(num_ranks: int) -> Callable[[Completion, Mapping], list[int] | None]:
    """The rank of every token of a list.

    What closes a list stands at the first rank it leaves empty, so that the choice between one more
    film and the end gets the credit of that rank.
    """

    def segment(completion: Completion, record: Mapping) -> list[int] | None:
        del record
        items = parse_recommendations(completion.text)
        if not items:
            return None
        ranks = rank_segments(items, completion.spans, num_ranks)
        closing = len(items) if len(items) < num_ranks else -1
        return [
            closing if start >= items[-1].end else rank
            for rank, (start, _) in zip(ranks, completion.spans, strict=True)
        ]

    return segment


def _sampler(space: Workspace, *, temperature: float) -> SamplerConfig:
    return SamplerConfig(
        max_new_tokens=space.preset.max_new_tokens,
        stop_ids=(space.tokenizer.eos_id,),
        pad_id=space.tokenizer.pad_id,
        temperature=temperature,
    )


def _identity(space: Workspace, arm: Arm, seed: int, optimizer: Any) -> dict:
    return {
        "arm": dataclasses.asdict(arm),
        "seed": seed,
        "optimizer": dataclasses.asdict(optimizer),
        "data": {"train": len(space.records["train"]), "vocab": space.tokenizer.vocab_size},
        "level": space.preset.level,
    }


def _with_all_groundtruth(record: Mapping) -> Mapping:
    field = "groundtruth_with_release_year"
    return {**record, field: [*record[field], *record["removed_groundtruth"]]}


def generate(
    space: Workspace,
    params: Any,
    records: list[Mapping],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    mesh: jax.sharding.Mesh | None = None,
) -> list[str]:
    """One completion for each record, in order; greedy unless a temperature is given."""
    mesh = mesh or make_mesh(MeshConfig())
    tokenizer, size = space.tokenizer, space.preset.evaluation_batch
    engine = jax_engine(
        space.policy,
        _sampler(space, temperature=temperature),
        batch_sharding=batch_sharding(mesh),
        bucket=space.preset.rl.prompt_buckets[0],
    )
    index, count = process_share(mesh)
    texts: list[str] = []
    for number, first in enumerate(range(0, len(records), size)):
        part = records[first : first + size]
        # The last batch is filled up with repeats, so that one program serves all.
        rows = [tokenizer.encode(prompt_of(record)) for record in part]
        rows += rows[:1] * (size - len(rows))
        prompts, lengths = pad_right(
            rows, space.preset.rl.prompt_buckets[-1], pad_id=tokenizer.pad_id, what="prompt"
        )
        share = slice(index * size // count, (index + 1) * size // count)
        rollout = engine.generate(
            params,
            *to_global((prompts[share], lengths[share]), mesh),
            jax.random.fold_in(jax.random.key(seed), number),
            num_samples=1,
        )
        ids, mask, finished = _everywhere((rollout.completions, rollout.mask, rollout.finished))
        completions = decode_completions(
            tokenizer, ids[: len(part), 0], mask[: len(part), 0], finished[: len(part), 0]
        )
        texts += [completion.text for completion in completions]
    return texts


def _everywhere(tree: Any) -> Any:
    """Every process's rows on every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(to_local(tree), tiled=True)


def score_arm(space: Workspace, texts: list[str], records: list[Mapping], folder: Path) -> dict:
    """Writes outputs.jsonl and scores.json into `folder`; returns the summary."""
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            json.dumps({"sample_id": record["sample_id"], "text": text}) + "\n"
            for record, text in zip(records, texts, strict=True)
        ]
        (folder / "outputs.jsonl").write_text("".join(rows))
    table = score_texts(texts, records, oracle=space.oracle, catalogue=space.catalogue)
    summary = summarize(table)
    if jax.process_index() == 0:
        write_json(folder / "scores.json", summary)
    return summary


def evaluate_arm(
    space: Workspace, arm: Arm, seed: int, *, mesh: jax.sharding.Mesh | None = None
) -> dict:
    """Trains the arm if need be, answers the test conversations greedily, and scores them."""
    params = train_arm(space, arm, seed, mesh=mesh)
    records = space.records["test"]
    texts = generate(space, params, records, mesh=mesh)
    return score_arm(space, texts, records, space.arm_dir(arm.name, seed))
