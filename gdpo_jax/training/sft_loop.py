"""A supervised run: a straight line from records to a trained state."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optax
from jax.sharding import Mesh

from gdpo_jax.data import RecordIterator
from gdpo_jax.policies import Policy
from gdpo_jax.training.config import SFTConfig
from gdpo_jax.training.feeding import next_encoded, pad_together
from gdpo_jax.training.mesh import DEFAULT_RULES, ShardingRules, check_batch, to_global
from gdpo_jax.training.processes import together
from gdpo_jax.training.run import Pending, Run
from gdpo_jax.training.sft import SFTBatch, make_sft_step
from gdpo_jax.training.state import TrainState

_COLUMNS = (("loss", "loss"), ("gradient", "grad_norm"), ("tokens/s", "tokens_per_second"))


def run_sft(
    policy: Policy,
    state: TrainState,
    *,
    optimizer: optax.GradientTransformation,
    records: RecordIterator,
    encode: Callable[[Any], tuple[Sequence[int], Sequence[int]]],
    pad_id: int,
    config: SFTConfig,
    workdir: str | Path,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    identity: Mapping[str, Any] | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
    title: str = "sft",
) -> TrainState:
    """Imitate completions: `encode(record)` gives the token ids of a prompt and of its completion.

    `records` yields this process's share of `config.batch_size` records. Run again with the same
    `workdir`, it goes on after the last checkpoint. `identity` is what else a continuation must
    share (JSON-like: optimizer, data). `on_step` gets each row of metrics, one step late. `state`
    is donated; use the returned one.

    Raises:
        UserError: sizes that do not divide, a checkpoint of another configuration or a damaged one,
            a record that does not fit a bucket.
        NonFiniteLossError: a loss that is not finite; the state before it is stored first.
    """
    parts = config.accumulation_steps
    together(lambda: check_batch(config.batch_size, mesh, parts=parts, what="batch_size"))
    step = make_sft_step(
        policy,
        optimizer,
        mesh=mesh,
        rules=rules,
        accumulation_steps=config.accumulation_steps,
        layout=config.layout,
        chunk=config.chunk,
    )
    about = {"identity": identity or {}, "columns": _COLUMNS}
    with Run(title, workdir, config, policy, state, records, **about) as run:
        state = run.state
        for number in range(run.start_step, config.steps):
            position = records.get_state()
            with run.keeping(number, state, position):
                _, pairs = next_encoded(records, encode, batch_size=config.batch_size, mesh=mesh)
                prompts, prompt_lengths = pad_together(
                    [prompt for prompt, _ in pairs],
                    config.prompt_buckets,
                    pad_id=pad_id,
                    what="prompt",
                )
                completions, lengths = pad_together(
                    [completion for _, completion in pairs],
                    config.completion_buckets,
                    pad_id=pad_id,
                    what="completion",
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
            run.save_if_due(number + 1, state)
    return state


def _with_step(
    on_step: Callable[[int, Mapping[str, float]], None], step: int
) -> Callable[[Mapping[str, float]], None]:
    return lambda metrics: on_step(step, metrics)
