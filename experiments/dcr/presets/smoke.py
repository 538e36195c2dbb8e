"""Every stage and arm of DCR in a few steps, to see that they work.

    python -m experiments.dcr reproduce --preset smoke

Cost: some two minutes on two CPU cores, most of it compilation. Expect nothing of the numbers.
"""

import dataclasses

from experiments.common.runs.new_policies import shortened
from experiments.dcr.ablation import Ablation
from experiments.dcr.presets import mini

_STEPS = 2
_STAGES = mini.PRESET.stages

PRESET = dataclasses.replace(
    mini.PRESET,
    name="smoke",
    max_new_tokens=8,
    triples=60,
    held_out_triples=12,
    general=60,
    refusals=20,
    augmented=10,
    decoder=dataclasses.replace(mini.PRESET.decoder, d_model=32, num_layers=2, d_ff=64),
    stages={
        # One program for both.
        **dict.fromkeys(("language", "sft"), shortened(_STAGES["language"], steps=_STEPS)),
        "rl": shortened(_STAGES["rl"], steps=_STEPS),
        "refine": dataclasses.replace(shortened(_STAGES["refine"], steps=_STEPS), layer=1),
        "steer": _STAGES["steer"],
        "ablate": Ablation(layer=1),
    },
    # Of one shape, however many answers are steered one way.
    evaluation_batch=8,
    samples_every=1,
)
