#!/usr/bin/env python
"""The whole step, sample, score and update, against the GRPO learner of google-tunix 0.1.7.

    pip install -e '.[bench-tunix]'
    python scripts/bench_tunix.py [--models tiny 30m] [--rounds 2]

The extra wants an environment of its own: Tunix 0.1.7 needs safetensors before 0.8, the extra
`models` a later one. What is compared, and how, is as in bench_trl.py: one folder of random
weights, the same prompts, as many completion tokens without a stop token, the same two reward
functions, one AdamW step with the gradient clipped by its norm, the same cores, processes of their
own in alternation, medians without each round's first step, and the log-probs of the same tokens.
Both sides run on the same JAX.

Tunix has no GDPO: it adds the two rewards up and normalises the sum, as GRPO does. Its settings:
its Llama 3 in float32, its own sampler ("vanilla") with a cache of just the length of a row, all
tokens drawn from at temperature 1 and no log-probs kept, weights shared between sampler and
trainer, beta=0 and no reference model, no recomputation of activations, the whole batch in one
micro-batch, no backend for its metrics. JAX recomputes all but the products with weights. The
learner computes each prompt once for every completion; the JAX side once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from bench_sides import (
    REWARDS,
    Clock,
    Options,
    main,
    peak_bytes,
    prompt_texts,
    result_of,
    scored_rows,
)

# Tunix's Llama takes this base of its rotary angles, whatever its configuration says.
FIELDS = {"rope_theta": 1_000_000.0}


@dataclass(frozen=True)
class TunixOptions(Options):
    dtype: Literal["float32"] = "float32"  # of products; Tunix's Llama has no other


class Tokenizer:
    """The tokenizer of the folder with the methods that Tunix asks for.

    unused: a token id that is no token's, which then neither ends nor hides one that was sampled.
    """

    def __init__(self, tokenizer: Any, *, unused: int):
        self._tokenizer, self._unused = tokenizer, unused

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids)

    def bos_id(self) -> None:
        return None

    def eos_id(self) -> int:
        return self._unused

    def pad_id(self) -> int:
        return self._unused


def run_tunix(folder: Path, options: Options) -> dict[str, Any]:
    """Steps of `GRPOLearner`."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx
    from tunix.models.llama3.model import ModelConfig
    from tunix.models.llama3.params import create_model_from_safe_tensors
    from tunix.rl.common import compute_per_token_logps
    from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
    from tunix.rl.rl_cluster import ClusterConfig, RLCluster, RLTrainingConfig, Role
    from tunix.rl.rollout.base_rollout import RolloutConfig

    from gdpo_jax.policies import open_pretrained

    opened = open_pretrained(folder)
    sizes, tokenizer = opened.config, opened.tokenizer()
    config = ModelConfig(
        num_layers=sizes.num_layers,
        vocab_size=sizes.vocab_size,
        embed_dim=sizes.d_model,
        hidden_dim=sizes.d_ff,
        num_heads=sizes.num_heads,
        head_dim=sizes.head_dim,
        num_kv_heads=sizes.num_kv_heads,
        rope_theta=int(sizes.rope_theta),
        norm_eps=sizes.norm_eps,
        weight_tying=sizes.tie_embeddings,
    )
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    with mesh:
        model = create_model_from_safe_tensors(str(folder), config, mesh, dtype=jnp.float32)
    texts = prompt_texts(options)
    few, half = scored_rows(np.array([tokenizer.encode(text) for text in texts], np.int32), options)
    unused = sizes.vocab_size
    log_probs = compute_per_token_logps(
        *nnx.split(model), few[:, :half], few[:, half:], pad_id=unused, eos_id=unused
    )
    scored = float(jnp.mean(log_probs))

    longest = options.prompt_length + options.completion_length
    cluster = RLCluster(
        actor=model,
        tokenizer=Tokenizer(tokenizer, unused=unused),
        cluster_config=ClusterConfig(
            role_to_mesh={role: mesh for role in (Role.ACTOR, Role.ROLLOUT, Role.REFERENCE)},
            training_config=RLTrainingConfig(
                actor_optimizer=optax.chain(
                    optax.clip_by_global_norm(1.0), optax.adamw(1e-6, b2=0.95, weight_decay=0.0)
                ),
                # One more than is measured: a step has ended when the next one asks for prompts.
                max_steps=options.steps + 1,
                eval_every_n_steps=options.steps + 2,
            ),
            rollout_config=RolloutConfig(
                max_tokens_to_generate=options.completion_length,
                max_prompt_length=options.prompt_length,
                kv_cache_size=longest,
                temperature=1.0,
            ),
        ),
    )
    clock, lengths = Clock(), []
    cluster.with_external_metrics_logger(
        lambda logged: lengths.extend(logged.metrics.get("completions/min_length", [[]])[0])
    )

    def reward(function):
        def named(prompts, completions, **others):
            return function(completions)

        named.__name__ = function.__name__
        return named

    def batches() -> Iterator[dict[str, list[str]]]:
        order = np.random.default_rng(0).permutation(len(texts))
        for start in range(0, len(order), options.prompts):
            rows = order[start : start + options.prompts]
            yield {"prompts": np.array([texts[row] for row in rows])}
            clock.tick()

    learner = GRPOLearner(
        rl_cluster=cluster,
        algo_config=GRPOConfig(num_generations=options.num_samples, beta=0.0),
        reward_fns=[reward(function) for function in REWARDS],
    )
    learner.train(batches())
    assert min(lengths) == options.completion_length
    assert len(clock.ended) == options.steps
    return result_of(clock, scored, peak_bytes())


if __name__ == "__main__":
    main(__file__, "tunix", run_tunix, tyro.cli(TunixOptions), FIELDS)
