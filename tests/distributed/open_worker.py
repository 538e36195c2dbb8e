"""One process of a run over two, without arithmetic: PORT PROCESS WORKDIR WHAT HAPPENS TO IT."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))

import toy  # noqa: E402

from gdpo_jax.errors import UserError  # noqa: E402
from gdpo_jax.objectives import Metrics  # noqa: E402
from gdpo_jax.training import create_state, make_optimizer, together  # noqa: E402
from gdpo_jax.training.run import Pending, Run  # noqa: E402

METRICS = Metrics(sums={"loss": 0.5, "grad_norm": 1.0, "tokens": 8.0}, minima={"healthy": 1.0})
STEPS = 6


def act(what: str, step: int) -> None:
    """On process 1 in step 2: vanish, be told to stop, or fail outside of what is done together."""
    if jax.process_index() != 1 or step != 2:
        return
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stopped":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "failing":
        raise OSError("no space left")


def main(workdir: Path, what: str) -> None:
    mesh = toy.mesh_of(4)
    config = toy.sft_config(steps=STEPS)
    identity, seed, key = {"rewards": ["a", "b"]}, 3, 0
    if jax.process_index() == 1 and what == "settings":
        config = dataclasses.replace(config, steps=7, chunk=2)
        identity, seed = {"rewards": ["a"]}, 4
    if jax.process_index() == 1 and what == "key":
        key = 1
    optimizer = make_optimizer(toy.OPTIMIZER)
    state = create_state(toy.POLICY, optimizer, key=jax.random.key(key), mesh=mesh)
    records = toy.records_for(mesh, 8, seed=seed)
    about = {"identity": identity, "columns": ()}
    with Run("run", workdir, config, toy.POLICY, state, records, **about) as run:
        for step in range(run.start_step, STEPS):
            position = records.get_state()
            with run.keeping(step, state, position):
                together(lambda: next(records))
                run.settle(state)
                act(what, step)
            run.dispatched(Pending(step, position, [METRICS]))
            run.save_if_due(step + 1, state)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[3]), sys.argv[4])
    except UserError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(3)
