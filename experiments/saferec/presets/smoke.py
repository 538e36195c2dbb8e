"""Every stage in seconds, to see that the pipeline runs; the policy learns nothing of use.

    python -m experiments.saferec reproduce --preset smoke --run-dir runs/smoke

Cost: about a minute on two cores, most of it compilation. Expect no number of it.
"""

import dataclasses

from experiments.common.runs.settings import Imitation
from experiments.saferec.presets import mini

_SFT, _RL = mini.PRESET.stages["sft"], mini.PRESET.stages["rl"]
_SHORT = Imitation(
    run=dataclasses.replace(_SFT.run, steps=6, checkpoint_every=3),
    optimizer=dataclasses.replace(_SFT.optimizer, warmup_updates=1, total_updates=6),
)
_RUN = dataclasses.replace(_RL.run, steps=3, prompts_per_step=4, num_samples=2, checkpoint_every=1)
PRESET = dataclasses.replace(
    mini.PRESET,
    name="smoke",
    decoder=dataclasses.replace(mini.PRESET.decoder, d_model=32, num_layers=1, d_ff=64),
    stages={
        **dict.fromkeys(("base", "sft", "safe-sft"), _SHORT),
        "rl": dataclasses.replace(_RL, run=_RUN),
    },
    evaluation_batch=8,
    samples_every=1,
    minutes={},
)
