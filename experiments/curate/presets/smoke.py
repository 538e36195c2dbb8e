"""Every stage and arm of CURaTe in a few steps, to see that they work.

    python -m experiments.curate reproduce --preset smoke

Cost: two minutes on two CPU cores. Expect nothing of the numbers.
"""

import dataclasses

from experiments.common.runs.settings import Imitation, Optimization
from experiments.curate.presets import mini

_STEPS = 2


def _short(settings: Imitation | Optimization) -> Imitation | Optimization:
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
    max_new_tokens=12,
    training_pairs=20,
    test_pairs=4,
    stages={name: _short(settings) for name, settings in mini.PRESET.stages.items()},
    minutes={},
)
