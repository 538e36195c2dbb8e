"""Supervised fine-tuning: the token mean of the negative log-likelihood of given completions, or
any loss of prompts, completions and labels.

First the step, then the loop over it, from records to a trained state.
"""

import functools
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import chex
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from gdpo_jax.data import RecordIterator
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics, join_metrics
from gdpo_jax.policies import Policy, completion_log_probs, trained_part
from gdpo_jax.training.checks import check_state, widths_before
from gdpo_jax.training.config import SFTConfig, json_tree, qualified_name
from gdpo_jax.training.feeding import next_encoded, pad_together
from gdpo_jax.training.mesh import (
    DEFAULT_RULES,
    ShardingRules,
    check_batch,
    placed,
    to_global,
)
from gdpo_jax.training.optimizers import OptimizerConfig, as_optimizer, describe_optimizer
from gdpo_jax.training.processes import agreed_maximum, together
from gdpo_jax.training.run import Pending, Run
from gdpo_jax.training.state import (
    TrainState,
    compile_step,
    state_shardings,
    with_frozen,
    without_frozen,
)
from gdpo_jax.training.update import accumulated_gradients, guarded_update

AnyArray = Array | np.ndarray


@chex.dataclass(frozen=True)
class SFTBatch:
    """Prompts and the completions to imitate, both padded on the right; `completion_mask` marks
    tokens that are learned, the stop token included. labels: of records that have one."""

    prompts: Int[AnyArray, "B P"]
    prompt_lengths: Int[AnyArray, "B"]
    completions: Int[AnyArray, "B C"]
    completion_mask: Bool[AnyArray, "B C"]
    labels: Int[AnyArray, "B"] | None = None


# `loss(policy, params, batch)`: a scalar, or a scalar and Metrics. It must be hashable, so that the
# same loss gives the same program: a function, or a frozen dataclass with `__call__`.
Loss = Callable[[Policy, Any, SFTBatch], Any]
SFTStep = Callable[[TrainState, SFTBatch], tuple[TrainState, Metrics]]


@functools.lru_cache(maxsize=64)
def make_sft_step(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh,
    rules: ShardingRules = DEFAULT_RULES,
    accumulation_steps: int = 1,
    layout: str = "shared",
    chunk: int | None = 16,
    loss: Loss | None = None,
) -> SFTStep:
    """`step(state, batch) -> (state, metrics)`, jitted over the mesh; what is trained of `state` is
    donated.

    The same arguments give the same program, which a second run in this process need not compile.

    loss: in place of the negative log-likelihood, `loss(policy, params, batch)`: a scalar, or a
    scalar and `Metrics`. Over micro-batches the mean is taken, so that a loss of pairs sees those
    within a micro-batch. `layout` and `chunk` are then without effect.

    Metrics: `loss` (in nats per token over the whole batch), `tokens`, `grad_norm`, `update_norm`,
    `healthy`, and those of the loss. `step.lower` is that of `jax.jit` (`dry_run.py`).

    Raises (when called): UserError if the batch does not divide.
    """
    shardings = state_shardings(policy, optimizer, mesh=mesh, rules=rules)
    policy = placed(policy, mesh, rules, params=shardings.params)

    def step(trained: TrainState, frozen: Any, batch: SFTBatch) -> tuple[TrainState, Metrics]:
        state = with_frozen(policy, trained, frozen)
        tokens = jnp.sum(batch.completion_mask, dtype=jnp.float32)

        def own_loss(params, micro):
            return _share_of(loss(policy, params, micro), accumulation_steps)

        def likelihood(params, micro):
            log_probs, _ = completion_log_probs(
                policy,
                params,
                micro.prompts,
                micro.prompt_lengths,
                micro.completions[:, None],
                micro.completion_mask[:, None],
                layout=layout,
                chunk=chunk,
                with_entropy=False,
            )
            return -jnp.sum(log_probs) / jnp.maximum(tokens, 1.0), Metrics()

        grads, metrics = accumulated_gradients(
            policy,
            likelihood if loss is None else own_loss,
            state.params,
            batch,
            steps=accumulation_steps,
            mesh=mesh,
        )
        if loss is not None:
            tokens = tokens + jnp.sum(batch.prompt_lengths).astype(jnp.float32)
        metrics = join_metrics(metrics, Metrics(sums={"tokens": tokens}))
        state, metrics = guarded_update(policy, state, optimizer, grads, metrics)
        return without_frozen(policy, state), metrics

    compiled = compile_step(policy, step, shardings, mesh)

    def checked(state: TrainState, batch: SFTBatch) -> tuple[TrainState, Metrics]:
        check_batch(batch.prompts.shape[0], mesh, parts=accumulation_steps, what="SFT batch")
        return compiled(state, batch)

    checked.lower = compiled.lower
    return checked


def _share_of(found: Any, parts: int) -> tuple[Array, Metrics]:
    """A micro-batch's share of the mean over `parts` of them, of what a loss of one's own gave."""
    value, metrics = found if isinstance(found, tuple) else (found, Metrics())
    if jnp.shape(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise UserError(
            f"the loss gave {jnp.result_type(value)} of shape {jnp.shape(value)}; it must give a "
            "float scalar, or one and Metrics"
        )
    if not isinstance(metrics, Metrics):
        raise UserError(f"the loss gave a {type(metrics).__name__} beside the scalar, not Metrics")
    sums = {name: part / parts for name, part in metrics.sums.items()}
    return value / parts, metrics.replace(sums=sums)


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
    loss: Loss | None = None,
) -> TrainState:
    """Imitate completions: `encode(record)` gives the token ids of a prompt and of its completion,
    and a label (a whole number) where a loss reads one.

    loss: in place of the negative log-likelihood (`make_sft_step`). With one, `encode` may give
    empty completions, and `config.completion_buckets` is then (). It belongs to what a continuation
    must share.

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
    together(lambda: check_batch(config.batch_size, mesh, parts=parts, what="batch_size"))
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
    )
    trained = trained_part(policy, state.params)
    described = {**(identity or {}), "optimizer": describe_optimizer(optimizer, trained)}
    if loss is not None:
        described["loss"] = {"name": qualified_name(loss), "options": json_tree(loss)}
    about = {"identity": json_tree(described), "columns": _COLUMNS}
    vocab_size = policy.config.vocab_size
    with Run(title, workdir, config, policy, state, records, **about) as run:
        state = run.state
        for number in range(run.start_step, config.steps):
            position = records.get_state()
            with run.keeping(number, state, position):
                _, examples = next_encoded(
                    records,
                    lambda record: _as_example(encode(record)),
                    batch_size=config.batch_size,
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
                labels = together(functools.partial(_labels, [label for *_, label in examples]))
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


def _with_step(
    on_step: Callable[[int, Mapping[str, float]], None], step: int
) -> Callable[[Mapping[str, float]], None]:
    return lambda metrics: on_step(step, metrics)


def _as_example(encoded: Any) -> tuple[Sequence[int], Sequence[int], int | None]:
    text = isinstance(encoded, (str, bytes)) or not hasattr(encoded, "__len__")
    if text or len(encoded) not in (2, 3):
        raise UserError(
            "`encode` must give two lists of token ids, those of the prompt and of the completion, "
            "and may give a label"
        )
    prompt, completion, *label = encoded
    if label and (isinstance(label[0], bool) or not isinstance(label[0], numbers.Integral)):
        raise UserError(f"a label must be a whole number, got {label[0]!r}")
    return prompt, completion, int(label[0]) if label else None


def _labels(labels: Sequence[int | None]) -> Int[np.ndarray, "B"] | None:
    if all(label is None for label in labels):
        return None
    if None in labels:
        raise UserError(
            f"record {labels.index(None)} of the batch has no label, and others have one"
        )
    return np.array(labels, np.int32)


__all__ = ["Loss", "SFTBatch", "SFTStep", "make_sft_step", "run_sft"]
