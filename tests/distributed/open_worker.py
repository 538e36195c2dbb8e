"""One process of a run over two, without arithmetic: PORT PROCESS WORKDIR WHAT HAPPENS TO IT."""

import dataclasses
import os
import signal
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import toy

from gdpo_jax.commands.running import run_command
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics
from gdpo_jax.rollouts import Completion, named_reward
from gdpo_jax.rollouts.reward_calls import call_rewards
from gdpo_jax.training import create_state, make_optimizer, together
from gdpo_jax.training.agreement import check_starts
from gdpo_jax.training.joining import join_processes
from gdpo_jax.training.run import Pending, Run

# Parameters that cost nothing: no step computes with them.
POLICY = toy.POLICY._replace(init=lambda key: {"weight": jnp.zeros(8)}, logical_axes=None)
METRICS = Metrics(sums={"loss": 0.5, "grad_norm": 1.0, "tokens": 8.0}, minima={"healthy": 1.0})
STEPS = 6


def act(what: str, step: int) -> None:
    """In step 2: process 1 vanishes, freezes, is told to stop, or fails outside of what is done
    together; or process 0, which coordinates, vanishes."""
    if jax.process_index() != int(what != "coordinator") or step != 2:
        return
    if what in ("killed", "coordinator"):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "frozen":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "stopped":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "failing":
        raise OSError("no space left")


def reward(completions, records):
    """Does not answer on process 1."""
    if jax.process_index() == 1:
        threading.Event().wait()
    return [0.0] * len(completions)


def ask():
    completions = [Completion("a text", (0,), ((0, 6),), True)]
    call_rewards([named_reward(reward)], completions, [{}], timeout=2)


def main(workdir: Path, what: str) -> None:
    mesh = toy.mesh_of(4)
    config = toy.sft_config(steps=STEPS)
    identity, seed, key = {"rewards": ["a", "b"]}, 3, 0
    if jax.process_index() == 1 and what == "settings":
        config = dataclasses.replace(config, steps=7, chunk=2)
        identity, seed = {"rewards": ["a"]}, 4
    if jax.process_index() == 1 and what == "key":
        key = 1
    if what == "folders":
        workdir = workdir / f"host-{jax.process_index()}"
    optimizer = make_optimizer(toy.OPTIMIZER)
    state = create_state(POLICY, optimizer, key=jax.random.key(key), mesh=mesh)
    records = toy.records_for(mesh, 8, seed=seed)
    about = {"identity": identity, "columns": ()}
    with Run("run", workdir, config, POLICY, state, records, **about) as run:
        for step in range(run.start_step, STEPS):
            position = records.get_state()
            with run.keeping(step, state, position):
                together(lambda: next(records))
                run.settle(state)
                act(what, step)
                if what == "hanging" and step == 2:
                    together(ask)
            run.dispatched(Pending(step, position, [METRICS]))
            run.save_if_due(step + 1, state)


def start(port: int, process: int, workdir: Path, what: str) -> None:
    """Joins, compares the options where that is what happens, and trains."""
    jax.config.update("jax_num_cpu_devices", 2)
    join_processes(f"127.0.0.1:{port}", 2, process)
    if what == "settings":
        try:
            given = ["train", "--seed", str(process), "--process-id", str(process), "--steps=3"]
            check_starts(given, own=("--process-id",))
        except UserError as error:
            print(error, flush=True)
    main(workdir, what)


if __name__ == "__main__":
    port, process, workdir, what = sys.argv[1:]
    work = {
        "start": lambda: start(int(port), int(process), Path(workdir), what),
        "nothing": lambda: None,
    }
    sys.exit(run_command(work, ["start"], prog="open_worker.py", description=None))
