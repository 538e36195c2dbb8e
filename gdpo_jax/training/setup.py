"""What is checked, chosen and compiled for a policy optimization run before its first step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from gdpo_jax.advantages import AdvantageTransform, describe
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.rollouts import Engine, RewardFunction
from gdpo_jax.rollouts.reward_functions import check_distinct
from gdpo_jax.rollouts.time_limit import check_time_limit
from gdpo_jax.training.advantage_step import Penalty, ReshapeRewards
from gdpo_jax.training.checks import (
    check_learning,
    check_options,
    check_reshaping,
    check_state,
    check_update,
    prompt_widths,
)
from gdpo_jax.training.config import PolicyOptimizationConfig, json_tree, qualified_name
from gdpo_jax.training.evaluation import Evaluation, Measure, make_measure
from gdpo_jax.training.mesh import ShardingRules
from gdpo_jax.training.optimizers import describe_optimizer
from gdpo_jax.training.policy_step import Objective
from gdpo_jax.training.processes import together
from gdpo_jax.training.programs import Programs, ReshapeUpdate, compile_programs
from gdpo_jax.training.state import TrainState
from gdpo_jax.training.user_functions import (
    expected_batch,
    expected_rewards,
    expected_rollout,
    try_objective,
    try_penalty,
    try_reshape_rewards,
    try_reshape_update,
)

__all__ = ["Setup", "prepare_run"]

Functions = tuple[ReshapeRewards | None, Penalty | None, ReshapeUpdate | None]


class Setup(NamedTuple):
    """What the steps of a run share.

    programs: the compiled functions. advantage_state: of the estimator before the first step.
    widths: legal prompt widths. measure: of the evaluation. needs_reference: whether log-probs of
    the reference policy are computed. with_rollout: whether the advantage step sees the rollout.
    identity: what a continuation must share, JSON-like.
    """

    programs: Programs
    advantage_state: Any
    widths: tuple[int, ...]
    measure: Measure | None
    needs_reference: bool
    with_rollout: bool
    identity: Any


def prepare_run(
    policy: Policy,
    engine: Engine,
    state: TrainState,
    *,
    optimizer: optax.GradientTransformation,
    objective: ObjectiveConfig | Objective,
    transform: AdvantageTransform,
    reward_functions: Sequence[RewardFunction],
    encode: Callable[[Any], Sequence[int]],
    tokenizer: Any,
    config: PolicyOptimizationConfig,
    mesh: Mesh,
    rules: ShardingRules,
    ref_params: Any,
    ranks: tuple[bool, int | None],
    has_shaping: bool,
    functions: Functions,
    evaluation: Evaluation | None,
    identity: Mapping[str, Any] | None,
) -> Setup:
    """The arguments of `run_policy_optimization`, tried on the shapes of a step; nothing runs yet.

    ranks: whether there is a segment function, and num_ranks. functions: `reshape_rewards`,
    `penalty` and `reshape_update`.

    Raises:
        UserError: what `run_policy_optimization` says of its arguments, on every process.
    """
    (has_segment, num_ranks), (reshape_rewards, penalty, reshape_update) = ranks, functions
    names = tuple(function.name for function in reward_functions)
    needs_reference = config.reference_log_probs or (
        isinstance(objective, ObjectiveConfig) and objective.needs_reference
    )

    def check() -> tuple[Any, Any, Any]:
        check_distinct(names)
        check_time_limit(config.score_timeout)
        check_options(
            policy,
            engine,
            objective,
            config,
            mesh,
            has_reference=ref_params is not None or policy.reference is not None,
            ranked=(has_segment, num_ranks is not None),
        )
        check_reshaping(config, reshape_update is not None)
        check_state(policy, state, optimizer, ref_params)
        rollout = expected_rollout(engine, config, with_reference=needs_reference)
        given = expected_rewards(names, rollout, num_ranks)
        rewards = try_reshape_rewards(reshape_rewards, given, rollout)
        try_penalty(penalty, rewards, rollout)
        batch = try_reshape_update(reshape_update, expected_batch(rollout, config, num_ranks))
        check_update(objective, config, batch)
        if not isinstance(objective, ObjectiveConfig):
            try_objective(objective, batch)
        fresh = transform.init(rewards.names)
        if not has_shaping:
            check_learning(transform, fresh, rewards, with_penalty=penalty is not None)
        return rollout, given, fresh

    rollout, given, fresh = together(check)
    measure = None
    if evaluation is not None:
        measure = together(
            lambda: make_measure(
                evaluation,
                policy=policy,
                reward_functions=reward_functions,
                encode=encode,
                tokenizer=tokenizer,
                config=config,
                mesh=mesh,
                num_ranks=num_ranks,
            )
        )
    programs = compile_programs(
        policy, optimizer, objective, transform, config, mesh, rules, functions=functions
    )
    with_rollout = reshape_rewards is not None or penalty is not None
    segment_ids = None if num_ranks is None else rollout.completions
    seen = rollout if with_rollout else None
    # Traced only: a stage of the estimator that does not fit these rewards says so here.
    together(
        lambda: jax.eval_shape(
            programs.advantages, fresh, given, rollout.mask, rollout.finished, segment_ids, seen
        )
    )
    described = {
        **(identity or {}),
        "objective": qualified_name(objective) if callable(objective) else objective,
        "optimizer": describe_optimizer(optimizer, trained_part(policy, state.params)),
        "rewards": list(names),
        "estimator": describe(transform),
        "advantages": jax.tree.leaves(fresh),
        "penalty": _name(penalty),
        "reshape_rewards": _name(reshape_rewards),
        "reshape_update": _name(reshape_update),
    }
    return Setup(
        programs=programs,
        advantage_state=fresh,
        widths=prompt_widths(policy, engine, config.prompt_buckets),
        measure=measure,
        needs_reference=needs_reference,
        with_rollout=with_rollout,
        identity=json_tree(described),
    )


def _name(function: Any) -> str | None:
    return None if function is None else qualified_name(function)
