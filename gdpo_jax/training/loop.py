"""Policy optimization: a straight line from records to a trained state.

One step:
1. records of this process become prompts;
2. the engine samples G completions of each; meanwhile the metrics of the step before arrive;
3. reward functions score the decoded text on the host;
4. rewards become advantages on the mesh, and advantages become token advantages;
5. the policy is updated `num_iterations * mini_batches` times;
6. held-out records are answered, where an evaluation is due.
The randomness of step `n` is `fold_in(root, n)`, where the root is the state's key with the seed
and the updates done before the run folded in, so that a resumed run repeats it bit for bit and a
second run on the state of a first one does not.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gdpo_jax.advantages import AdvantageTransform
from gdpo_jax.data import RecordIterator
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.rollouts import Engine, RewardFunction, Rollout, named_reward
from gdpo_jax.training.advantage_step import Penalty, ReshapeRewards, make_advantage_step
from gdpo_jax.training.checks import (
    check_learning,
    check_options,
    check_reshaping,
    check_rollout,
    check_state,
    check_update,
)
from gdpo_jax.training.config import PolicyOptimizationConfig, json_tree, qualified_name
from gdpo_jax.training.evaluation import Evaluation, Evaluator, make_measure
from gdpo_jax.training.feeding import next_encoded, pad_together
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    batch_sharding,
    replicated,
    to_global,
    to_local,
)
from gdpo_jax.training.optimizers import OptimizerConfig, as_optimizer, describe_optimizer
from gdpo_jax.training.packing import pack_rollout
from gdpo_jax.training.policy_step import (
    Objective,
    PolicyBatch,
    make_log_prob_step,
    make_policy_step,
)
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
from gdpo_jax.training.user_functions import (
    expected_batch,
    expected_rewards,
    expected_rollout,
    try_objective,
    try_penalty,
    try_reshape_rewards,
    try_reshape_update,
)

ReshapeUpdate = Callable[[PolicyBatch], PolicyBatch]


def run_policy_optimization(
    policy: Policy,
    engine: Engine,
    state: TrainState,
    *,
    optimizer: OptimizerConfig | optax.GradientTransformation,
    objective: ObjectiveConfig | Objective,
    estimator: AdvantageTransform,
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
    penalty: Penalty | None = None,
    reshape_rewards: ReshapeRewards | None = None,
    reshape_update: ReshapeUpdate | None = None,
    evaluation: Evaluation | None = None,
    identity: Mapping[str, Any] | None = None,
    on_step: Callable[[StepSample], None] | None = None,
    on_state: Callable[[int, TrainState], None] | None = None,
    title: str = "policy optimization",
) -> TrainState:
    """Optimize the policy for several rewards. Run again with the same `workdir`, it goes on after
    the last checkpoint. What is trained of `state` is donated; use the returned one.

    optimizer: a configuration, or an optax transformation, with which `state` was created.
    objective: a configuration, or a function with the keywords of `policy_objective`.
    records: yields this process's share of `config.prompts_per_step` records.
    encode(record): the token ids of its prompt. tokenizer: decodes (`decode`, `token_spans`,
      `pad_id`).
    ref_params: parameters of the reference policy, for a KL term, `config.reference_log_probs` and
      so on, unless the policy keeps its reference (LoRA).
    segment(completion, record): with `num_ranks`, rewards are per rank and this is the rank of
      every sampled token, -1 for none; None stands for a completion without ranks.
    shaping(completion, record): what is added to the advantage of every sampled token, after
      normalisation (None: nothing).
    penalty(rollout): `[B, G]` or `[B, G, R]` for an estimator with `subtract_penalty`.
    reshape_rewards(rewards, rollout): the rewards that the estimator sees (`mask_samples`,
      `append_reward`). reshape_update(batch): the batch of updates (`mask`, `policy_weights`,
      `old_kl_tokens`); its mask can only lose tokens. These three are pure functions of the arrays
      of the whole batch and run inside of compiled steps.
    evaluation: held-out records; columns `eval/...`, the best parameters in `workdir/best`.
    identity: what else a continuation must share (JSON-like: data). Configuration, objective,
      rewards, estimator, optimizer and the names of the functions above belong to it anyway.
    on_step: is called on every process with its own samples, one step late. on_state(step, state):
      is called as soon as the updates of a step are dispatched; the next step donates the arrays,
      so copy what is to be kept.

    Raises:
        UserError: sizes that do not divide, options that contradict each other or would do nothing,
            functions that fail on the shapes of a step, a checkpoint of another configuration or a
            damaged one, a record that cannot be encoded, a prompt that does not fit a bucket.
        RewardError: a reward function failed; the state before the step is stored first.
        NonFiniteLossError: a loss that is not finite; the state before it is stored first.
    """
    optimizer = as_optimizer(optimizer)
    reward_functions = tuple(map(named_reward, reward_functions))
    has_reference = ref_params is not None or policy.reference is not None
    ranked = (segment is not None, num_ranks is not None)
    together(
        lambda: check_options(
            policy, engine, objective, config, mesh, has_reference=has_reference, ranked=ranked
        )
    )
    check_reshaping(config, reshape_update is not None)
    check_state(policy, state, optimizer)
    needs_reference = config.reference_log_probs or (
        isinstance(objective, ObjectiveConfig) and objective.needs_reference
    )
    rollout = expected_rollout(engine, config, with_reference=needs_reference)
    names = tuple(function.name for function in reward_functions)
    given = expected_rewards(names, rollout, num_ranks)
    rewards = try_reshape_rewards(reshape_rewards, given, rollout)
    try_penalty(penalty, rewards, rollout)
    update_batch = expected_batch(rollout, config, num_ranks)
    update_batch = try_reshape_update(reshape_update, update_batch)
    check_update(objective, config, update_batch)
    if not isinstance(objective, ObjectiveConfig):
        try_objective(objective, update_batch)
    fresh = estimator.init(rewards.names)
    if shaping is None:
        check_learning(estimator, fresh, rewards, with_penalty=penalty is not None)
    measure = None
    if evaluation is not None:
        measure = make_measure(
            evaluation,
            policy=policy,
            reward_functions=reward_functions,
            encode=encode,
            tokenizer=tokenizer,
            config=config,
            mesh=mesh,
            num_ranks=num_ranks,
        )
    programs = _compiled(
        policy,
        optimizer,
        objective,
        estimator,
        config,
        mesh,
        rules,
        functions=(reshape_rewards, penalty, reshape_update),
    )
    with_rollout = reshape_rewards is not None or penalty is not None
    # Traced only: a stage of the estimator that does not fit these rewards says so here.
    jax.eval_shape(
        programs.advantages,
        fresh,
        given,
        rollout.mask,
        rollout.finished,
        None if num_ranks is None else rollout.completions,
        rollout if with_rollout else None,
    )

    # Only a checkpoint of this run brings another advantage state.
    state = state.replace(advantage_state=jax.device_put(fresh, replicated(mesh)))
    functions = {
        "penalty": penalty,
        "reshape_rewards": reshape_rewards,
        "reshape_update": reshape_update,
    }
    described = {
        **(identity or {}),
        "objective": _described(objective),
        "optimizer": describe_optimizer(optimizer, trained_part(policy, state.params)),
        "rewards": list(names),
        "estimator": _described(estimator),
        "advantages": jax.tree.leaves(fresh),
        **{name: _described(function) for name, function in functions.items()},
    }
    about = {"identity": json_tree(described), "columns": _columns(names)}
    started = int(state.step)
    with Run(title, workdir, config, policy, state, records, **about) as run:
        state = run.state
        root = _root(state.key, config.seed, run.notes.setdefault("first_update", started))
        if ref_params is not None:
            ref_params = _apart(ref_params, trained_part(policy, state.params))
        with Evaluator(evaluation, measure, run, policy, root, workdir) as evaluator:
            evaluator.catch_up(state)
            for number in range(run.start_step, config.steps):
                if evaluator.stopped:
                    break
                position = records.get_state()
                with run.keeping(number, state, position):
                    batch, prompts = next_encoded(
                        records, encode, batch_size=config.prompts_per_step, mesh=mesh
                    )
                    rows = pad_together(
                        prompts,
                        config.prompt_buckets,
                        pad_id=tokenizer.pad_id,
                        what="prompt",
                        vocab_size=policy.config.vocab_size,
                    )
                    rollout = engine.generate(
                        state.params,
                        *to_global(rows, mesh),
                        jax.random.fold_in(root, number),
                        num_samples=config.num_samples,
                    )
                    check_rollout(rollout, objective, config, policy.config.max_positions)
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

                sequences = _sequences(rollout, config, mesh, pad_id=tokenizer.pad_id)
                if needs_reference:
                    kept = policy.reference(state.params) if ref_params is None else ref_params
                    rollout = rollout.replace(ref_log_probs=programs.log_probs(kept, **sequences))
                rewards_on_mesh, segment_ids = to_global((rewards, segment_ids), mesh)
                token_advantages, learning, advantages, advantage_state, metrics = (
                    programs.advantages(
                        state.advantage_state,
                        rewards_on_mesh,
                        rollout.mask,
                        rollout.finished,
                        segment_ids,
                        rollout if with_rollout else None,
                    )
                )
                if added is not None:
                    token_advantages = token_advantages + to_global(added, mesh)
                sampled_log_probs = _drawn_from(rollout)
                old, entropy = _old_log_probs(
                    programs, config, state.params, sequences, sampled_log_probs
                )
                update_batch = PolicyBatch(
                    **{**sequences, "mask": learning},
                    advantages=token_advantages,
                    old_log_probs=old,
                    ref_log_probs=rollout.ref_log_probs,
                    sampled_log_probs=sampled_log_probs,
                    segment_ids=segment_ids,
                    entropy=entropy,
                    finished=rollout.finished,
                )
                update_batch = programs.reshape(update_batch)
                updates = []
                for _ in range(config.num_iterations):
                    for part in programs.mini_batches(update_batch):
                        state, update_metrics = programs.update(state, part)
                        updates.append(update_metrics)
                # A bad update changes the advantage state as little as the parameters.
                kept = programs.keep_if(state.healthy, advantage_state, state.advantage_state)
                state = state.replace(advantage_state=kept)

                then = None
                if on_step is not None:
                    then = sample_reporter(on_step, number, batch, completions, rewards, advantages)
                run.dispatched(Pending(number, position, updates, metrics, seconds, then))
                with run.keeping(number + 1, state, records.get_state()):
                    if on_state is not None:
                        on_state(number, state)
                    if evaluator.due(number + 1):
                        run.settle(state, evaluator(state, number + 1))
                        run.lap()
                run.save_if_due(number + 1, state, last=evaluator.stopped)
    return state


class _Programs(NamedTuple):
    """The compiled functions of a step."""

    advantages: Callable
    log_probs: Callable
    log_probs_and_entropy: Callable
    reshape: Callable[[PolicyBatch], PolicyBatch]
    mini_batches: Callable[[PolicyBatch], Sequence[PolicyBatch]]
    update: Callable
    keep_if: Callable


def _compiled(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    objective: ObjectiveConfig | Objective,
    estimator: AdvantageTransform,
    config: PolicyOptimizationConfig,
    mesh: Mesh,
    rules: ShardingRules,
    *,
    functions: tuple[ReshapeRewards | None, Penalty | None, ReshapeUpdate | None],
) -> _Programs:
    reshape_rewards, penalty, reshape_update = functions
    options = {
        "mesh": mesh,
        "rules": rules,
        "accumulation_steps": config.accumulation_steps,
        "temperature": config.temperature,
        "layout": "plain" if config.layout == "plain" else "shared",
        "chunk": config.chunk,
    }
    return _Programs(
        advantages=make_advantage_step(
            estimator, mesh=mesh, reshape_rewards=reshape_rewards, penalty=penalty
        ),
        log_probs=make_log_prob_step(policy, **options),
        log_probs_and_entropy=make_log_prob_step(policy, with_entropy=True, **options),
        reshape=_make_reshape(reshape_update, mesh),
        mini_batches=_make_mini_batches(config.mini_batches, mesh),
        update=make_policy_step(policy, optimizer, objective, **options),
        keep_if=jax.jit(_keep_if, out_shardings=replicated(mesh)),
    )


def _sequences(
    rollout: Rollout, config: PolicyOptimizationConfig, mesh: Mesh, *, pad_id: int
) -> dict[str, Any]:
    """What log-probs are computed of."""
    packed = None
    if config.layout == "packed":
        parts = config.mini_batches * config.accumulation_steps
        packed = pack_rollout(rollout, parts=parts, mesh=mesh, pad_id=pad_id)
    return {
        "prompts": rollout.prompts,
        "prompt_lengths": rollout.prompt_lengths,
        "completions": rollout.completions,
        "mask": rollout.mask,
        "packed": packed,
    }


def _drawn_from(rollout: Rollout) -> Any:
    """Log-probs of the distribution that the engine drew from, or None if it reports none."""
    return rollout.log_probs if rollout.sampled_log_probs is None else rollout.sampled_log_probs


def _old_log_probs(
    programs: _Programs,
    config: PolicyOptimizationConfig,
    params: Any,
    sequences: Mapping[str, Any],
    sampled_log_probs: Any,
) -> tuple[Any, Any]:
    """Log-probs that ratios are taken to (None: those of the policy being updated), and entropies
    where they are asked for."""
    own = entropy = None
    if config.token_entropy:
        own, entropy = programs.log_probs_and_entropy(params, **sequences)
    if config.old_log_probs == "sampler":
        return sampled_log_probs, entropy
    if config.num_iterations * config.mini_batches == 1:
        return None, entropy
    return (programs.log_probs(params, **sequences) if own is None else own), entropy


@functools.lru_cache(maxsize=64)
def _make_reshape(
    reshape_update: ReshapeUpdate | None, mesh: Mesh
) -> Callable[[PolicyBatch], PolicyBatch]:
    if reshape_update is None:
        return lambda batch: batch

    def reshape(batch: PolicyBatch) -> PolicyBatch:
        reshaped = reshape_update(batch)
        return reshaped.replace(mask=reshaped.mask & batch.mask)

    return jax.jit(reshape, out_shardings=batch_sharding(mesh))


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


def _root(key: jax.Array, seed: int, first_update: int) -> jax.Array:
    """The key of a run that began at that update of the state."""
    root = jax.random.fold_in(key, seed)
    return root if first_update == 0 else jax.random.fold_in(root, first_update)


def _apart(ref_params: Any, trained: Any) -> Any:
    """The reference with copies of those arrays that the first update will donate."""
    donated = {pointer for leaf in jax.tree.leaves(trained) for pointer in _pointers(leaf)}

    def apart(leaf: Any) -> Any:
        shared = isinstance(leaf, jax.Array) and donated.intersection(_pointers(leaf))
        return jnp.copy(leaf) if shared else leaf

    return jax.tree.map(apart, ref_params)


def _pointers(leaf: jax.Array) -> list[int]:
    return [piece.data.unsafe_buffer_pointer() for piece in leaf.addressable_shards if leaf.size]


def _described(part: Any) -> Any:
    """An objective, an estimator or a function as what a continuation compares."""
    if isinstance(part, AdvantageTransform):
        return qualified_name(part.update) if part.description is None else part.description
    return qualified_name(part) if callable(part) else part


def _columns(names: Sequence[str]) -> list[tuple[str, str]]:
    return [
        *((name, f"reward/{name}/mean") for name in names),
        ("kl", "kl/k3"),
        ("entropy", "entropy"),
        ("clipped", "clip_ratio/region_mean"),
        ("zero-variance", "zero_variance_fraction"),
        ("tokens/s", "tokens_per_second"),
    ]
