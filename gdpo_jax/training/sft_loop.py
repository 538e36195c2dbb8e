"""A supervised run: a straight line from records to a trained state."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh

from gdpo_jax.data import RecordIterator
from gdpo_jax.errors import UserError
from gdpo_jax.policies import Policy, trained_part
from gdpo_jax.training.checks import check_positions, check_state
from gdpo_jax.training.config import SFTConfig, json_tree
from gdpo_jax.training.feeding import next_encoded, pad_together
from gdpo_jax.training.mesh import DEFAULT_RULES, ShardingRules, check_batch, to_global
from gdpo_jax.training.optimizers import OptimizerConfig, as_optimizer, describe_optimizer
from gdpo_jax.training.processes import together
from gdpo_jax.training.run import Pending, Run
from gdpo_jax.training.sft import SFTBatch, make_sft_step
from gdpo_jax.training.state import TrainState

_COLUMNS = (("loss", "loss"), ("gradient", "grad_norm"), ("tokens/s", "tokens_per_second"))


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
) -> TrainState:
    """Imitate completions: `encode(record)` gives the token ids of a prompt and of its completion.

    `optimizer` is a configuration, or an optax transformation, with which `state` was created; it
    belongs to what a continuation must share. `records` yields this process's share of
    `config.batch_size` records. Run again with the same `workdir`, it goes on after the last
    checkpoint. `identity` is what else a continuation must share (JSON-like: data). `on_step` gets
    each row of metrics, one step late; `on_state(step, state)` is called as soon as the update of a
    step is dispatched, and the next step donates its arrays. What is trained of `state` is donated;
    use the returned one.

    Raises:
        UserError: sizes that do not divide, buckets beyond the policy's positions, a checkpoint of
            another configuration or a damaged one, a record that cannot be encoded or does not fit
            a bucket.
        NonFiniteLossError: a loss that is not finite; the state before it is stored first.
    """
    parts = config.accumulation_steps
    together(lambda: check_batch(config.batch_size, mesh, parts=parts, what="batch_size"))
    check_positions(policy, "completion_buckets", config.completion_buckets, "a prompt of", 1)
    longest = max(config.completion_buckets)
    check_positions(policy, "prompt_buckets", config.prompt_buckets, "completion_buckets", longest)
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
    )
    trained = trained_part(policy, state.params)
    described = {**(identity or {}), "optimizer": describe_optimizer(optimizer, trained)}
    about = {"identity": json_tree(described), "columns": _COLUMNS}
    vocab_size = policy.config.vocab_size
    with Run(title, workdir, config, policy, state, records, **about) as run:
        state = run.state
        for number in range(run.start_step, config.steps):
            position = records.get_state()
            with run.keeping(number, state, position):
                _, pairs = next_encoded(
                    records,
                    lambda record: _as_pair(encode(record)),
                    batch_size=config.batch_size,
                    mesh=mesh,
                )
                prompts, prompt_lengths = pad_together(
                    [prompt for prompt, _ in pairs],
                    config.prompt_buckets,
                    pad_id=pad_id,
                    what="prompt",
                    vocab_size=vocab_size,
                )
                completions, lengths = pad_together(
                    [completion for _, completion in pairs],
                    config.completion_buckets,
                    pad_id=pad_id,
                    what="completion",
                    vocab_size=vocab_size,
                )
            batch = SFTBatch(
                prompts=prompts,
                prompt_lengths=prompt_lengths,
                completions=completions,
                completion_mask=np.arange(completions.shape[1])[None, :] < lengths[:, None],
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


def _with_step(
    on_step: Callable[[int, Mapping[str, float]], None], step: int
) -> Callable[[Mapping[str, float]], None]:
    return lambda metrics: on_step(step, metrics)


def _as_pair(encoded: Any) -> tuple[Sequence[int], Sequence[int]]:
    if isinstance(encoded, (str, bytes)) or not hasattr(encoded, "__len__") or len(encoded) != 2:
        raise UserError(
            "`encode` must give two lists of token ids, those of the prompt and of the completion"
        )
    prompt, completion = encoded
    return prompt, completion
