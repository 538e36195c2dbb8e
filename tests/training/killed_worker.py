"""A run in its own process, and one after it that kills the process while it scores: MODEL WORKDIR
[WORKDIR AND STEP TO DIE IN].
"""

import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np

from gdpo_jax import gdpo, open_model, optimize
from gdpo_jax.recipe import sampler_config
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig

RECORDS = [{"prompt": f"List {n} films", "letter": "aeiou"[n % 5]} for n in range(40)]
ESTIMATOR = gdpo({"letters": 1.0, "brief": 0.5})


def letters(completions, records):
    return [c.text.count(r["letter"]) / 8 for c, r in zip(completions, records)]


class Brief:
    """Minus the length of the text; ends the process without notice at its n-th call, as soon as
    there is a checkpoint.
    """

    name = "brief"

    def __init__(self, workdir, die_in=None):
        self.calls, self.die_in, self.checkpoints = 0, die_in, workdir / "checkpoints"

    def __call__(self, completions, records):
        if self.calls == self.die_in:
            while not any(path.name.isdigit() for path in self.checkpoints.iterdir()):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1
        return [-float(len(c.text)) for c in completions]


def run(model, workdir, die_in=None):
    state = optimize(
        model,
        RECORDS,
        rewards=[letters, Brief(workdir, die_in)],
        estimator=ESTIMATOR,
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_updates=2),
        config=PolicyOptimizationConfig(
            steps=5, prompts_per_step=8, num_samples=4, checkpoint_every=2
        ),
        sampler=sampler_config(model, max_new_tokens=6),
        workdir=workdir,
    )
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.opt_state))]
    np.savez(workdir / "final.npz", *leaves)


if __name__ == "__main__":
    model_folder, first, *second = sys.argv[1:]
    model = open_model(model_folder)
    run(model, Path(first))
    if second:
        run(model, Path(second[0]), int(second[1]))
