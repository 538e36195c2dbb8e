"""Every stage in seconds, to see that the pipeline runs; the policy learns nothing of use.

    python -m experiments.saferec reproduce --preset smoke --run-dir runs/smoke

Cost: about two minutes on two cores, most of it compilation. Expect no number of it.
"""

import dataclasses

from experiments.saferec.presets import mini
from experiments.saferec.settings import SupervisedStage

_SHORT = SupervisedStage(
    run=dataclasses.replace(mini.PRESET.sft.run, steps=6, checkpoint_every=3),
    optimizer=dataclasses.replace(mini.PRESET.sft.optimizer, warmup_updates=1, total_updates=6),
)
PRESET = dataclasses.replace(
    mini.PRESET,
    name="smoke",
    decoder=dataclasses.replace(mini.PRESET.decoder, d_model=32, num_layers=1, d_ff=64),
    base=_SHORT,
    sft=_SHORT,
    safe_sft=_SHORT,
    rl=dataclasses.replace(
        mini.PRESET.rl, steps=3, prompts_per_step=8, num_samples=2, checkpoint_every=1
    ),
    samples_every=1,
)
