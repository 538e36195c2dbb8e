"""Policy optimization: a straight line from records to a trained state.

One step:
1. records of this process become prompts;
2. the engine samples G completions of each; meanwhile the metrics of the step before arrive;
3. reward functions score the decoded text on the host;
4. rewards become advantages on the mesh, and advantages become token advantages;
5. the policy is updated `num_iterations * mini_batches` times.
The randomness of step `n` is `fold_in(key, n)`, so that a resumed run repeats it bit for bit.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from gdpo_jax.advantages import AdvantageTransform
from gdpo_jax.data import RecordIterator
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy
from gdpo_jax.rollouts import Engine
from gdpo_jax.rollouts.engine import JaxEngine
from gdpo_jax.rollouts.rewards import RewardFunction
from gdpo_jax.training.advantage_step import make_advantage_step
from gdpo_jax.training.config import PolicyOptimizationConfig, json_tree
from gdpo_jax.training.feeding import next_encoded, pad_together
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    batch_sharding,
    check_batch,
    replicated,
    to_global,
    to_local,
)
from gdpo_jax.training.packing import pack_rollout
from gdpo_jax.training.policy_step import PolicyBatch, make_log_prob_step, make_policy_step
from gdpo_jax.training.processes import together
from gdpo_jax.training.run import Pending, Run
from gdpo_jax.training.scoring import (
    Segment,
    Shaping,
    StepSample,
    sample_reporter,
    score_rollout,
)
from gdpo_jax.training.state import TrainState
from gdpo_jax.training.update import split_rows


def run_policy_optimization(
    policy: Policy,
    engine: Engine,
    state: TrainState,
    *,
    optimizer: optax.GradientTransformation,
    objective: ObjectiveConfig,
    transform: AdvantageTransform,
    reward_functions: Sequence[RewardFunction],
    records: RecordIterator,
    encode: Callable[[Any], Sequence[int]],
    tokenizer: Any,
    config: PolicyOptimizationConfig,
    workdir: str | Path,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    ref_params: Any = None,
    segment: Segment | None = None,
    num_ranks: int | None = None,
    shaping: Shaping | None = None,
    identity: Mapping[str, Any] | None = None,
    on_step: Callable[[StepSample], None] | None = None,
    title: str = "policy optimization",
) -> TrainState:
    """Optimize the policy for several rewards.

    `records` yields this process's share of `config.prompts_per_step` records, and `encode(record)`
    the ids of its prompt. `tokenizer` decodes (`decode`, `token_spans`, `pad_id`). With
    `num_ranks`, rewards are per rank and `segment(completion, record)` gives the rank of every
    sampled token, -1 for none; None stands for a completion without ranks. `shaping(completion,
    record)` gives what is added to the advantage of every sampled token, after normalisation (None:
    nothing). `ref_params` are needed if the objective has a KL term, unless the policy keeps its
    reference (LoRA). Run again with the same `workdir`, it goes on after the last checkpoint.
    `identity` is what else a continuation must share (JSON-like: optimizer, data). `on_step` is
    called on every process with its own samples, one step late. `state` is donated; use the
    returned one.

    Raises:
        UserError: sizes that do not divide, a checkpoint of another configuration or a damaged one,
            a prompt that does not fit a bucket.
        RewardError: a reward function failed; the state before the step is stored first.
        NonFiniteLossError: a loss that is not finite; the state before it is stored first.
    """
    together(
        lambda: _check_options(
            policy, engine, objective, config, mesh, ref_params, segment, num_ranks
        )
    )
    parts = config.mini_batches * config.accumulation_steps
    options = {
        "mesh": mesh,
        "accumulation_steps": config.accumulation_steps,
        "temperature": config.temperature,
        "layout": "plain" if config.layout == "plain" else "shared",
        "chunk": config.chunk,
    }
    advantages_of = make_advantage_step(transform, mesh=mesh)
    log_probs_of = make_log_prob_step(policy, **options)
    step = make_policy_step(policy, optimizer, objective, rules=rules, **options)
    mini_batches = _make_mini_batches(config.mini_batches, mesh)
    keep_if = jax.jit(_keep_if, out_shardings=replicated(mesh))

    names = tuple(function.name for function in reward_functions)
    fresh = transform.init(names)
    if not jax.tree.leaves(state.advantage_state):
        state = state.replace(advantage_state=jax.device_put(fresh, replicated(mesh)))
    described = {
        "objective": json_tree(objective),
        "rewards": list(names),
        "advantages": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(fresh)],
        **(identity or {}),
    }
    about = {"identity": described, "columns": _columns(names)}
    with Run(title, workdir, config, policy, state, records, **about) as run:
        state = run.state
        root = jax.random.fold_in(state.key, config.seed)
        for number in range(run.start_step, config.steps):
            position = records.get_state()
            with run.keeping(number, state, position):
                batch, prompts = next_encoded(
                    records, encode, batch_size=config.prompts_per_step, mesh=mesh
                )
                rows = pad_together(
                    prompts, config.prompt_buckets, pad_id=tokenizer.pad_id, what="prompt"
                )
                rollout = engine.generate(
                    state.params,
                    *to_global(rows, mesh),
                    jax.random.fold_in(root, number),
                    num_samples=config.num_samples,
                )
                rollout = jax.device_put(rollout, batch_sharding(mesh))
                run.settle(state)
                sampled = to_local(
                    {
                        "ids": rollout.completions,
                        "mask": rollout.mask,
                        "finished": rollout.finished,
                    }
                )
                seconds = {"sample": run.lap()}
                completions, rewards, segment_ids, added = together(
                    lambda sampled=sampled, batch=batch: score_rollout(
                        sampled, batch, tokenizer, reward_functions, segment, num_ranks, shaping
                    )
                )
                seconds["score"] = run.lap()

            packed = None
            if config.layout == "packed":
                packed = pack_rollout(rollout, parts=parts, mesh=mesh, pad_id=tokenizer.pad_id)
            rewards_on_mesh, segment_ids = to_global((rewards, segment_ids), mesh)
            token_advantages, advantages, advantage_state, metrics = advantages_of(
                state.advantage_state,
                rewards_on_mesh,
                rollout.mask,
                rollout.finished,
                segment_ids,
            )
            if added is not None:
                token_advantages = token_advantages + to_global(added, mesh)
            sequences = {
                "prompts": rollout.prompts,
                "prompt_lengths": rollout.prompt_lengths,
                "completions": rollout.completions,
                "mask": rollout.mask,
                "packed": packed,
            }
            if config.old_log_probs == "sampler":
                old = rollout.log_probs
            elif config.num_iterations * config.mini_batches > 1:
                old = log_probs_of(state.params, **sequences)
            else:
                old = None
            reference = None
            if objective.needs_reference:
                kept = policy.reference(state.params) if ref_params is None else ref_params
                reference = log_probs_of(kept, **sequences)
            update_batch = PolicyBatch(
                **sequences,
                advantages=token_advantages,
                old_log_probs=old,
                ref_log_probs=reference,
                sampled_log_probs=rollout.log_probs,
                segment_ids=segment_ids,
            )
            updates = []
            for _ in range(config.num_iterations):
                for part in mini_batches(update_batch):
                    state, update_metrics = step(state, part)
                    updates.append(update_metrics)
            # It moves on with the parameters, and stays with them after a bad update.
            kept = keep_if(state.healthy, advantage_state, state.advantage_state)
            state = state.replace(advantage_state=kept)

            then = None
            if on_step is not None:
                then = sample_reporter(on_step, number, batch, completions, rewards, advantages)
            run.dispatched(Pending(number, position, updates, metrics, seconds, then))
            run.save_if_due(number + 1, state)
    return state


@functools.lru_cache(maxsize=64)
def _make_mini_batches(count: int, mesh: Mesh) -> Callable[[PolicyBatch], Sequence[PolicyBatch]]:
    if count == 1:
        return lambda batch: [batch]

    def cut(batch: PolicyBatch) -> list[PolicyBatch]:
        parts = split_rows(batch, count, mesh)
        return [jax.tree.map(lambda rows, i=i: rows[i], parts) for i in range(count)]

    return jax.jit(cut, out_shardings=batch_sharding(mesh))


def _keep_if(healthy: Any, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new, old)


def _columns(names: Sequence[str]) -> list[tuple[str, str]]:
    return [
        *((name, f"reward/{name}/mean") for name in names),
        ("kl", "kl/k3"),
        ("entropy", "entropy"),
        ("clipped", "clip_ratio/region_mean"),
        ("zero-variance", "zero_variance_fraction"),
        ("tokens/s", "tokens_per_second"),
    ]


def _check_options(
    policy: Policy,
    engine: Engine,
    objective: ObjectiveConfig,
    config: PolicyOptimizationConfig,
    mesh: Mesh,
    ref_params: Any,
    segment: Segment | None,
    num_ranks: int | None,
) -> None:
    parts = config.mini_batches * config.accumulation_steps
    check_batch(config.prompts_per_step, mesh, parts=parts, what="prompts_per_step")
    if isinstance(engine, JaxEngine) and engine.config.temperature != config.temperature:
        raise UserError(
            f"the engine samples at temperature {engine.config.temperature}, but the run computes "
            f"log-probs at {config.temperature}; make them equal"
        )
    if objective.needs_reference and ref_params is None and policy.reference is None:
        raise UserError(
            f"kl={objective.kl!r} with kl_coef={objective.kl_coef} needs ref_params; give them, or "
            "set kl_coef to 0"
        )
    if objective.correction is not None and config.old_log_probs == "sampler":
        raise UserError(
            'objective.correction and old_log_probs="sampler" correct for the same difference; use '
            'old_log_probs="trainer", or no correction'
        )
    if (segment is None) != (num_ranks is None):
        raise UserError("segment and num_ranks belong together: give both, or neither")
