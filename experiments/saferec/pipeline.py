"""From a workspace to a trained and scored arm. Running a finished arm again only loads it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from experiments.saferec.answering import complete, sampler_config
from experiments.saferec.arms import (
    Arm,
    advantage_transform,
    arm_named,
    reward_functions,
    token_ranks,
    token_shaping,
)
from experiments.saferec.corpora.corpus import with_all_groundtruth
from experiments.saferec.evaluation.metrics import DEFAULT_KS
from experiments.saferec.evaluation.outputs import write_outputs
from experiments.saferec.evaluation.scoring import score_texts, summarize, write_json
from experiments.saferec.samples import SampleWriter
from experiments.saferec.workspace import Workspace
from gdpo_jax.data import record_batches
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, lora_init, lora_merge
from gdpo_jax.rollouts import jax_engine
from gdpo_jax.training import (
    batch_sharding,
    create_state,
    fingerprint,
    make_optimizer,
    process_share,
    run_policy_optimization,
    run_sft,
)

__all__ = ["Trained", "evaluate_arm", "generate", "score_arm", "train_arm"]


class Trained(NamedTuple):
    """A policy and its parameters."""

    policy: Policy
    params: Any


class _Beginning(NamedTuple):
    """What a run starts with; `reference` are whole parameters where the state holds none."""

    policy: Policy
    optimizer: Any
    state: Any
    reference: Any
    identity: Mapping


def train_arm(
    space: Workspace, arm: Arm, seed: int, *, mesh: jax.sharding.Mesh | None = None
) -> Trained:
    """Trains the arm, and first the arm it starts from."""
    mesh = mesh or space.make_mesh()
    begin = _begin(space, arm, seed, mesh)
    train = _train_supervised if arm.supervised else _train_policy
    return Trained(begin.policy, train(space, arm, seed, mesh, begin))


def _begin(space: Workspace, arm: Arm, seed: int, mesh: jax.sharding.Mesh) -> _Beginning:
    preset, policy, key = space.preset, space.policy_of(arm), jax.random.key(seed)
    options = preset.stage(arm.name).optimizer if arm.supervised else preset.rl_optimizer
    start, origin = _start_of(space, arm, seed, mesh)
    records = space.corpus.records
    prompts = None if records["policy"] is records["train"] else len(records["policy"])
    identity = {
        "arm": dataclasses.asdict(arm),
        "seed": seed,
        "optimizer": dataclasses.asdict(options),
        "data": {
            "train": len(records["train"]),
            "policy": prompts,
            "vocab": space.tokenizer.vocab_size,
        },
        "level": preset.level,
        "start": origin,
    }
    # Adapters leave the policy they start from as it is, which serves as the reference.
    needs_reference = not arm.supervised and preset.objective.needs_reference
    reference = start if needs_reference and policy.reference is None else None
    if policy.trained_config is not None:
        adapters = lora_init(jax.random.fold_in(key, 1), start, policy.trained_config)
        start = {"base": start, "adapters": adapters}
    optimizer = make_optimizer(options)
    state = create_state(policy, optimizer, key=key, mesh=mesh, params=start)
    return _Beginning(policy, optimizer, state, reference, identity)


def _start_of(space: Workspace, arm: Arm, seed: int, mesh: jax.sharding.Mesh) -> tuple[Any, Any]:
    """Whole parameters to start from, and what tells them from others, if checkpoints need it."""
    if arm.start is None:
        return None, None
    before = arm_named(arm.start)
    if before.start is None and space.load_base is not None:
        params = space.load_base(mesh)
        return params, fingerprint(params)
    trained = train_arm(space, before, seed, mesh=mesh)
    lora = trained.policy.trained_config
    # Of the parts and not of their sum, whose last bits may depend on the devices.
    origin = None if space.load_base is None else fingerprint(trained.params)
    if lora is None:
        return trained.params, origin
    merge = jax.jit(functools.partial(lora_merge, config=lora))
    return merge(trained.params["base"], trained.params["adapters"]), origin


def _train_supervised(
    space: Workspace, arm: Arm, seed: int, mesh: jax.sharding.Mesh, begin: _Beginning
) -> Any:
    preset, tokenizer = space.preset, space.tokenizer
    stage = preset.stage(arm.name)

    def encode(example: tuple[str, str]) -> tuple[list[int], list[int]]:
        prompt, target = example
        asked = space.encode([{"role": "user", "content": prompt}])
        return asked, [*tokenizer.encode(target), tokenizer.eos_id]

    index, count = process_share(mesh)
    options = {"list_length": preset.list_length, "shown": preset.risks_shown}
    examples = space.corpus.examples(arm.name, **options)
    buckets = (stage.run.prompt_buckets, stage.run.completion_buckets)
    state = run_sft(
        begin.policy,
        begin.state,
        optimizer=begin.optimizer,
        records=record_batches(
            _fitting(space, arm, examples, encode, buckets),
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
        identity=begin.identity,
        title=f"{arm.title}, seed {seed}",
    )
    return state.params


def _train_policy(
    space: Workspace, arm: Arm, seed: int, mesh: jax.sharding.Mesh, begin: _Beginning
) -> Any:
    preset, tokenizer = space.preset, space.tokenizer
    records = space.corpus.records["policy"]
    if arm.all_groundtruth:
        records = [with_all_groundtruth(record) for record in records]

    def encode(record: Mapping) -> list[int]:
        return space.encode(record["prompt"])

    config = dataclasses.replace(preset.rl, seed=seed)
    index, count = process_share(mesh)
    workdir = space.arm_dir(arm.name, seed)
    sampler = sampler_config(
        tokenizer, max_new_tokens=preset.max_new_tokens, temperature=config.temperature
    )
    with SampleWriter(workdir / "samples.jsonl", every=preset.samples_every) as samples:
        state = run_policy_optimization(
            begin.policy,
            jax_engine(
                begin.policy,
                sampler,
                batch_sharding=batch_sharding(mesh),
                bucket=preset.rl.prompt_buckets[0],
            ),
            begin.state,
            optimizer=begin.optimizer,
            objective=preset.objective,
            estimator=advantage_transform(arm, preset),
            reward_functions=reward_functions(arm, preset, space.corpus.oracle),
            records=record_batches(
                _fitting(space, arm, records, lambda r: (encode(r),), (config.prompt_buckets,)),
                batch_size=config.prompts_per_step,
                seed=seed + 1,
                process_index=index,
                process_count=count,
            ),
            encode=encode,
            tokenizer=tokenizer,
            config=config,
            workdir=workdir,
            mesh=mesh,
            ref_params=begin.reference,
            segment=token_ranks(preset),
            num_ranks=preset.num_ranks if preset.level == "rank" else None,
            shaping=token_shaping(preset),
            identity=begin.identity,
            on_step=samples.write,
            title=f"{arm.title}, seed {seed}",
        )
    return state.params


def _fitting(
    space: Workspace,
    arm: Arm,
    items: Sequence[Any],
    encode: Callable[[Any], Sequence[Sequence[int]]],
    buckets: Sequence[Sequence[int]],
) -> Sequence[Any]:
    """The items whose parts the buckets hold; real conversations have no bound of their own."""
    if space.load_base is None:
        return items
    kept = [
        item
        for item in items
        if all(len(ids) <= max(legal) for ids, legal in zip(encode(item), buckets, strict=True))
    ]
    if not kept:
        raise UserError(f"{arm.title}: all {len(items)} conversations exceed the buckets {buckets}")
    if len(kept) < len(items) and jax.process_index() == 0:
        left_out = len(items) - len(kept)
        Console().print(
            f"{arm.title}: {left_out} of {len(items)} training conversations exceed the buckets "
            "and are left out",
            highlight=False,
        )
    return kept


def generate(
    space: Workspace,
    trained: Trained,
    records: Sequence[Mapping],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    mesh: jax.sharding.Mesh | None = None,
) -> list[str]:
    """One completion for each record, in order; greedy unless a temperature is given."""
    preset, tokenizer = space.preset, space.tokenizer
    prompts = [space.encode(record["prompt"]) for record in records]
    buckets, longest = preset.rl.prompt_buckets, max(map(len, prompts), default=0)
    return complete(
        trained.policy,
        trained.params,
        tokenizer,
        prompts,
        sampler=sampler_config(
            tokenizer, max_new_tokens=preset.max_new_tokens, temperature=temperature
        ),
        # Unlike in training, every conversation has to be answered.
        buckets=buckets if longest <= max(buckets) else (*buckets, -(-longest // 64) * 64),
        batch_size=preset.evaluation_batch,
        mesh=mesh or space.make_mesh(),
        seed=seed,
    )


def score_arm(space: Workspace, texts: list[str], records: Sequence, folder: Path) -> dict:
    """Writes outputs.jsonl and scores.json into `folder`; returns the summary."""
    if jax.process_index() == 0:
        write_outputs(folder / "outputs.jsonl", records, texts)
    table = score_texts(
        texts,
        records,
        oracle=space.corpus.oracle,
        catalogue=space.corpus.catalogue,
        convention=space.preset.convention,
    )
    summary = {
        "convention": space.preset.convention,
        "oracle": "the data set's own",
        "unknown": "safe",
        "k": list(DEFAULT_KS),
        **summarize(table),
    }
    if jax.process_index() == 0:
        write_json(folder / "scores.json", summary)
    return summary


def evaluate_arm(
    space: Workspace, arm: Arm, seed: int, *, mesh: jax.sharding.Mesh | None = None
) -> dict:
    """Trains the arm if need be, answers the test conversations greedily, and scores them."""
    trained = train_arm(space, arm, seed, mesh=mesh)
    records = space.corpus.records["test"]
    texts = generate(space, trained, records, mesh=mesh)
    return score_arm(space, texts, records, space.arm_dir(arm.name, seed))
