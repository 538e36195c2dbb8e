"""Every stage and arm of CURaTe in a few steps, to see that they work.

    python -m experiments.curate reproduce --preset smoke

Cost: two minutes on two CPU cores. Expect nothing of the numbers.
"""

import dataclasses

from experiments.common.runs.new_policies import shortened
from experiments.curate.presets import mini

_LANGUAGE = shortened(mini.PRESET.stages["language"], steps=2)
_RL = shortened(mini.PRESET.stages["rl"], steps=2)
# Prompts as wide as the longest that MIRROR makes: one program for all answers of an arm.
_RUN = dataclasses.replace(_RL.run, prompt_buckets=(192,))

PRESET = dataclasses.replace(
    mini.PRESET,
    name="smoke",
    max_new_tokens=8,
    training_pairs=20,
    test_pairs=4,
    decoder=dataclasses.replace(mini.PRESET.decoder, d_model=32, num_layers=2, d_ff=64),
    stages={
        # One program for all of them.
        **dict.fromkeys(("knowledge", "language", "sft"), _LANGUAGE),
        "rl": dataclasses.replace(_RL, run=_RUN),
    },
    evaluation_batch=8,
    minutes={},
)
