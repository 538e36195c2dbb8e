"""One process of the front door over two: PORT PROCESS WORKDIR, which holds a model folder."""

import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))

import numpy as np  # noqa: E402
import recipe_task  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

if __name__ == "__main__":
    workdir = Path(sys.argv[3])
    state, texts = recipe_task.run(workdir / "model", workdir / "run")
    leaves = [
        multihost_utils.process_allgather(leaf, tiled=True)
        for leaf in jax.tree.leaves(state.params)
    ]
    np.savez(workdir / f"final{jax.process_index()}.npz", *leaves)
    print("answers", texts, flush=True)
