"""Every stage and arm of persona leakage in a few steps, to see that they work.

    python -m experiments.persona_leakage reproduce --preset smoke

Cost: some two minutes on two CPU cores, most of it compilation. Expect nothing of the numbers.
"""

import dataclasses

from experiments.common.runs.new_policies import shortened
from experiments.persona_leakage.presets import mini

_STAGES = {name: shortened(settings, steps=2) for name, settings in mini.PRESET.stages.items()}
# Prompts as wide as those that are answered with notes: one program a sampler.
_RUN = dataclasses.replace(_STAGES["rl"].run, prompt_buckets=(mini.ANSWERED,))

PRESET = dataclasses.replace(
    mini.PRESET,
    name="smoke",
    max_new_tokens=8,
    ordinary=3,
    of_each=1,
    sessions=1,
    writers=12,
    lessons=300,
    decoder=dataclasses.replace(mini.PRESET.decoder, d_model=32, num_layers=2, d_ff=64),
    stages={
        **_STAGES,
        # One program for both.
        "histories": _STAGES["language"],
        "rl": dataclasses.replace(_STAGES["rl"], run=_RUN),
    },
    # Of few shapes, whoever is answered by whose adapter.
    evaluation_batch=64,
    samples_every=1,
)
