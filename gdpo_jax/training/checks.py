"""What of a run's arguments is refused before its first step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from gdpo_jax.advantages import AdvantageTransform, RewardBatch, compute_advantages
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.rollouts import Engine, Rollout
from gdpo_jax.rollouts.engine import sampler_of
from gdpo_jax.training.config import PolicyOptimizationConfig
from gdpo_jax.training.mesh import check_batch
from gdpo_jax.training.policy_step import PolicyBatch
from gdpo_jax.training.state import TrainState


def check_options(
    policy: Policy,
    engine: Engine,
    objective: Any,
    config: PolicyOptimizationConfig,
    mesh: Mesh,
    *,
    has_reference: bool,
    ranked: tuple[bool, bool],
) -> None:
    """Options that contradict each other or the sizes of the policy.

    has_reference: whether the run has parameters of a reference policy. ranked: whether segment and
    num_ranks are given.
    """
    parts = config.mini_batches * config.accumulation_steps
    check_batch(config.prompts_per_step, mesh, parts=parts, what="prompts_per_step")
    sampler = sampler_of(engine)
    if sampler is not None and sampler.temperature != config.temperature:
        raise UserError(
            f"the engine samples at temperature {sampler.temperature}, but the run computes "
            f"log-probs at {config.temperature}; make them equal"
        )
    prompt_widths(policy, engine, config.prompt_buckets)
    if isinstance(objective, ObjectiveConfig):
        _check_objective(objective, config, has_reference)
    elif not callable(objective):
        raise UserError(
            f"objective must be an ObjectiveConfig or a function like policy_objective, got "
            f"{type(objective).__name__}"
        )
    _check_staleness(objective, config)
    if config.reference_log_probs and not has_reference:
        raise UserError("reference_log_probs=True needs ref_params; give them, or set it to False")
    if ranked[0] != ranked[1]:
        raise UserError("segment and num_ranks belong together: give both, or neither")


def _check_objective(
    objective: ObjectiveConfig, config: PolicyOptimizationConfig, has_reference: bool
) -> None:
    if objective.needs_reference and not has_reference:
        raise UserError(
            f"kl={objective.kl!r} with kl_coef={objective.kl_coef} needs ref_params; give them, or "
            "set kl_coef to 0"
        )
    if objective.correction is not None and config.old_log_probs == "sampler":
        raise UserError(
            'objective.correction and old_log_probs="sampler" correct for the same difference; use '
            'old_log_probs="trainer", or no correction'
        )


def _check_staleness(objective: Any, config: PolicyOptimizationConfig) -> None:
    """Raises UserError where nothing corrects for rollouts of earlier parameters."""
    if config.staleness == 0:
        return
    about = f"staleness={config.staleness} trains on rollouts of earlier parameters"
    if isinstance(objective, ObjectiveConfig):
        if objective.correction is not None:
            return
        if objective.surrogate == "reinforce":
            raise UserError(
                f'{about}, and surrogate="reinforce" has no ratio that corrects for them; give '
                "ObjectiveConfig(correction=SamplerCorrection()), or another surrogate"
            )
    if config.old_log_probs != "sampler":
        raise UserError(
            f"{about}, and nothing corrects for them; give ObjectiveConfig(correction="
            'SamplerCorrection()), or old_log_probs="sampler"'
        )


def prompt_widths(
    policy: Policy, engine: Engine, buckets: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The buckets, none wider than what the engine's completions leave of the positions."""
    sampler = sampler_of(engine)
    return widths_before(policy, buckets, 1 if sampler is None else sampler.max_new_tokens)


def widths_before(policy: Policy, buckets: tuple[int, ...] | None, longest: int) -> tuple[int, ...]:
    """The buckets, none wider than what `longest` other tokens of a row leave of the positions.

    Raises:
        UserError: they leave nothing, or no width is named.
    """
    if buckets is None:
        raise UserError(
            "name prompt_buckets (and completion_buckets), or train by gdpo_jax.recipe, which "
            "makes them of the records"
        )
    left = policy.config.max_positions - longest
    if left < 1:
        raise UserError(
            f"{longest} tokens leave none for others of the policy's "
            f"{policy.config.max_positions} positions; make them fewer"
        )
    return tuple(sorted({min(bucket, left) for bucket in buckets}))


def check_update(objective: Any, config: PolicyOptimizationConfig, batch: PolicyBatch) -> None:
    """Options that would do nothing on this batch of updates, of which shapes are enough."""
    if not isinstance(objective, ObjectiveConfig):
        return
    if objective.old_kl_coef and batch.old_kl_tokens is None:
        raise UserError(
            f"old_kl_coef={objective.old_kl_coef} acts on old_kl_tokens, and nothing gives any; "
            "let reshape_update fill them in, or set old_kl_coef to 0"
        )


def check_reshaping(config: PolicyOptimizationConfig, has_reshape_update: bool) -> None:
    """Raises UserError if the batch is given what only `reshape_update` could look at."""
    if config.token_entropy and not has_reshape_update:
        raise UserError(
            "token_entropy=True computes entropies for reshape_update, and there is none; give "
            "one, or set it to False"
        )


def check_state(
    policy: Policy,
    state: TrainState,
    optimizer: optax.GradientTransformation,
    ref_params: Any = None,
) -> None:
    """Raises UserError if the state was made with another optimizer or another policy, or if its
    arrays or those of the reference are gone because an earlier run was given them."""
    for what, tree in (("the state", state), ("ref_params", ref_params)):
        if any(isinstance(x, jax.Array) and x.is_deleted() for x in jax.tree.leaves(tree)):
            raise UserError(
                f"arrays of {what} were donated to an earlier run; use the state that it returned"
            )
    # The functions themselves, which were traced when the state was made.
    for what, own, make, given in (
        ("parameters", state.params, policy.init, jax.random.key(0)),
        ("optimizer state", state.opt_state, optimizer.init, trained_part(policy, state.params)),
    ):
        expected = jax.eval_shape(make, given)
        same = jax.tree.structure(own) == jax.tree.structure(expected)
        if not same or [x.shape for x in jax.tree.leaves(own)] != [
            x.shape for x in jax.tree.leaves(expected)
        ]:
            raise UserError(
                f"the {what} of the state are not those of this run; make it with "
                "create_state(policy, optimizer, ...) of the same policy and optimizer"
            )


def check_rollout(
    rollout: Rollout, objective: Any, config: PolicyOptimizationConfig, max_positions: int
) -> None:
    """What an engine of one's own may get wrong, or may leave out."""
    wanted = (config.prompts_per_step, config.num_samples)
    shapes = (rollout.completions.shape, rollout.mask.shape)
    if shapes[0][:2] != wanted or shapes[0] != shapes[1] or rollout.finished.shape != wanted:
        raise UserError(
            f"the engine returned completions {shapes[0]}, mask {shapes[1]} and finished "
            f"{rollout.finished.shape} for {wanted[0]} prompts x {wanted[1]} samples"
        )
    longest = rollout.prompts.shape[1] + rollout.completions.shape[2]
    if longest > max_positions:
        raise UserError(
            f"the engine returned prompts of {rollout.prompts.shape[1]} and completions of "
            f"{rollout.completions.shape[2]} tokens; the policy has {max_positions} positions"
        )
    if rollout.log_probs is not None or rollout.sampled_log_probs is not None:
        return
    needed = [
        name
        for name, used in (
            ('old_log_probs="sampler"', config.old_log_probs == "sampler"),
            (
                "objective.correction",
                isinstance(objective, ObjectiveConfig) and objective.correction is not None,
            ),
        )
        if used
    ]
    if needed:
        raise UserError(f"{needed[0]} needs log-probs, and the engine reports none")


def check_learning(
    estimator: AdvantageTransform,
    state: Any,
    rewards: RewardBatch,
    *,
    with_penalty: bool,
) -> None:
    """Whether the estimator makes anything of groups of one, and of a penalty; on random rewards.

    rewards: the shapes of a step.

    Raises:
        UserError: with one completion a prompt every advantage is zero, or the estimator leaves
            the penalty out.
    """
    single = rewards.values.shape[1] == 1
    if not single and not with_penalty:
        return
    draw = np.random.default_rng(0)
    shape = (64, *rewards.values.shape[1:])
    whole = (*shape[:2], *shape[3:])
    values = draw.normal(scale=3.0, size=shape).astype(np.float32)

    @jax.jit
    def advantages(penalty: Any) -> Any:
        batch = RewardBatch(
            values=jnp.asarray(values), valid=jnp.ones(shape, bool), names=rewards.names
        )
        lengths = jnp.ones(whole, jnp.float32)
        found, _, _ = compute_advantages(estimator, batch, state, lengths=lengths, penalty=penalty)
        return found.values

    nothing = np.zeros(whole, np.float32) if with_penalty else None
    first = np.asarray(advantages(nothing))
    if single and not first.any():
        raise UserError(
            "num_samples=1 with an estimator that compares the completions of a prompt: every "
            "advantage would be zero. Sample more, or use reinforce_pp(), which compares over the "
            "batch"
        )
    if with_penalty:
        some = draw.normal(size=whole).astype(np.float32)
        if np.array_equal(first, np.asarray(advantages(some))):
            raise UserError(
                "penalty is given, but the estimator takes none off; put subtract_penalty(...) "
                "behind combine() in its chain"
            )


__all__ = [
    "check_learning",
    "check_options",
    "check_reshaping",
    "check_rollout",
    "check_state",
    "check_update",
    "prompt_widths",
    "widths_before",
]
