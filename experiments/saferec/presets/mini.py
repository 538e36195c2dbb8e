"""The main job: Safe-SFT, then Safe-GDPO (SafeCRS, arXiv 2603.03536), in miniature.

A policy of 0.3M parameters learns the embedded SafeRec from nothing on two CPU cores. It stands for
the paper's Qwen2.5-0.5B and Llama 3 runs: their stages, rewards and arms, not their numbers.

    python -m experiments.saferec reproduce --preset mini [--seeds 5]

Cost: about 14 minutes a seed on two CPU cores.
Expect (mean of 5 seeds, test): Safe-GDPO Recall@10 0.131, NDCG@10 0.116, SVR@10 0.010;
    Safe-SFT 0.118, 0.084, 0.137; relevance-only RL's SVR@10 0.434. README.md has the spread.
Variations: `--level sequence` for one advantage an answer; `rl --arm NAME` for one arm alone.
"""

from experiments.common.runs.settings import Imitation, Optimization
from experiments.saferec.settings import SafeRecPreset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig


def _imitation(*, steps: int, learning_rate: float, batch_size: int = 16) -> Imitation:
    return Imitation(
        run=SFTConfig(
            steps=steps,
            batch_size=batch_size,
            prompt_buckets=(80,),
            completion_buckets=(28, 88),
            chunk=None,
            checkpoint_every=300,
            log_every=10,
        ),
        # A model this small wants a rate that would break a large one.
        optimizer=OptimizerConfig(
            learning_rate=learning_rate,
            warmup_updates=40,
            schedule="cosine",
            total_updates=steps,
            final_fraction=0.05,
            b2=0.98,
            weight_decay=0.01,
        ),
    )


PRESET = SafeRecPreset(
    name="mini",
    vocab_size=2048,
    risks_shown=1,
    max_new_tokens=88,
    decoder=DecoderConfig(
        vocab_size=2048,
        d_model=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        head_dim=16,
        d_ff=192,
        max_positions=168,
        remat="dots",
    ),
    stages={
        "base": _imitation(steps=1200, learning_rate=1e-2, batch_size=32),
        "sft": _imitation(steps=700, learning_rate=1e-2),
        "safe-sft": _imitation(steps=1150, learning_rate=1e-2),
        "rl": Optimization(
            run=PolicyOptimizationConfig(
                steps=280,
                prompts_per_step=8,
                num_samples=8,
                prompt_buckets=(80,),
                chunk=8,
                checkpoint_every=50,
            ),
            optimizer=OptimizerConfig(
                learning_rate=4e-3,
                warmup_updates=5,
                schedule="cosine",
                total_updates=280,
                b2=0.98,
            ),
            # Strong enough that the policy keeps reading the wishes: safe films that suit nobody
            # are the short way to few violations.
            objective=ObjectiveConfig(level="segment", kl="k3", kl_coef=0.25, aggregation="dapo"),
        ),
    },
    level="rank",
    weights={"relevance": 1.5, "safety": 1.5, "count": 0.75},
)
