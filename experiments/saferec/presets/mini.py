"""The main job: Safe-SFT, then Safe-GDPO (SafeCRS, arXiv 2603.03536), in miniature.

A policy of 0.3M parameters learns the embedded SafeRec from nothing on two CPU cores. It stands for
the paper's Qwen2.5-0.5B and Llama 3 runs: their stages, rewards and arms, not their numbers.

    python -m experiments.saferec reproduce --preset mini [--seeds 5]

Cost: 7 min 30 s a seed on two quiet CPU cores, two processes (AMD EPYC of family 25; 9 min 35 s on
    the Intel machine of docs/benchmarks.md).
Expect (mean of 5 seeds, test): Safe-GDPO Recall@10 0.127, NDCG@10 0.094, SVR@10 0.011;
    Safe-SFT 0.115, 0.084, 0.125; relevance-only RL's SVR@10 0.475. README.md has the spread.
Variations: `--level sequence` for one advantage an answer; `rl --arm NAME` for one arm alone.
"""

import functools

from experiments.common.runs.new_policies import new_decoder, new_imitation
from experiments.common.runs.settings import Optimization
from experiments.saferec.settings import SafeRecPreset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig

_imitation = functools.partial(
    new_imitation, prompt_buckets=(80,), completion_buckets=(20, 60), checkpoint_every=300
)

PRESET = SafeRecPreset(
    name="mini",
    vocab_size=1536,
    # 640 of the tokens: an answer is a third shorter, and its title is one choice.
    whole_titles=True,
    risks_shown=1,
    max_new_tokens=60,
    decoder=new_decoder(vocab_size=1536, max_positions=140),
    stages={
        "base": _imitation(steps=1200, batch_size=32),
        "sft": _imitation(steps=700, batch_size=16),
        "safe-sft": _imitation(steps=1300, batch_size=16),
        "rl": Optimization(
            run=PolicyOptimizationConfig(
                steps=360,
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
                total_updates=360,
                b2=0.98,
            ),
            # Strong enough that the policy keeps reading the wishes: safe films that suit nobody
            # are the short way to few violations.
            objective=ObjectiveConfig(level="segment", kl="k3", kl_coef=0.25, aggregation="dapo"),
        ),
    },
    level="rank",
    minutes={
        "base": 1.6,
        "sft": 0.9,
        "relevance-rl": 1.9,
        "safe-sft": 1.5,
        "safe-grpo": 1.9,
        "safe-gdpo-no-count": 1.9,
        "safe-gdpo": 2.1,
    },
    weights={"relevance": 1.75, "safety": 1.75, "count": 0.75},
)
