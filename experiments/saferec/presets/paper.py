"""What the three settings of the paper share (SafeCRS, arXiv 2603.03536, and its released code).

Supervised: learning rate 5e-5, cosine, warm-up 0.05, bfloat16. Reinforcement learning: 8 prompts of
8 completions a step, rate 1e-6, Adam 0.9 / 0.99, KL 1e-3, clip 0.2 / 0.2, one update a batch,
rewards and ratios of whole answers, TRL's normalize_then_sum, weights of rows that the sampler and
the trainer see more than 3 times apart dropped. Prompts hold 2,048 tokens and answers 1,024.

Where this differs: AdamW keeps its moments in float32 (theirs: 8 bits, paged); supervised rows are
not cut at 1,024 tokens; longer training prompts are left out instead of cut; no dropout.
"""

from experiments.common.runs.settings import Imitation, Optimization
from gdpo_jax.objectives import ObjectiveConfig, SamplerCorrection
from gdpo_jax.policies import LoraConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

PROMPTS = (256, 512, 1024, 2048)
ANSWERS = (256, 512, 1024)
OBJECTIVE = ObjectiveConfig(
    level="sequence",
    clip_low=0.2,
    clip_high=0.2,
    kl="k3",
    kl_coef=1e-3,
    aggregation="dapo",
    correction=SamplerCorrection(level="sequence", mode="mask", highest=3.0),
)


def imitation(*, batch_size: int, planned: int) -> Imitation:
    """800 updates, the checkpoint the authors chose, of a schedule planned for more."""
    return Imitation(
        run=SFTConfig(
            steps=800,
            batch_size=batch_size,
            prompt_buckets=PROMPTS,
            completion_buckets=ANSWERS,
            accumulation_steps=batch_size // 24,
            checkpoint_every=100,
        ),
        optimizer=OptimizerConfig(
            learning_rate=5e-5,
            warmup_updates=round(0.05 * planned),
            schedule="cosine",
            total_updates=planned,
            final_fraction=0.0,
            b2=0.999,
        ),
    )


def reinforcement(
    *, steps: int, drop_at: int | None, lora: LoraConfig | None = None
) -> Optimization:
    """8 prompts with 8 completions each; two epochs over 38,582 prompts are 9,646 steps.

    Rate 1e-6, and 1e-7 from update `drop_at` on if it is given.
    """
    drop = {} if drop_at is None else {"schedule": "drop", "total_updates": drop_at}
    return Optimization(
        run=PolicyOptimizationConfig(
            steps=steps,
            prompts_per_step=8,
            num_samples=8,
            prompt_buckets=PROMPTS,
            checkpoint_every=100,
        ),
        optimizer=OptimizerConfig(learning_rate=1e-6, b1=0.9, b2=0.99, **drop),
        objective=OBJECTIVE,
        lora=lora,
    )
