"""All arms of DCR (arXiv 2603.03323) in miniature.

A policy of 0.3M parameters learns from nothing to comply with everything, and then what to refuse,
on generated triples. It stands for the paper's arms, not their numbers.

    python -m experiments.dcr reproduce --preset mini [--seeds 5]

Cost: about six minutes a seed on two CPU cores, two processes (five seeds took 30 minutes with
    other work beside them, the Intel machine of docs/benchmarks.md).
Expect (mean of 5 seeds, test, compliance with what only looks toxic and refusal of what is): safety
    tuning 0.73 and 0.98, with augmentation 0.91 and 0.98, DCR 0.92 and 0.98, GDPO after DCR 0.96
    and 0.96. README.md has the spread.
"""

import functools

from experiments.common.runs.new_policies import new_decoder, new_imitation
from experiments.common.runs.settings import Optimization
from experiments.dcr.ablation import Ablation
from experiments.dcr.refinement import Refinement
from experiments.dcr.refusal_vectors import Steering
from experiments.dcr.settings import DcrPreset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig

# The longest prompt and the longest answer.
_PROMPTS, _ANSWERS = 24, 32

_imitation = functools.partial(
    new_imitation,
    # Half of the rows are half as long.
    prompt_buckets=(16, _PROMPTS),
    completion_buckets=(16, _ANSWERS),
    sort_batches=16,
    checkpoint_every=400,
)

PRESET = DcrPreset(
    name="mini",
    vocab_size=1536,
    max_new_tokens=_ANSWERS,
    decoder=new_decoder(vocab_size=1536, max_positions=_PROMPTS + _ANSWERS, num_layers=4),
    stages={
        "language": _imitation(steps=600, batch_size=64),
        "refine": Refinement(
            layer=3,
            run=SFTConfig(
                steps=150,
                batch_size=32,
                prompt_buckets=(_PROMPTS,),
                completion_buckets=(),
                checkpoint_every=150,
                log_every=10,
            ),
            # All parameters of a model this small want a higher rate than a language model's.
            optimizer=OptimizerConfig(
                learning_rate=3e-3,
                warmup_updates=10,
                schedule="cosine",
                total_updates=150,
                b2=0.98,
            ),
            seeming=16,
            toxic=16,
        ),
        "steer": Steering(),
        "ablate": Ablation(layer=2),
        "sft": _imitation(steps=200, batch_size=32, learning_rate=3e-3),
        "rl": Optimization(
            run=PolicyOptimizationConfig(
                steps=100,
                prompts_per_step=8,
                num_samples=8,
                prompt_buckets=(_PROMPTS,),
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
