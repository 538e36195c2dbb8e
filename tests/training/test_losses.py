"""The supervised loop with a loss of one's own and a part of the parameters trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import Metrics, circle_loss
from gdpo_jax.policies import layer_states, partial_policy, pooled, split_params
from gdpo_jax.policies.partial import join_params
from gdpo_jax.training import (
    Checkpoints,
    OptimizerConfig,
    SFTBatch,
    create_state,
    make_optimizer,
    make_sft_step,
    to_global,
)

MASK = {"layers": 1}
PARTIAL = partial_policy(toy.POLICY, MASK)
# Decay, so that a frozen parameter in the optimizer's reach would shrink.
DECAYING = OptimizerConfig(learning_rate=3e-3, weight_decay=0.5)
SHARDED = {"data": 2, "fsdp": 4}


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Circle loss of the states behind layer 1."""

    scale: float = 16.0

    def __call__(self, policy, params, batch):
        states = layer_states(policy, params, batch.prompts, batch.prompt_lengths, 1)
        embeddings = pooled(states, batch.prompt_lengths, "last")
        loss = circle_loss(embeddings, batch.labels, scale=self.scale)
        return loss, Metrics(maxima={"widest": jnp.max(jnp.abs(embeddings))})


def labelled(record):
    return record["prompt"], (), record["id"] % 2


def run(workdir, mesh, *, steps=3, policy=PARTIAL, **changes):
    optimizer = make_optimizer(DECAYING)
    params = split_params(toy.params_of(7), MASK)
    arguments = {
        "state": create_state(policy, optimizer, key=jax.random.key(0), mesh=mesh, params=params),
        "optimizer": optimizer,
        "records": toy.records_for(mesh, 8),
        "encode": labelled,
        "pad_id": toy.PAD,
        "loss": Pairs(),
        "config": toy.sft_config(steps=steps, completion_buckets=()),
    } | changes
    return toy.run_sft(policy, workdir=workdir, mesh=mesh, **arguments)


def test_only_the_masked_part_changes_on_a_sharded_mesh(tmp_path):
    mesh = toy.mesh_of(8, **SHARDED)
    state = run(tmp_path, mesh)
    start = toy.as_numpy(split_params(toy.params_of(7), MASK))
    found = toy.as_numpy(state.params)
    toy.assert_same(found["frozen"], start["frozen"])
    for name in ("query", "down"):
        assert (found["trained"]["layers"][name] != start["trained"]["layers"][name]).any()
    # Two numbers of AdamW for each trained one, and none for others.
    slots = [leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert sum(slots) == 2 * sum(leaf.size for leaf in jax.tree.leaves(found["trained"]))
    rows = toy.rows_of(tmp_path)
    assert {"loss", "widest", "tokens", "grad_norm"} <= set(rows[0])
    assert rows[-1]["loss"] < rows[0]["loss"] or rows[-1]["loss"] < 20
    whole = join_params(found, MASK)
    assert jax.tree.structure(whole) == jax.tree.structure(toy.params_of(7))


def test_a_run_goes_on_to_the_same_bits_and_refuses_another_loss_or_mask(tmp_path):
    mesh = toy.mesh_of(1)
    through = run(tmp_path / "through", mesh, steps=4)
    run(tmp_path / "parts", mesh, steps=2)
    resumed = run(tmp_path / "parts", mesh, steps=4)
    toy.assert_same(resumed.params, through.params)
    with pytest.raises(UserError, match=r"loss\.options\.scale"):
        run(tmp_path / "parts", mesh, steps=4, loss=Pairs(scale=3.0))
    other = partial_policy(toy.POLICY, {"layers": -1})
    params = split_params(toy.params_of(7), {"layers": -1})
    optimizer = make_optimizer(DECAYING)
    made = create_state(other, optimizer, key=jax.random.key(0), mesh=mesh, params=params)
    with pytest.raises(UserError, match="trained"):
        run(tmp_path / "parts", mesh, steps=4, policy=other, state=made)
    stored = Checkpoints(tmp_path / "parts" / "checkpoints", config={}).restore_params(
        resumed.params["trained"]
    )
    toy.assert_same(stored, resumed.params["trained"])


def mean_of_labels(policy, params, batch):
    del policy
    return jnp.mean(batch.labels.astype(jnp.float32)) * jnp.sum(params["final_norm"]["scale"])


def test_micro_batches_average_the_loss():
    mesh = toy.mesh_of(1)
    optimizer = make_optimizer(toy.OPTIMIZER)
    batch = SFTBatch(
        prompts=np.ones((4, 2), np.int32),
        prompt_lengths=np.array([2, 2, 1, 2], np.int32),
        completions=np.zeros((4, 0), np.int32),
        completion_mask=np.zeros((4, 0), bool),
        labels=np.array([1, 2, 3, 5], np.int32),
    )
    for parts in (1, 2):
        state = toy.fresh_state(mesh, optimizer)
        step = make_sft_step(
            toy.POLICY, optimizer, mesh=mesh, loss=mean_of_labels, accumulation_steps=parts
        )
        _, metrics = step(state, to_global(batch, mesh))
        # Sixteen scales of one, and the mean label 11 / 4.
        assert float(metrics["loss"]) == 44.0
        assert float(metrics["tokens"]) == 7.0


def not_a_scalar(policy, params, batch):
    return batch.labels.astype(jnp.float32)


def not_metrics(policy, params, batch):
    return jnp.float32(1), {"a": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": not_a_scalar}, r"float32 of shape \(8,\)"),
        ({"loss": not_metrics}, "a dict beside the scalar"),
        ({"loss": None}, r"completion_buckets=\(\)"),
        ({"encode": lambda r: (r["prompt"], (), 0.5)}, "a label must be a whole number, got 0.5"),
        ({"encode": lambda r: (r["prompt"], (), 1)[: 2 + (r["id"] % 2)]}, "has no label"),
    ],
)
def test_what_cannot_be_trained_is_named(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, toy.mesh_of(1), **changes)
