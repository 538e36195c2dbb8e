"""Every stage and arm of CURaTe in a few steps, to see that they work.

    python -m experiments.curate reproduce --preset smoke

Cost: two minutes on two CPU cores. Expect nothing of the numbers.
"""

import dataclasses

from experiments.common.runs.new_policies import shortened
from experiments.curate.presets import mini

PRESET = dataclasses.replace(
    mini.PRESET,
    name="smoke",
    max_new_tokens=8,
    training_pairs=20,
    test_pairs=4,
    decoder=dataclasses.replace(mini.PRESET.decoder, d_model=32, num_layers=2, d_ff=64),
    stages={name: shortened(settings, steps=2) for name, settings in mini.PRESET.stages.items()},
    minutes={},
)
