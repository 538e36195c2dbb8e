"""Policy optimization: one loop from records to a trained state.

One step:
1. records of this process become prompts;
2. the engine samples G completions of each; meanwhile the metrics of the step before arrive (with
   `staleness` this is the rollout of the next step, and that of this one is there already);
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
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gdpo_jax.advantages import AdvantageTransform
from gdpo_jax.data import RecordIterator
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.rollouts import Engine, RewardFunction, named_reward
from gdpo_jax.training.advantage_step import Penalty, ReshapeRewards
from gdpo_jax.training.config import PolicyOptimizationConfig
from gdpo_jax.training.evaluation import Evaluation, Evaluator
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    batch_sharding,
    replicated,
    to_global,
    to_local,
)
from gdpo_jax.training.optimizers import OptimizerConfig, as_optimizer
from gdpo_jax.training.policy_step import Objective, PolicyBatch
from gdpo_jax.training.processes import together
from gdpo_jax.training.programs import (
    ReshapeUpdate,
    drawn_log_probs,
    old_log_probs,
    sequences_of,
)
from gdpo_jax.training.run import Pending, Run
from gdpo_jax.training.scoring import (
    Segment,
    Shaping,
    StepSample,
    sample_reporter,
    score_rollout,
)
from gdpo_jax.training.setup import prepare_run
from gdpo_jax.training.state import TrainState
from gdpo_jax.training.step_rollout import before_step, draw_rollout


def run_policy_optimization(
    policy: Policy,
    engine: Engine,
    state: TrainState,
    *,
    optimizer: OptimizerConfig | optax.GradientTransformation,
    objective: ObjectiveConfig | Objective,
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
        RewardError: a reward function failed, or had no answer within `config.score_timeout`; the
            state before the step is stored first.
        NonFiniteLossError: a loss that is not finite; the state before it is stored first.
    """
    optimizer = as_optimizer(optimizer)
    reward_functions = tuple(map(named_reward, reward_functions))
    setup = prepare_run(
        policy,
        engine,
        state,
        optimizer=optimizer,
        objective=objective,
        transform=transform,
        reward_functions=reward_functions,
        encode=encode,
        tokenizer=tokenizer,
        config=config,
        mesh=mesh,
        rules=rules,
        ref_params=ref_params,
        ranks=(segment is not None, num_ranks),
        has_shaping=shaping is not None,
        functions=(reshape_rewards, penalty, reshape_update),
        evaluation=evaluation,
        identity=identity,
    )
    programs = setup.programs
    # Only a checkpoint of this run brings another advantage state.
    fresh = jax.device_put(setup.advantage_state, replicated(mesh))
    state = state.replace(advantage_state=fresh)
    columns = _columns([function.name for function in reward_functions])
    about = {"identity": setup.identity, "columns": columns}
    started = int(state.step)
    with Run(title, workdir, config, policy, state, records, **about) as run:
        state = run.state
        root = _root(state.key, config.seed, run.notes.setdefault("first_update", started))
        if ref_params is not None:
            ref_params = _apart(ref_params, trained_part(policy, state.params))
        with Evaluator(evaluation, setup.measure, run, policy, root, workdir) as evaluator:
            evaluator.catch_up(state)
            draw = functools.partial(
                draw_rollout,
                policy=policy,
                engine=engine,
                objective=objective,
                records=records,
                encode=encode,
                pad_id=tokenizer.pad_id,
                config=config,
                mesh=mesh,
                widths=setup.widths,
                root=root,
                ready=run.ready,
            )
            # The rollout of the step to come, where it is drawn before that step begins.
            ahead, stored = None, run.stored_rollout(mesh)
            for number in range(run.start_step, config.steps):
                if evaluator.stopped:
                    break
                before = before_step(records, ahead)
                with run.keeping(number, state, *before):
                    drawn = ahead
                    if drawn is None:
                        age = 0 if stored is None else config.staleness
                        drawn = draw(number, state.params, age=age, stored=stored)
                    ahead = stored = None
                    if config.staleness and number + 1 < config.steps:
                        # Dispatched before the update of this step, which donates the parameters.
                        ahead = draw(number + 1, state.params, age=config.staleness)
                    batch, rollout = drawn.batch, drawn.rollout
                    rollout = jax.device_put(rollout, batch_sharding(mesh))
                    run.settle(state)
                    if ahead is not None:
                        ahead = ahead._replace(since=max(ahead.since, run.updated))
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
                            sampled,
                            batch,
                            tokenizer,
                            reward_functions,
                            segment,
                            num_ranks,
                            shaping,
                            timeout=config.score_timeout,
                        )
                    )
                    seconds["score"] = run.lap()

                sequences = sequences_of(rollout, config, mesh, pad_id=tokenizer.pad_id)
                if setup.needs_reference:
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
                        rollout if setup.with_rollout else None,
                    )
                )
                if added is not None:
                    token_advantages = token_advantages + to_global(added, mesh)
                sampled_log_probs = drawn_log_probs(rollout)
                old, entropy = old_log_probs(
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
                if config.staleness:
                    metrics = {**metrics, **drawn.metrics()}
                position, waiting = before
                run.dispatched(Pending(number, position, updates, metrics, seconds, then, waiting))
                before = before_step(records, ahead)
                with run.keeping(number + 1, state, *before):
                    if on_state is not None:
                        on_state(number, state)
                    if evaluator.due(number + 1):
                        run.settle(state, evaluator(state, number + 1))
                        run.lap()
                run.save_if_due(number + 1, state, *before, last=evaluator.stopped)
    return state


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


def _columns(names: Sequence[str]) -> list[tuple[str, str]]:
    return [
        *((name, f"reward/{name}/mean") for name in names),
        ("kl", "kl/k3"),
        ("entropy", "entropy"),
        ("clipped", "clip_ratio/region_mean"),
        ("zero-variance", "zero_variance_fraction"),
        ("tokens/s", "tokens_per_second"),
    ]
