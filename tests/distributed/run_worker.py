"""One process of a run over two: PORT PROCESS WORKDIR [STEP IN WHICH PROCESS 1 CANNOT SCORE]."""

import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))

import numpy as np  # noqa: E402
import toy  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402

from gdpo_jax.errors import UserError  # noqa: E402
from gdpo_jax.rollouts import Rollout  # noqa: E402
from gdpo_jax.training.packing import pack_rollout  # noqa: E402


class SometimesAway(toy.Brevity):
    """Brevity that fails on process 1 at its n-th call."""

    calls = 0

    def __call__(self, completions, records):
        if jax.process_index() == 1 and sys.argv[4:] == [str(SometimesAway.calls)]:
            raise OSError("judge is away")
        SometimesAway.calls += 1
        return super().__call__(completions, records)


def packed_shapes(mesh) -> str:
    """Of rows that the two processes would pack differently: completions of 1 and of 3 tokens."""
    length = 1 + 2 * jax.process_index()
    mask = np.broadcast_to(np.arange(6) < length, (8, 4, 6))
    rollout = Rollout(
        prompts=np.zeros((8, 8), np.int32),
        prompt_lengths=np.ones(8, np.int32),
        completions=np.zeros((8, 4, 6), np.int32),
        mask=mask,
        log_probs=np.zeros(mask.shape, np.float32),
        finished=mask[..., -1],
    )
    packed = pack_rollout(rollout, parts=1, mesh=mesh, pad_id=toy.PAD)
    return f"packed {packed.prompts.shape} {packed.completions.shape}"


if __name__ == "__main__":
    workdir, mesh = Path(sys.argv[3]), toy.mesh_of(8, data=4, fsdp=2)
    try:
        state = toy.run(
            workdir,
            mesh,
            config=toy.config(**toy.AHEAD),
            reward_functions=(toy.REWARDS[0], SometimesAway()),
            evaluation=toy.evaluation_on(mesh),
        )
    except UserError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(3)
    leaves = jax.tree.leaves(state.params)
    leaves = [multihost_utils.process_allgather(leaf, tiled=True) for leaf in leaves]
    np.savez(workdir / f"final{jax.process_index()}.npz", *leaves)
    print(packed_shapes(mesh), flush=True)
