"""A run in its own process that may kill itself while it scores: MODEL WORKDIR [STEP TO DIE IN]."""

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np

from gdpo_jax import gdpo, open_model, optimize
from gdpo_jax.recipe import sampler_config
from gdpo_jax.training import OptimizerConfig, PolicyOptimizationConfig

RECORDS = [{"prompt": f"List {n} films", "letter": "aeiou"[n % 5]} for n in range(40)]


def letters(completions, records):
    return [c.text.count(r["letter"]) / 8 for c, r in zip(completions, records)]


class Brief:
    """Minus the length of the text; ends the process without notice at its n-th call."""

    name = "brief"
    calls = 0

    def __call__(self, completions, records):
        if len(sys.argv) > 3 and Brief.calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        Brief.calls += 1
        return [-float(len(c.text)) for c in completions]


if __name__ == "__main__":
    workdir = Path(sys.argv[2])
    model = open_model(sys.argv[1])
    state = optimize(
        model,
        RECORDS,
        rewards=[letters, Brief()],
        estimator=gdpo({"letters": 1.0, "brief": 0.5}),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_updates=2),
        config=PolicyOptimizationConfig(
            steps=5, prompts_per_step=8, num_samples=4, checkpoint_every=2
        ),
        sampler=sampler_config(model, max_new_tokens=6),
        workdir=workdir,
    )
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.opt_state))]
    np.savez(workdir / "final.npz", *leaves)
