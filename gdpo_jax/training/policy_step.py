"""One policy update from sampled completions and token advantages, and log-probs without one."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from gdpo_jax.objectives import (
    Metrics,
    ObjectiveConfig,
    count_denominators,
    join_metrics,
    policy_objective,
)
from gdpo_jax.policies import Policy, completion_log_probs
from gdpo_jax.policies.log_probs import packed_log_probs
from gdpo_jax.policies.packing import PackedGroups
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    batch_sharding,
    check_batch,
    placed,
)
from gdpo_jax.training.packing import computed_tokens, packed_parts
from gdpo_jax.training.state import (
    TrainState,
    compile_step,
    state_shardings,
    with_frozen,
    without_frozen,
)
from gdpo_jax.training.update import (
    accumulated_gradients,
    guarded_update,
    join_rows,
    split_rows,
)

AnyArray = Array | np.ndarray


@chex.dataclass(frozen=True)
class PolicyBatch:
    """Sampled completions with everything the loss needs; `B` prompts, `G` samples of each.

    mask: the sampled tokens that learn, the stop token included. advantages: per token.
    old_log_probs: of the policy that the ratio is taken to; None means the policy being updated,
    whose ratios are exactly 1. sampled_log_probs: what the sampler reported, for its distance to
    the trainer and for `correction`; None if it reports none. ref_log_probs: None without a
    reference. segment_ids: rank of each token, -1 for none; None without ranks. policy_weights,
    old_kl_tokens: as for `policy_objective`. entropy, finished: for `reshape_update` to look at;
    an update does not read them. packed: the same prompts and completions in packed rows
    (`pack_rollout`); the layers then compute these.
    """

    prompts: Int[AnyArray, "B P"]
    prompt_lengths: Int[AnyArray, "B"]
    completions: Int[AnyArray, "B G C"]
    mask: Bool[AnyArray, "B G C"]
    advantages: Float[AnyArray, "B G C"]
    old_log_probs: Float[AnyArray, "B G C"] | None = None
    ref_log_probs: Float[AnyArray, "B G C"] | None = None
    sampled_log_probs: Float[AnyArray, "B G C"] | None = None
    segment_ids: Int[AnyArray, "B G C"] | None = None
    policy_weights: Float[AnyArray, "B G C"] | Bool[AnyArray, "B G C"] | None = None
    old_kl_tokens: Bool[AnyArray, "B G C"] | None = None
    entropy: Float[AnyArray, "B G C"] | None = None
    finished: Bool[AnyArray, "B G"] | None = None
    packed: PackedGroups | None = None


Objective = Callable[..., tuple[Array, Metrics]]
PolicyStep = Callable[[TrainState, PolicyBatch], tuple[TrainState, Metrics]]
LogProbStep = Callable[..., Array]


@functools.lru_cache(maxsize=64)
def make_policy_step(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    objective: ObjectiveConfig | Objective,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    accumulation_steps: int = 1,
    temperature: float = 1.0,
    layout: str = "shared",
    chunk: int | None = 16,
) -> PolicyStep:
    """`step(state, batch) -> (state, metrics)`, jitted over the mesh; what is trained of `state` is
    donated.

    objective: a configuration of `policy_objective`, or a function with its keywords.

    The same arguments give the same program, which a second run in this process need not compile.

    Metrics are those of `policy_objective`, of all micro-batches, with `loss`, `grad_norm`,
    `update_norm`, `healthy`, and, if the sampler's log-probs are given, their absolute difference
    to those of the policy being updated (`sampler/gap_mean`, `sampler/gap_max`).
    `update/computed_tokens` counts what the layers compute, padding included, and
    `update/filled_fraction` is the share of it that the batch holds, each prompt once. With
    `objective.correction` also `rollout/effective_fraction`, the effective share of tokens.
    `step.lower` is that of `jax.jit`, for compilation ahead of time (`gdpo_jax.planning`).

    Raises (when called): UserError if the batch does not divide.
    """
    shardings = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    policy = placed(policy, mesh, rules, params=shardings.params)
    config = objective if isinstance(objective, ObjectiveConfig) else None
    loss_of = objective if config is None else functools.partial(policy_objective, config)
    max_segments = (config or ObjectiveConfig()).max_segments

    def step(trained: TrainState, frozen: Any, batch: PolicyBatch) -> tuple[TrainState, Metrics]:
        state = with_frozen(policy, trained, frozen)
        denominators = count_denominators(
            _flat(batch.mask), _flat(batch.segment_ids), max_segments=max_segments
        )

        def loss(params, micro):
            log_probs, entropy = _log_probs(
                policy,
                params,
                (
                    micro.prompts,
                    micro.prompt_lengths,
                    micro.completions,
                    micro.mask,
                    micro.packed,
                ),
                layout=layout,
                chunk=chunk,
                temperature=temperature,
                entropy_gradient=config is None or bool(config.entropy_coef),
            )
            old = micro.old_log_probs
            value, metrics = loss_of(
                log_probs=_flat(log_probs),
                old_log_probs=_flat(jax.lax.stop_gradient(log_probs) if old is None else old),
                ref_log_probs=_flat(micro.ref_log_probs),
                sampled_log_probs=_flat(micro.sampled_log_probs),
                advantages=_flat(micro.advantages),
                mask=_flat(micro.mask),
                segment_ids=_flat(micro.segment_ids),
                entropy=_flat(entropy),
                policy_weights=_flat(micro.policy_weights),
                old_kl_tokens=_flat(micro.old_kl_tokens),
                denominators=denominators,
            )
            if micro.sampled_log_probs is not None:
                gap = jnp.where(micro.mask, jnp.abs(log_probs - micro.sampled_log_probs), 0.0)
                gap = jax.lax.stop_gradient(gap)
                mean = jnp.sum(gap) / denominators.tokens
                gaps = Metrics(
                    sums={"sampler/gap_mean": mean}, maxima={"sampler/gap_max": jnp.max(gap)}
                )
                metrics = join_metrics(metrics, gaps)
            return value, metrics

        grads, metrics = accumulated_gradients(
            policy, loss, state.params, batch, steps=accumulation_steps, mesh=mesh
        )
        if config is not None and config.correction is not None:
            squares = jnp.maximum(
                metrics["rollout/weight_square_mean"], jnp.finfo(jnp.float32).tiny
            )
            effective = jnp.square(metrics["rollout/weight_mean"]) / squares
            metrics = join_metrics(metrics, Metrics(sums={"rollout/effective_fraction": effective}))
        computed = computed_tokens(batch, layout)
        filled = jnp.sum(batch.mask, dtype=jnp.float32) + jnp.sum(
            batch.prompt_lengths, dtype=jnp.float32
        )
        of_layout = {
            "update/computed_tokens": jnp.float32(computed),
            "update/filled_fraction": filled / computed,
        }
        metrics = join_metrics(metrics, Metrics(sums=of_layout))
        state, metrics = guarded_update(policy, state, optimizer, grads, metrics)
        return without_frozen(policy, state), metrics

    compiled = compile_step(policy, step, shardings, mesh)

    def checked(state: TrainState, batch: PolicyBatch) -> tuple[TrainState, Metrics]:
        check_batch(batch.prompts.shape[0], mesh, parts=accumulation_steps, what="prompt batch")
        if batch.packed is not None and packed_parts(batch.packed, mesh) != accumulation_steps:
            raise ValueError(f"rows were not packed for {accumulation_steps} micro-batches")
        return compiled(state, batch.replace(entropy=None, finished=None))

    checked.lower = compiled.lower
    return checked


@functools.lru_cache(maxsize=64)
def make_log_prob_step(
    policy: Policy,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    accumulation_steps: int = 1,
    temperature: float = 1.0,
    layout: str = "shared",
    chunk: int | None = 16,
    with_entropy: bool = False,
) -> LogProbStep:
    """`f(params, prompts, prompt_lengths, completions, mask, packed=None) -> [B, G, C]` log-probs,
    without gradient; with_entropy: the pair of them and the entropy of every token.

    For the reference policy, and for the trainer's own log-probs before several inner updates.
    """
    policy = placed(policy, mesh, rules)

    def log_probs(params, prompts, prompt_lengths, completions, mask, packed=None):
        def of(rows):
            values, entropy = _log_probs(
                policy,
                params,
                rows,
                layout=layout,
                chunk=chunk,
                temperature=temperature,
                with_entropy=with_entropy,
                entropy_gradient=False,
            )
            return (values, entropy) if with_entropy else values

        rows = (prompts, prompt_lengths, completions, mask, packed)
        parts = accumulation_steps if packed is None else packed_parts(packed, mesh)
        if parts == 1:
            return of(rows)
        return join_rows(jax.lax.map(of, split_rows(rows, parts, mesh)), mesh)

    return jax.jit(log_probs, out_shardings=batch_sharding(mesh))


def _log_probs(policy: Policy, params: Any, rows: tuple, *, layout: str, **options: Any):
    """Log-probs and entropies `[B, G, C]`; rows: prompts, their lengths, completions, mask and, if
    they are packed, `PackedGroups`."""
    *sequences, packed = rows
    if packed is not None:
        return packed_log_probs(policy, params, packed, sequences[-1], **options)
    return completion_log_probs(policy, params, *sequences, layout=layout, **options)


def _flat(rows: Array | None) -> Array | None:
    """`[B, G, C] -> [B * G, C]`."""
    return None if rows is None else rows.reshape(-1, rows.shape[-1])
