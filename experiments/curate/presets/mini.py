"""All arms of CURaTe (arXiv 2410.21159) and MIRROR (arXiv 2506.00430) in miniature.

A policy of 0.3M parameters learns from nothing to talk, and then what is dangerous for its user, on
generated dialogues with a control twin each. It stands for the papers' arms, not their numbers.

    python -m experiments.curate reproduce --preset mini [--seeds 3]

Cost: about nine minutes a seed on two CPU cores, two processes (three seeds took 25 min 33 s with
    tests beside them, the Intel machine of docs/benchmarks.md).
Expect (mean of 3 seeds, test, pass rate and warnings on controls): base 0.25 and 0.04, MIRROR 0.87
    and 0.18, GRPO 0.96 and 0.09, GDPO 0.97 and 0.10. README.md has the spread, which is large.
"""

import functools

from experiments.common.runs.new_policies import new_decoder, new_imitation
from experiments.common.runs.settings import Optimization
from experiments.curate.settings import CuratePreset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig

_BUCKETS = (96,)  # the longest dialogue has 94 tokens

_imitation = functools.partial(
    new_imitation,
    prompt_buckets=_BUCKETS,
    completion_buckets=(36,),
    checkpoint_every=400,
    learning_rate=4e-3,
)

PRESET = CuratePreset(
    name="mini",
    vocab_size=1536,
    max_new_tokens=36,
    # Twelve in all: whose danger is whose is learnt by comparing each with each.
    hazards=3,
    # Nearly all answers take up the question; what differs there is to count for less.
    weights={"heeds": 1.0, "answers": 0.25, "calm": 1.0},
    decoder=new_decoder(vocab_size=1536, max_positions=228, num_layers=3),
    stages={
        "knowledge": new_imitation(
            steps=600,
            batch_size=64,
            prompt_buckets=(40,),
            completion_buckets=(8,),
            checkpoint_every=500,
            learning_rate=6e-3,
        ),
        "language": _imitation(steps=700, batch_size=32, prompt_buckets=(112,)),
        "sft": _imitation(steps=200, batch_size=32),
        "rl": Optimization(
            run=PolicyOptimizationConfig(
                steps=120,
                prompts_per_step=16,
                num_samples=8,
                prompt_buckets=_BUCKETS,
                chunk=8,
                checkpoint_every=50,
            ),
            optimizer=OptimizerConfig(
                learning_rate=1e-3,
                warmup_updates=5,
                schedule="cosine",
                total_updates=120,
                b2=0.98,
            ),
            objective=ObjectiveConfig(kl="k3", kl_coef=0.1, aggregation="dapo"),
        ),
    },
)
