"""A run in its own process that may kill itself while it scores: WORKDIR [STEP TO DIE IN]."""

import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import toy


class Deadly(toy.Brevity):
    """Brevity that ends the process without notice at its n-th call."""

    calls = 0

    def __call__(self, completions, records):
        if len(sys.argv) > 2 and Deadly.calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        Deadly.calls += 1
        return super().__call__(completions, records)


if __name__ == "__main__":
    workdir = Path(sys.argv[1])
    state = toy.run(
        workdir,
        toy.mesh_of(1),
        config=toy.config(steps=5),
        reward_functions=(toy.REWARDS[0], Deadly()),
    )
    leaves = toy.as_numpy(jax.tree.leaves((state.params, state.opt_state)))
    np.savez(workdir / "final.npz", *leaves)
