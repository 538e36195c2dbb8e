"""A run that is begun on one mesh and goes on on another: the same in one process and in two."""

import dataclasses

import jax
import toy
from jax.experimental import multihost_utils

from gdpo_jax.policies import decoder_policy
from gdpo_jax.training import MeshConfig, make_mesh, make_optimizer, run_sft

BEGUN, STEPS = 2, 4
# Two heads of keys and values, which two devices of the tensor axis can share out.
POLICY = decoder_policy(dataclasses.replace(toy.DECODER, num_kv_heads=2))


def run(workdir, shape, *, steps=STEPS):
    """Imitates up to `steps` on a mesh of this shape; goes on where `workdir` stopped. Returns the
    parameters as NumPy's, on every process."""
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[: shape[0] * shape[1] * shape[2]])
    optimizer = make_optimizer(toy.OPTIMIZER)
    config = toy.sft_config(steps=steps, checkpoint_every=BEGUN)
    state = run_sft(
        POLICY,
        toy.fresh_state(mesh, optimizer, policy=POLICY),
        optimizer=optimizer,
        records=toy.records_for(mesh, config.batch_size),
        encode=lambda record: (record["prompt"], [*record["prompt"][::-1], toy.STOP]),
        pad_id=toy.PAD,
        config=config,
        workdir=workdir,
        mesh=mesh,
    )
    leaves = jax.tree.leaves(state.params)
    return [multihost_utils.process_allgather(leaf, tiled=True) for leaf in leaves]


def losses(workdir):
    """Of the steps behind the checkpoint."""
    return [row["loss"] for row in toy.rows_of(workdir) if row["step"] >= BEGUN]
