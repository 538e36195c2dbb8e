"""The steps of a run compiled on shapes alone at their widest, and what each device holds and does.

Nothing of the model is allocated, and nothing is read or written.
"""

import dataclasses
from typing import Any

import jax
import optax

from gdpo_jax.data import user_slots
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.planning.abstract import (
    abstract_batch,
    abstract_prompts,
    abstract_sft_batch,
)
from gdpo_jax.planning.compiled import Compiled, StepMemory, compile_step_figures
from gdpo_jax.planning.work import Work
from gdpo_jax.policies import Policy
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.rollouts.engine import sampler_program
from gdpo_jax.rollouts.sampler import prefill
from gdpo_jax.training.config import PolicyOptimizationConfig, SFTConfig
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    batch_sharding,
    batch_shards,
    check_batch,
)
from gdpo_jax.training.optimizers import OptimizerConfig, make_optimizer
from gdpo_jax.training.policy_step import PolicyBatch, make_log_prob_step, make_policy_step
from gdpo_jax.training.sft_step import Loss, SFTBatch, make_sft_step
from gdpo_jax.training.state import abstract_state
from gdpo_jax.training.user_clipping import UserClipping

__all__ = [
    "PlannedStep",
    "log_prob_figures",
    "plan_answers",
    "plan_log_probs",
    "plan_optimization",
    "plan_policy_step",
    "plan_sampler",
    "plan_sft",
    "policy_step_figures",
    "sampler_figures",
    "sft_step_figures",
]


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """One compiled program. reference: bytes a device holds besides, of a reference policy's copy.
    runs: how often it runs in a step of training."""

    name: str
    shapes: str
    memory: StepMemory
    reference: int = 0
    work: Work | None = None  # None: the compiler refused the program
    refused: str = ""  # why, in the compiler's words
    runs: int = 1

    @classmethod
    def of(
        cls, name: str, shapes: str, compiled: Compiled, reference: int = 0, runs: int = 1
    ) -> "PlannedStep":
        """The step with what its compiled program says."""
        memory, work, refused = compiled
        return cls(name, shapes, memory, reference, work, refused, runs)

    @property
    def total(self) -> int:
        """Bytes that a device must hold at the worst moment."""
        return self.memory.total + self.reference


def sft_step_figures(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    batch: SFTBatch,
    *,
    mesh: jax.sharding.Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    **options: Any,
) -> Compiled:
    """The supervised step of this batch; `options` and errors as for `make_sft_step`."""
    state = abstract_state(policy, optimizer, mesh=mesh, rules=rules)
    step = make_sft_step(policy, optimizer, mesh=mesh, rules=rules, **options)
    return compile_step_figures(step.lower(state, batch), state, batch, chips=mesh.size)


def policy_step_figures(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    objective: ObjectiveConfig,
    batch: PolicyBatch,
    *,
    mesh: jax.sharding.Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    **options: Any,
) -> Compiled:
    """The policy step of this batch; `options` as for `make_policy_step`.

    Raises:
        UserError: a parameter does not divide over the mesh, or this backend reports no memory.
    """
    state = abstract_state(policy, optimizer, mesh=mesh, rules=rules)
    step = make_policy_step(policy, optimizer, objective, mesh=mesh, rules=rules, **options)
    return compile_step_figures(step.lower(state, batch), state, batch, chips=mesh.size)


def log_prob_figures(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    batch: PolicyBatch,
    *,
    mesh: jax.sharding.Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    **options: Any,
) -> Compiled:
    """Log-probs of this batch without gradient, beside the state that is being trained; `options`
    as for `make_log_prob_step`, errors as for `policy_step_figures`."""
    state = abstract_state(policy, optimizer, mesh=mesh, rules=rules)
    program = make_log_prob_step(policy, mesh=mesh, rules=rules, **options)
    rows = (batch.prompts, batch.prompt_lengths, batch.completions, batch.mask)
    lowered = program.lower(state.params, *rows)
    return compile_step_figures(lowered, state, rows, chips=mesh.size, whole_state=False)


def sampler_figures(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    config: SamplerConfig,
    *,
    prompts: int,
    num_samples: int,
    prompt_length: int,
    mesh: jax.sharding.Mesh,
    rules: ShardingRules = DEFAULT_RULES,
) -> Compiled:
    """The sampler beside the state that is being trained, all completions as long as may be.

    Raises UserError as `policy_step_figures`, and for rows longer than the policy's positions.
    """
    state = abstract_state(policy, optimizer, mesh=mesh, rules=rules)
    rows = abstract_prompts(prompts=prompts, prompt_length=prompt_length, mesh=mesh)
    program = sampler_program(policy, config, num_samples, batch_sharding(mesh), rules)
    key = jax.eval_shape(jax.random.key, 0)
    return compile_step_figures(
        program.lower(state.params, *rows, key),
        state,
        rows,
        chips=mesh.size,
        whole_state=False,
        caches=_cache_bytes(policy, state.params, config, rows, num_samples, mesh, rules),
        # The first token comes from the prompt.
        open_steps=config.max_new_tokens - 1,
    )


def _cache_bytes(
    policy: Policy,
    params: Any,
    config: SamplerConfig,
    rows: tuple[Any, Any],
    num_samples: int,
    mesh: jax.sharding.Mesh,
    rules: ShardingRules,
) -> int:
    """Keys and values that one device keeps: of each prompt once, and of each completion, cut over
    rows, and over the heads where their axis cuts no rows."""
    _, cache = jax.eval_shape(lambda *given: prefill(policy, *given), params, *rows)
    heads, size = cache.values.shape[2:4]
    prompts = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))
    total = prompts + prompts * num_samples * config.max_new_tokens // size
    pieces = batch_shards(mesh)
    of_heads = mesh.shape.get(rules.kv_heads, 1)
    if rules.kv_heads not in ("data", "fsdp") and heads % of_heads == 0:
        pieces *= of_heads
    return total // pieces


def plan_sft(
    policy: Policy,
    optimizer: OptimizerConfig,
    config: SFTConfig,
    *,
    mesh: jax.sharding.Mesh,
    loss: Loss | None = None,
    with_labels: bool = False,
    users: UserClipping | None = None,
) -> PlannedStep:
    """The supervised step. loss: of one's own (`make_sft_step`), with_labels: that it reads labels.
    users: clip their gradients, at the places that nearly every batch fits in.

    Raises UserError where sizes do not divide over the mesh or exceed the decoder's positions.
    """
    if users is None:
        rows = config.batch_size
        check_batch(rows, mesh, parts=config.accumulation_steps, what="batch_size")
        parts = f"{config.accumulation_steps} micro-batches"
    else:
        at_once = batch_shards(mesh) * users.users_at_once
        rows = user_slots(config.batch_size, unit=at_once) * users.rows_per_user
        parts = f"{at_once} users at a time"
    prompt, completion = max(config.prompt_buckets), max(config.completion_buckets, default=0)
    compiled = sft_step_figures(
        policy,
        make_optimizer(optimizer),
        abstract_sft_batch(
            batch_size=rows,
            prompt_length=prompt,
            completion_length=completion,
            mesh=mesh,
            with_labels=with_labels,
        ),
        mesh=mesh,
        accumulation_steps=config.accumulation_steps,
        layout=config.layout,
        chunk=config.chunk,
        loss=loss,
        users=users,
        expected_users=1 if users is None else config.batch_size,
    )
    shapes = f"{rows} rows, prompt {prompt}, completion {completion}, {parts}"
    return PlannedStep.of("supervised step", shapes, compiled)


def plan_optimization(
    policy: Policy,
    optimizer: OptimizerConfig,
    objective: ObjectiveConfig,
    config: PolicyOptimizationConfig,
    sampler: SamplerConfig,
    *,
    mesh: jax.sharding.Mesh,
    with_segments: bool = False,
) -> list[PlannedStep]:
    """The policy step and the sampler; errors as in `plan_sft`.

    with_segments: tokens carry the rank of a list that they belong to.
    """
    return [
        plan_policy_step(
            policy, optimizer, objective, config, sampler, mesh=mesh, with_segments=with_segments
        ),
        plan_sampler(policy, optimizer, objective, config, sampler, mesh=mesh),
    ]


def plan_policy_step(
    policy: Policy,
    optimizer: OptimizerConfig,
    objective: ObjectiveConfig,
    config: PolicyOptimizationConfig,
    sampler: SamplerConfig,
    *,
    mesh: jax.sharding.Mesh,
    with_segments: bool = False,
) -> PlannedStep:
    """One update, of a mini-batch; arguments and errors as for `plan_optimization`."""
    parts = config.mini_batches * config.accumulation_steps
    check_batch(config.prompts_per_step, mesh, parts=parts, what="prompts_per_step")
    batch = abstract_batch(
        prompts=config.prompts_per_step // config.mini_batches,
        num_samples=config.num_samples,
        prompt_length=max(config.prompt_buckets),
        completion_length=sampler.max_new_tokens,
        mesh=mesh,
        with_reference=objective.needs_reference,
        with_old=config.num_iterations * config.mini_batches > 1,
        with_segments=with_segments,
    )
    compiled = policy_step_figures(
        policy, make_optimizer(optimizer), objective, batch, mesh=mesh, **_update_options(config)
    )
    shapes = f"{_rows(config, sampler)}, {config.accumulation_steps} micro-batches"
    reference = _reference(policy, objective, compiled.memory)
    runs = config.num_iterations * config.mini_batches
    return PlannedStep.of("policy step", shapes, compiled, reference, runs)


def plan_log_probs(
    policy: Policy,
    optimizer: OptimizerConfig,
    objective: ObjectiveConfig,
    config: PolicyOptimizationConfig,
    sampler: SamplerConfig,
    *,
    mesh: jax.sharding.Mesh,
) -> PlannedStep:
    """Log-probs of all completions, as of a reference policy; as for `plan_optimization`."""
    check_batch(config.prompts_per_step, mesh, parts=config.accumulation_steps)
    batch = abstract_batch(
        prompts=config.prompts_per_step,
        num_samples=config.num_samples,
        prompt_length=max(config.prompt_buckets),
        completion_length=sampler.max_new_tokens,
        mesh=mesh,
    )
    compiled = log_prob_figures(
        policy, make_optimizer(optimizer), batch, mesh=mesh, **_update_options(config)
    )
    shapes = f"{_rows(config, sampler)}, {config.accumulation_steps} micro-batches"
    reference = _reference(policy, objective, compiled.memory)
    return PlannedStep.of("log-probs", shapes, compiled, reference)


def plan_sampler(
    policy: Policy,
    optimizer: OptimizerConfig,
    objective: ObjectiveConfig,
    config: PolicyOptimizationConfig,
    sampler: SamplerConfig,
    *,
    mesh: jax.sharding.Mesh,
) -> PlannedStep:
    """All completions of a step, sampled at once; as for `plan_optimization`."""
    compiled = sampler_figures(
        policy,
        make_optimizer(optimizer),
        sampler,
        prompts=config.prompts_per_step,
        num_samples=config.num_samples,
        prompt_length=max(config.prompt_buckets),
        mesh=mesh,
    )
    reference = _reference(policy, objective, compiled.memory)
    return PlannedStep.of("sampler", _rows(config, sampler), compiled, reference)


def _update_options(config: PolicyOptimizationConfig) -> dict[str, Any]:
    return {
        "accumulation_steps": config.accumulation_steps,
        "temperature": config.temperature,
        # Packed rows are never wider than shared ones.
        "layout": "plain" if config.layout == "plain" else "shared",
        "chunk": config.chunk,
    }


def _rows(config: PolicyOptimizationConfig, sampler: SamplerConfig) -> str:
    return (
        f"{config.prompts_per_step} prompts of {max(config.prompt_buckets)}, "
        f"{config.num_samples} completions of {sampler.max_new_tokens} each"
    )


def _reference(policy: Policy, objective: ObjectiveConfig, memory: StepMemory) -> int:
    copied = objective.needs_reference and policy.reference is None
    return memory.parameters if copied else 0


def plan_answers(
    policy: Policy,
    sampler: SamplerConfig,
    *,
    batch_size: int,
    prompt_length: int,
    mesh: jax.sharding.Mesh,
) -> PlannedStep:
    """`gdpo_jax.answers.answer`, without an optimizer; errors as in `plan_sft`.

    batch_size: prompts decoded together, rounded up to the mesh as there.
    """
    unit = batch_shards(mesh)
    rows = -(-batch_size // unit) * unit
    compiled = sampler_figures(
        policy,
        optax.identity(),
        sampler,
        prompts=rows,
        num_samples=1,
        prompt_length=prompt_length,
        mesh=mesh,
    )
    shapes = f"{rows} prompts of {prompt_length}, one answer of {sampler.max_new_tokens} each"
    return PlannedStep.of("answers", shapes, compiled)
