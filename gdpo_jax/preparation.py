"""A run's records and options once everything that its caller left open is chosen."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import optax
from rich.console import Console

from gdpo_jax.answers import longest_prompt, model_engine, sampler_config
from gdpo_jax.data import (
    RecordIterator,
    balanced_batches,
    bucket_for,
    record_batches,
    user_batches,
)
from gdpo_jax.errors import UserError
from gdpo_jax.models import Model
from gdpo_jax.prompts import (
    PromptFunction,
    TooLong,
    completion_encoder,
    fit_rows,
    prompt_encoder,
    record_reader,
)
from gdpo_jax.rollouts import SamplerConfig
from gdpo_jax.training import (
    Evaluation,
    OptimizerConfig,
    PolicyOptimizationConfig,
    SFTConfig,
    UserClipping,
    batch_shards,
    process_share,
)

__all__ = [
    "Ready",
    "imitation_batches",
    "prepare_imitation",
    "prepare_optimization",
    "shared_batches",
    "tell_left_out",
    "with_held_out",
]

# Rates that are usual for a pretrained model; adapters, which start at zero, take larger ones.
_WHOLE_RATE, _ADAPTER_RATE = 1e-6, 1e-5
_WHOLE_IMITATION_RATE, _ADAPTER_IMITATION_RATE = 1e-5, 1e-4


class Ready(NamedTuple):
    """A run's records and options once everything left open is chosen."""

    records: list[Any]
    encode: Callable[[Any], Any]
    optimizer: OptimizerConfig | optax.GradientTransformation
    config: Any
    sampler: SamplerConfig | None
    left_out: int


def prepare_optimization(
    model: Model,
    records: Sequence[Any],
    prompt: PromptFunction,
    optimizer: OptimizerConfig | optax.GradientTransformation | None,
    config: PolicyOptimizationConfig | None,
    sampler: SamplerConfig | None,
    too_long: TooLong,
) -> Ready:
    """What `optimize` and its plan run with; raises UserError as `fit_rows` and the encoder do."""
    config = config or PolicyOptimizationConfig()
    sampler = sampler or sampler_config(model, temperature=config.temperature)
    encode = prompt_encoder(model.tokenizer, prompt)
    fitted = fit_rows(
        records,
        lambda record: (encode(record),),
        buckets=(config.prompt_buckets,),
        positions=longest_prompt(model, sampler),
        batch_size=config.prompts_per_step,
        too_long=too_long,
        names=("prompt",),
    )
    config = dataclasses.replace(config, prompt_buckets=fitted.buckets[0])
    rate = _WHOLE_RATE if model.policy.trained is None else _ADAPTER_RATE
    optimizer = optimizer or OptimizerConfig(learning_rate=rate)
    return Ready(fitted.records, encode, optimizer, config, sampler, fitted.left_out)


def with_held_out(
    model: Model,
    evaluation: Evaluation,
    ready: Ready,
    given: PolicyOptimizationConfig | None,
    too_long: TooLong,
    title: str,
) -> tuple[Evaluation, Ready]:
    """The evaluation with an engine, on the records that fit, and widths that hold these too."""
    made = given is None or given.prompt_buckets is None
    fitted = fit_rows(
        evaluation.records,
        lambda record: (ready.encode(record),),
        buckets=(None if made else ready.config.prompt_buckets,),
        positions=longest_prompt(model, ready.sampler),
        batch_size=evaluation.batch_size,
        too_long=too_long,
        names=("prompt",),
    )
    tell_left_out(f"{title}, held out", fitted.left_out, len(evaluation.records))
    widths, widest = ready.config.prompt_buckets, max(fitted.buckets[0])
    if widest > max(widths):
        config = dataclasses.replace(ready.config, prompt_buckets=(*widths, widest))
        ready = ready._replace(config=config)
    engine = evaluation.engine
    if engine is None:
        greedy = dataclasses.replace(ready.sampler, temperature=0.0)
        engine = model_engine(model, greedy)
    return dataclasses.replace(evaluation, records=fitted.records, engine=engine), ready


def prepare_imitation(
    model: Model,
    records: Sequence[Any],
    prompt: PromptFunction,
    completion: str | Callable[[Any], Any] | None,
    optimizer: OptimizerConfig | optax.GradientTransformation | None,
    config: SFTConfig | None,
    too_long: TooLong,
    label: str | Callable[[Any], int] | None = None,
    rows_per_user: int = 1,
) -> Ready:
    """What `imitate` and its plan run with; raises as `prepare_optimization`.

    rows_per_user: where `config.batch_size` counts users.
    """
    config = config or SFTConfig()
    encode = completion_encoder(model.tokenizer, prompt, completion, label)
    parts = 1 if completion is None else 2
    fitted = fit_rows(
        records,
        lambda record: encode(record)[:parts],
        buckets=(config.prompt_buckets, config.completion_buckets)[:parts],
        positions=model.policy.config.max_positions,
        batch_size=config.batch_size * rows_per_user,
        too_long=too_long,
        names=("prompt", "completion")[:parts],
    )
    prompts, completions = (*fitted.buckets, ())[:2]
    config = dataclasses.replace(config, prompt_buckets=prompts, completion_buckets=completions)
    rate = _WHOLE_IMITATION_RATE if model.policy.trained is None else _ADAPTER_IMITATION_RATE
    optimizer = optimizer or OptimizerConfig(learning_rate=rate)
    return Ready(fitted.records, encode, optimizer, config, None, fitted.left_out)


def shared_batches(
    records: Sequence[Any], mesh: jax.sharding.Mesh, batch_size: int, seed: int, **options: Any
) -> RecordIterator:
    """This process's share of `record_batches`, which `options` are for."""
    index, count = process_share(mesh)
    return record_batches(
        records,
        batch_size=batch_size,
        seed=seed,
        process_index=index,
        process_count=count,
        **options,
    )


def imitation_batches(
    ready: Ready,
    mesh: jax.sharding.Mesh,
    per_label: Mapping[int, int] | None,
    labelled: bool,
    users: UserClipping | None,
    seed: int,
) -> RecordIterator:
    """This process's share of batches: of the records in their own order, of like widths, with so
    many of each label, or of users.

    Raises UserError for counts of labels that do not add up, for two ways to compose a batch, and
    as these batches do.
    """
    if per_label is None and users is None:
        batch_size = ready.config.batch_size
        return shared_batches(ready.records, mesh, batch_size, seed, **_sorting(ready))
    if ready.config.sort_batches > 1:
        other = "users" if per_label is None else "per_label"
        raise UserError(f"{other} and sort_batches both compose batches; give one of them")
    if users is not None:
        return _batches_of_users(ready, mesh, users, seed)
    if not labelled:
        raise UserError("per_label counts records by their label; give label= as well")
    if sum(per_label.values()) != ready.config.batch_size:
        raise UserError(
            f"per_label {dict(per_label)} has {sum(per_label.values())} records together, and "
            f"batch_size is {ready.config.batch_size}; make them equal"
        )
    index, count = process_share(mesh)
    return balanced_batches(
        ready.records,
        classes=[ready.encode(record)[2] for record in ready.records],
        counts=per_label,
        seed=seed,
        process_index=index,
        process_count=count,
    )


def _batches_of_users(
    ready: Ready, mesh: jax.sharding.Mesh, users: UserClipping, seed: int
) -> RecordIterator:
    read, owners = record_reader(users.user, "user"), []
    for number, record in enumerate(ready.records):
        try:
            owners.append(read(record))
            hash(owners[-1])
        except (UserError, TypeError, KeyError) as error:
            raise UserError(f"record {number} has no usable user: {error}") from error
    index, count = process_share(mesh)
    return user_batches(
        ready.records,
        users=owners,
        expected_users=ready.config.batch_size,
        rows_per_user=users.rows_per_user,
        seed=seed,
        shards=batch_shards(mesh),
        users_at_once=users.users_at_once,
        process_index=index,
        process_count=count,
    )


def _sorting(ready: Ready) -> dict[str, Any]:
    """Arguments of `record_batches` that sort records by their padded widths, if they are to be."""
    config = ready.config
    if config.sort_batches == 1:
        return {}
    buckets = [widths for widths in (config.prompt_buckets, config.completion_buckets) if widths]
    padded = [
        tuple(bucket_for(len(row), widths) for row, widths in zip(ready.encode(record), buckets))
        for record in ready.records
    ]
    # Prompts first: one wide prompt widens all rows of its batch.
    ranks = {widths: rank for rank, widths in enumerate(sorted(set(padded)))}
    keys = [ranks[widths] for widths in padded]
    return {"sort_keys": keys, "sort_batches": config.sort_batches}


def tell_left_out(title: str, left_out: int, total: int) -> None:
    """Says on standard error how many records a run leaves out, if any."""
    if left_out and jax.process_index() == 0:
        Console(stderr=True).print(
            f"{title}: {left_out} of {total} records are too long and are left out",
            highlight=False,
            soft_wrap=True,
        )
