"""One process of a run over two that one process began on another mesh: PORT PROCESS WORKDIR."""

import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))

import elastic_task  # noqa: E402
import numpy as np  # noqa: E402

if __name__ == "__main__":
    workdir = Path(sys.argv[3])
    np.savez(workdir / f"final{sys.argv[2]}.npz", *elastic_task.run(workdir, (2, 2, 2)))
