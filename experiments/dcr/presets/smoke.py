"""Every stage and arm of DCR in a few steps, to see that they work.

    python -m experiments.dcr reproduce --preset smoke

Cost: some two minutes on two CPU cores, most of it compilation. Expect nothing of the numbers.
"""

import dataclasses
from typing import Any

from experiments.common.runs.settings import Optimization
from experiments.dcr.ablation import Ablation
from experiments.dcr.presets import mini
from experiments.dcr.vectors import Steering

_STEPS = 2


def _short(settings: Any) -> Any:
    if isinstance(settings, Ablation):
        return dataclasses.replace(settings, layer=1)
    if isinstance(settings, Steering):
        return settings
    run = {"steps": _STEPS}
    if isinstance(settings, Optimization):
        run |= {"prompts_per_step": 8, "num_samples": 2}
    return dataclasses.replace(
        settings,
        run=dataclasses.replace(settings.run, **run),
        optimizer=dataclasses.replace(settings.optimizer, total_updates=_STEPS, warmup_updates=1),
    )


PRESET = dataclasses.replace(
    mini.PRESET,
    name="smoke",
    max_new_tokens=16,
    triples=60,
    held_out_triples=20,
    general=60,
    refusals=20,
    augmented=10,
    decoder=dataclasses.replace(mini.PRESET.decoder, d_model=32, num_layers=2, d_ff=64),
    stages={
        **{name: _short(settings) for name, settings in mini.PRESET.stages.items()},
        "refine": dataclasses.replace(_short(mini.PRESET.stages["refine"]), layer=1),
    },
    samples_every=1,
)
