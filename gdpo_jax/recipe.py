"""The recipe: open a model, train it on rewards or examples, answer prompts, save it.

    model = open_model(folder)
    state = optimize(model, records, prompt=..., rewards=[...], estimator=gdpo(), workdir=...)
    model.save(out, state)

`optimize` and `imitate` choose what `run_policy_optimization` and `run_sft` ask for: encoding,
widths, optimizer, engine, reference policy, and the split of records over processes.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import optax

from gdpo_jax.advantages import AdvantageTransform, gdpo
from gdpo_jax.answers import answer, model_engine, sampler_config
from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model, open_model, with_lora
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.planning import PlannedStep, plan_optimization, plan_sft
from gdpo_jax.policies.partial import (
    Mask,
    checked_mask,
    join_params,
    partial_policy,
    split_params,
)
from gdpo_jax.preparation import (
    imitation_batches,
    prepare_imitation,
    prepare_optimization,
    shared_batches,
    tell_left_out,
    with_held_out,
)
from gdpo_jax.prompts import PromptFunction, TooLong
from gdpo_jax.rollouts import Engine, SamplerConfig
from gdpo_jax.rollouts.engine import sampler_of
from gdpo_jax.training import (
    Evaluation,
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
    TrainState,
    UserClipping,
    create_state,
    fingerprint,
    make_optimizer,
    run_policy_optimization,
    run_sft,
)
from gdpo_jax.training.sft_step import Loss

__all__ = [
    "Model",
    "answer",
    "imitate",
    "open_model",
    "optimize",
    "plan_imitate",
    "plan_optimize",
    "sampler_config",
    "with_lora",
]


def optimize(
    model: Model,
    records: Sequence[Any],
    *,
    rewards: Sequence[Any],
    workdir: str | Path,
    prompt: PromptFunction = "prompt",
    estimator: AdvantageTransform | None = None,
    objective: ObjectiveConfig | Callable[..., Any] | None = None,
    optimizer: OptimizerConfig | optax.GradientTransformation | None = None,
    config: PolicyOptimizationConfig | None = None,
    sampler: SamplerConfig | None = None,
    engine: Engine | None = None,
    too_long: TooLong = "leave_out",
    evaluation: Evaluation | None = None,
    identity: Mapping[str, Any] | None = None,
    **options: Any,
) -> TrainState:
    """Trains the model's policy for several rewards; run again with the same `workdir` to resume.

    records: anything with a length and an index, such as a list of mappings; every process gives
    all of them. rewards: functions `(completions, records) -> list of numbers or None`, or objects
    with a name (docs/rewards.md). prompt: a field's name, or a function of a record that gives
    text, chat messages or token ids.
    estimator: `gdpo()` with equal weights unless given. objective: the clipped surrogate without a
    KL term; with one, the reference policy is the model as given. optimizer: AdamW at 1e-6, or 1e-5
    for adapters. config: `PolicyOptimizationConfig()`; widths of prompts that it leaves open are
    made from the records. sampler: `sampler_config(model)`. engine: samples in place of the model's
    own sampler, such as `gdpo_jax.serving.server_engine`, which is given the sampler's options.
    too_long: prompts that do not fit are left out and counted, or an "error". evaluation: held-out
    records and how often; without an engine of its own the model's own sampler answers greedily.
    identity: what else a continuation must share (JSON-like). options: further arguments of
    `run_policy_optimization`, such as `reshape_rewards`, `penalty`, `segment` or `on_step`.

    Returns the trained state; `model.save(folder, state)` writes it. The model itself is unchanged.

    Raises UserError for records, prompts and options that cannot be used, before anything compiles,
    and what `run_policy_optimization` raises.
    """
    title = options.pop("title", "policy optimization")
    if engine is not None:
        sampler = _only_sampler(sampler, engine)
    ready = prepare_optimization(model, records, prompt, optimizer, config, sampler, too_long)
    tell_left_out(title, ready.left_out, len(records))
    policy, mesh = model.policy, model.mesh
    engine = engine or model_engine(model, ready.sampler)
    if evaluation is not None:
        evaluation, ready = with_held_out(model, evaluation, ready, config, too_long, title)
    return run_policy_optimization(
        policy,
        engine,
        _fresh_state(model, ready.optimizer, ready.config.seed),
        optimizer=ready.optimizer,
        objective=ObjectiveConfig() if objective is None else objective,
        transform=gdpo() if estimator is None else estimator,
        reward_functions=rewards,
        records=shared_batches(
            ready.records, model.mesh, ready.config.prompts_per_step, ready.config.seed
        ),
        encode=ready.encode,
        tokenizer=model.tokenizer,
        config=ready.config,
        workdir=workdir,
        mesh=mesh,
        rules=model.rules,
        ref_params=model.params if policy.reference is None else None,
        evaluation=evaluation,
        identity=_identity(model, ready.records, identity, sampler=ready.sampler),
        title=title,
        **options,
    )


def imitate(
    model: Model,
    records: Sequence[Any],
    *,
    workdir: str | Path,
    prompt: PromptFunction = "prompt",
    completion: str | Callable[[Any], Any] | None = "completion",
    optimizer: OptimizerConfig | optax.GradientTransformation | None = None,
    config: SFTConfig | None = None,
    seed: int = 0,
    too_long: TooLong = "leave_out",
    identity: Mapping[str, Any] | None = None,
    loss: Loss | None = None,
    label: str | Callable[[Any], int] | None = None,
    per_label: Mapping[int, int] | None = None,
    mask: Mask | None = None,
    users: UserClipping | None = None,
    **options: Any,
) -> TrainState:
    """Supervised fine-tuning on the records' completions; resumes and raises as `optimize` does.

    completion: a field's name, or a function of a record that gives text or token ids. Text ends
    with the token that ends an answer; ids are learned as they are. optimizer: AdamW at 1e-5, or
    1e-4 for adapters. seed: of the order of the records. options: further arguments of `run_sft`.

    loss: `loss(policy, params, batch)` in place of the negative log-likelihood; completion=None
    then leaves them out. label: a field's name, or a function of a record that gives a whole
    number, for `batch.labels`. per_label: how many records of each label every batch has, together
    `config.batch_size`. mask: which parameters are trained (`gdpo_jax.policies.partial`), such as
    {"layers": 5, "embedding": True}; the others stay bit for bit. The returned state then holds
    whole parameters beside an optimizer state of the trained ones; `on_state` sees both parts.

    users: bound how far one user moves a step, and add noise (`training/user_clipping.py`). Each
    step then takes every user with the probability `config.batch_size / number of users`. Rows of
    metrics have the users of a step, the share that was clipped, and the mean norm before it.
    """
    title = options.pop("title", "imitation")
    if loss is None and completion is None:
        raise UserError("completion=None leaves nothing to imitate; give a loss= of prompts")
    if users is not None and not (loss is None and label is None and per_label is None):
        raise UserError(
            "users= clips gradients of the likelihood; leave loss, label, per_label out"
        )
    rows = 1 if users is None else users.rows_per_user
    ready = prepare_imitation(
        model, records, prompt, completion, optimizer, config, too_long, label, rows
    )
    tell_left_out(title, ready.left_out, len(records))
    batches = imitation_batches(ready, model.mesh, per_label, label is not None, users, seed)
    trained = model if mask is None else _masked(model, mask)
    state = run_sft(
        trained.policy,
        _fresh_state(trained, ready.optimizer, seed),
        optimizer=ready.optimizer,
        records=batches,
        encode=ready.encode,
        pad_id=model.tokenizer.pad_id,
        config=ready.config,
        workdir=workdir,
        mesh=model.mesh,
        rules=model.rules,
        identity=_identity(model, ready.records, identity, seed=seed, **_given(per_label)),
        title=title,
        loss=loss,
        users=users,
        **options,
    )
    if mask is None:
        return state
    mask = checked_mask(model.params, mask)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, model.params)
    return state.replace(params=jax.device_put(join_params(state.params, mask), shardings))


def plan_optimize(
    model: Model,
    records: Sequence[Any],
    *,
    prompt: PromptFunction = "prompt",
    objective: ObjectiveConfig | None = None,
    optimizer: OptimizerConfig | None = None,
    config: PolicyOptimizationConfig | None = None,
    sampler: SamplerConfig | None = None,
    too_long: TooLong = "leave_out",
) -> list[PlannedStep]:
    """Memory of the steps that `optimize` would run; `model` may be that of `abstract_model`."""
    ready = prepare_optimization(model, records, prompt, optimizer, config, sampler, too_long)
    return plan_optimization(
        model.policy,
        ready.optimizer,
        objective or ObjectiveConfig(),
        ready.config,
        ready.sampler,
        mesh=model.mesh,
    )


def plan_imitate(
    model: Model,
    records: Sequence[Any],
    *,
    prompt: PromptFunction = "prompt",
    completion: str | Callable[[Any], Any] = "completion",
    optimizer: OptimizerConfig | None = None,
    config: SFTConfig | None = None,
    too_long: TooLong = "leave_out",
) -> PlannedStep:
    """Memory of the step that `imitate` would run; `model` may be that of `abstract_model`."""
    ready = prepare_imitation(model, records, prompt, completion, optimizer, config, too_long)
    return plan_sft(model.policy, ready.optimizer, ready.config, mesh=model.mesh)


def _only_sampler(sampler: SamplerConfig | None, engine: Engine) -> SamplerConfig | None:
    """How the engine draws, where it says so, which is what the run is checked against."""
    own = sampler_of(engine)
    if None not in (sampler, own) and sampler != own:
        raise UserError("sampler= and the engine's own options differ; give them to the engine")
    return own or sampler


def _masked(model: Model, mask: Mask) -> Model:
    """The model whose parameters are in two parts, of which one is trained."""
    mask = checked_mask(model.params, mask)
    policy = partial_policy(model.policy, mask)
    return dataclasses.replace(model, policy=policy, params=split_params(model.params, mask))


def _given(per_label: Mapping[int, int] | None) -> dict[str, Any]:
    if per_label is None:
        return {}
    return {"per_label": {str(label): count for label, count in per_label.items()}}


def _identity(
    model: Model, records: Sequence[Any], more: Mapping[str, Any] | None, **options: Any
) -> dict[str, Any]:
    """What a continuation must share besides its configuration: data, start and options."""
    digests = {"records": records_digest(records), "start": fingerprint(model.params)}
    return digests | options | dict(more or {})


def _fresh_state(model: Model, optimizer: Any, seed: int) -> TrainState:
    return create_state(
        model.policy,
        make_optimizer(optimizer) if isinstance(optimizer, OptimizerConfig) else optimizer,
        key=jax.random.key(seed),
        mesh=model.mesh,
        rules=model.rules,
        params=model.params,
    )
