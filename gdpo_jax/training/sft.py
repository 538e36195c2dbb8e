"""Supervised fine-tuning: the loop over `make_sft_step`, from records to a trained state."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh

from gdpo_jax.data import RecordIterator
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.training.checks import check_state, widths_before
from gdpo_jax.training.config import SFTConfig, json_tree, qualified_name
from gdpo_jax.training.feeding import as_example, label_array, next_encoded, pad_together
from gdpo_jax.training.mesh import DEFAULT_RULES, ShardingRules, check_batch, to_global
from gdpo_jax.training.optimizers import OptimizerConfig, as_optimizer, describe_optimizer
from gdpo_jax.training.processes import agreed_maximum, together
from gdpo_jax.training.run import Pending, Run
from gdpo_jax.training.sft_step import Loss, SFTBatch, make_sft_step
from gdpo_jax.training.state import TrainState
from gdpo_jax.training.user_clipping import UserClipping

_COLUMNS = (("loss", "loss"), ("gradient", "grad_norm"), ("tokens/s", "tokens_per_second"))
_USER_COLUMNS = (("users", "users"), ("clipped", "clipped_share"))
_NOTHING = ((0,), (0,), None)  # the row of a place that has no record


def run_sft(
    policy: Policy,
    state: TrainState,
    *,
    optimizer: OptimizerConfig | optax.GradientTransformation,
    records: RecordIterator,
    encode: Callable[[Any], tuple[Sequence[int], Sequence[int]]],
    pad_id: int,
    config: SFTConfig,
    workdir: str | Path,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    identity: Mapping[str, Any] | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    on_state: Callable[[int, TrainState], None] | None = None,
    title: str = "sft",
    loss: Loss | None = None,
    users: UserClipping | None = None,
) -> TrainState:
    """Imitate completions: `encode(record)` gives the token ids of a prompt and of its completion,
    and a label (a whole number) where a loss reads one.

    loss: in place of the negative log-likelihood (`make_sft_step`). With one, `encode` may give
    empty completions, and `config.completion_buckets` is then (). It belongs to what a continuation
    must share.

    users: clip the gradient of each user and add noise (`make_sft_step`). `records` are then those
    of `user_batches`, and `config.batch_size` is the number of users expected in a step.

    `optimizer` is a configuration, or an optax transformation, with which `state` was created; it
    belongs to what a continuation must share. `records` yields this process's share of
    `config.batch_size` records. Run again with the same `workdir`, it goes on after the last
    checkpoint. `identity` is what else a continuation must share (JSON-like: data). `on_step` gets
    each row of metrics, one step late; `on_state(step, state)` is called as soon as the update of a
    step is dispatched, and the next step donates its arrays. What is trained of `state` is donated;
    use the returned one.

    Raises:
        UserError: sizes that do not divide, records without completions for the likelihood,
            buckets beyond the policy's positions, a checkpoint of another configuration or a
            damaged one, a record that cannot be encoded or does not fit a bucket.
        NonFiniteLossError: a loss that is not finite; the state before it is stored first.
    """
    parts = config.accumulation_steps
    if users is None:
        together(lambda: check_batch(config.batch_size, mesh, parts=parts, what="batch_size"))
    elif loss is not None or parts > 1:
        raise UserError(
            "users= clips gradients of the likelihood, a few users at a time; leave loss= out and "
            "accumulation_steps at 1, and set users_at_once for memory"
        )
    if loss is None and config.completion_buckets == ():
        raise UserError("completion_buckets=() is for prompts alone, which only a loss= can learn")
    for buckets in (config.prompt_buckets, config.completion_buckets):
        widths_before(policy, buckets, 1)
    optimizer = as_optimizer(optimizer)
    check_state(policy, state, optimizer)
    step = make_sft_step(
        policy,
        optimizer,
        mesh=mesh,
        rules=rules,
        accumulation_steps=config.accumulation_steps,
        layout=config.layout,
        chunk=config.chunk,
        loss=loss,
        users=users,
        expected_users=1 if users is None else config.batch_size,
    )
    trained = trained_part(policy, state.params)
    described = {**(identity or {}), "optimizer": describe_optimizer(optimizer, trained)}
    if loss is not None:
        described["loss"] = {"name": qualified_name(loss), "options": json_tree(loss)}
    if users is not None:
        described["users"] = users.identity()
    columns = _COLUMNS if users is None else (*_COLUMNS, *_USER_COLUMNS)
    about = {"identity": json_tree(described), "columns": columns}
    vocab_size = policy.config.vocab_size
    with Run(title, workdir, config, policy, state, records, **about) as run:
        state = run.state
        for number in range(run.start_step, config.steps):
            position = records.get_state()
            with run.keeping(number, state, position):
                _, examples = next_encoded(
                    records,
                    lambda record: _example(encode, record, users),
                    batch_size=config.batch_size if users is None else None,
                    mesh=mesh,
                )
                longest = agreed_maximum(max(len(prompt) for prompt, _, _ in examples))
                if config.completion_buckets:
                    completions, lengths = pad_together(
                        [completion for _, completion, _ in examples],
                        widths_before(policy, config.completion_buckets, longest),
                        pad_id=pad_id,
                        what="completion",
                        vocab_size=vocab_size,
                    )
                else:
                    completions = np.zeros((len(examples), 0), np.int32)
                    lengths = np.zeros(len(examples), np.int32)
                prompts, prompt_lengths = pad_together(
                    [prompt for prompt, _, _ in examples],
                    widths_before(policy, config.prompt_buckets, completions.shape[1]),
                    pad_id=pad_id,
                    what="prompt",
                    vocab_size=vocab_size,
                )
                labels = together(functools.partial(label_array, [e[2] for e in examples]))
                # Of the rows that stand where a user has fewer, no token is learned.
                lengths = np.where([e is _NOTHING for e in examples], 0, lengths)
            batch = SFTBatch(
                prompts=prompts,
                prompt_lengths=prompt_lengths,
                completions=completions,
                completion_mask=np.arange(completions.shape[1])[None, :] < lengths[:, None],
                labels=labels,
            )
            state, metrics = step(state, to_global(batch, mesh))
            run.settle(state)
            then = None if on_step is None else _with_step(on_step, number)
            run.dispatched(Pending(number, position, [metrics], then=then))
            if on_state is not None:
                with run.keeping(number + 1, state, records.get_state()):
                    on_state(number, state)
            run.save_if_due(number + 1, state)
    return state


def _example(
    encode: Callable[[Any], Any], record: Any, users: UserClipping | None
) -> tuple[Sequence[int], Sequence[int], int | None]:
    if record is None and users is not None:
        return _NOTHING
    return as_example(encode(record))


def _with_step(
    on_step: Callable[[int, Mapping[str, float]], None], step: int
) -> Callable[[Mapping[str, float]], None]:
    return lambda metrics: on_step(step, metrics)


__all__ = ["run_sft"]
