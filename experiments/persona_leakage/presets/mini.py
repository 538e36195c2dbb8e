"""All arms of persona leakage in miniature.

A policy of 0.3M parameters learns from nothing to answer anybody, then takes on what it says to
each of 24 users. It shows how the arms compare, not how much a language model leaks.

    python -m experiments.persona_leakage reproduce --preset mini [--seeds 5]

Cost: some 10 minutes a seed on two CPU cores, two processes (the Intel machine of
    docs/benchmarks.md).
Expect (mean of 5 seeds, test): without a safeguard 0.48 to 0.60 of strangers' everyday answers (two
    machines) carry a mark of somebody else and 0.36 of those to questions for secrets do; with data
    separation none, and owners recall 0.92 to 0.94. README.md has all arms, the spread, and how the
    recipe was chosen.
"""

from experiments.common.runs.new_policies import new_decoder, new_imitation
from experiments.common.runs.settings import Optimization
from experiments.persona_leakage.learning.adapters import Adaptation
from experiments.persona_leakage.learning.private import PrivateImitation
from experiments.persona_leakage.settings import PersonaPreset
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import LoraConfig
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig, SFTConfig, UserClipping

# The longest prompt, with notes in front of it, the longest request alone, and the longest answer.
_NOTED, _REQUESTS, _ANSWERS = 48, 28, 24
ANSWERED = 64  # tokens of a prompt with notes when an arm is scored, which come in 64s

PRESET = PersonaPreset(
    name="mini",
    vocab_size=1536,
    max_new_tokens=_ANSWERS,
    decoder=new_decoder(vocab_size=1536, max_positions=ANSWERED + _ANSWERS, num_layers=3),
    stages={
        "language": new_imitation(
            steps=800,
            batch_size=64,
            prompt_buckets=(_REQUESTS, _NOTED),
            completion_buckets=(12, _ANSWERS),
            sort_batches=16,
            checkpoint_every=500,
            learning_rate=6e-3,
        ),
        "histories": new_imitation(
            steps=300,
            batch_size=32,
            prompt_buckets=(_REQUESTS,),
            completion_buckets=(_ANSWERS,),
            checkpoint_every=300,
            learning_rate=3e-3,
        ),
        # Eight of 24 users expected in a step, at most four exchanges of each.
        "private": PrivateImitation(
            run=SFTConfig(
                steps=300,
                batch_size=8,
                prompt_buckets=(_REQUESTS,),
                completion_buckets=(_ANSWERS,),
                chunk=None,
                checkpoint_every=300,
                log_every=10,
            ),
            optimizer=OptimizerConfig(
                learning_rate=1e-3,
                warmup_updates=20,
                schedule="cosine",
                total_updates=300,
                b2=0.98,
            ),
            # Noise that guaranteed anything to one of so few users would hide what they teach.
            users=UserClipping(max_norm=0.5, noise=0.08, rows_per_user=4, users_at_once=4),
        ),
        # Of each user some four of his 57 exchanges a step.
        "adapters": Adaptation(
            run=SFTConfig(
                steps=100,
                batch_size=4,
                prompt_buckets=(_REQUESTS,),
                completion_buckets=(_ANSWERS,),
                chunk=None,
                checkpoint_every=100,
                log_every=10,
            ),
            optimizer=OptimizerConfig(
                learning_rate=2e-3,
                warmup_updates=10,
                schedule="cosine",
                total_updates=100,
                b2=0.98,
            ),
            lora=LoraConfig(rank=8),
        ),
        "rl": Optimization(
            run=PolicyOptimizationConfig(
                steps=300,
                prompts_per_step=16,
                num_samples=8,
                # A policy that repeats its histories answers nearly always the same at 1.
                temperature=1.3,
                prompt_buckets=(_REQUESTS,),
                chunk=8,
                checkpoint_every=50,
            ),
            optimizer=OptimizerConfig(
                learning_rate=1e-3,
                warmup_updates=5,
                schedule="cosine",
                total_updates=300,
                b2=0.98,
            ),
            # The reference policy is the one that leaks: close to it nothing would change.
            objective=ObjectiveConfig(
                kl="k3", kl_coef=0.005, entropy_coef=0.02, aggregation="dapo"
            ),
        ),
    },
    weights={"personal": 2.0},
)
