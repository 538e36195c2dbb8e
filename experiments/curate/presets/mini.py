"""All arms of CURaTe (arXiv 2410.21159) and MIRROR (arXiv 2506.00430) in miniature.

A policy of 0.3M parameters learns from nothing to talk, and then what is dangerous for its user, on
generated dialogues with a control twin each. It stands for the papers' arms, not their numbers.

    python -m experiments.curate reproduce --preset mini [--seeds 3]

Cost: about a quarter of an hour of one CPU core, of which the language stage takes five minutes.
Expect no more than that it runs: this recipe does not teach the policy yet what is dangerous with
what (README.md).
"""

from experiments.common.runs.settings import Imitation, Optimization
from experiments.curate.settings import CuratePreset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

_BUCKETS = (128, 192)


def _imitation(*, steps: int, batch_size: int) -> Imitation:
    return Imitation(
        run=SFTConfig(
            steps=steps,
            batch_size=batch_size,
            prompt_buckets=_BUCKETS,
            completion_buckets=(40,),
            chunk=None,
            checkpoint_every=400,
            log_every=10,
        ),
        # A model this small wants a rate that would break a large one.
        optimizer=OptimizerConfig(
            learning_rate=1e-2,
            warmup_updates=40,
            schedule="cosine",
            total_updates=steps,
            final_fraction=0.05,
            b2=0.98,
            weight_decay=0.01,
        ),
    )


PRESET = CuratePreset(
    name="mini",
    vocab_size=1536,
    max_new_tokens=40,
    decoder=DecoderConfig(
        vocab_size=1536,
        d_model=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        head_dim=16,
        d_ff=192,
        max_positions=232,
        remat="dots",
    ),
    stages={
        "language": _imitation(steps=800, batch_size=32),
        "sft": _imitation(steps=200, batch_size=32),
        "rl": Optimization(
            run=PolicyOptimizationConfig(
                steps=100,
                prompts_per_step=8,
                num_samples=8,
                prompt_buckets=_BUCKETS,
                chunk=8,
                checkpoint_every=50,
            ),
            optimizer=OptimizerConfig(
                learning_rate=2e-3,
                warmup_updates=5,
                schedule="cosine",
                total_updates=100,
                b2=0.98,
            ),
            objective=ObjectiveConfig(kl="k3", kl_coef=0.05, aggregation="dapo"),
        ),
    },
)
