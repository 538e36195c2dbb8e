"""Packed rows give the loss and the gradients of the shared and of the plain layout."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
import toy

from gdpo_jax.objectives import Metrics, ObjectiveConfig, join_metrics, policy_objective
from gdpo_jax.policies import completion_log_probs, decoder_policy
from gdpo_jax.policies.log_probs import packed_log_probs
from gdpo_jax.training import (
    PolicyBatch,
    make_log_prob_step,
    make_policy_step,
    read_metrics,
    to_global,
)
from gdpo_jax.training.packing import pack_rollout
from tests.trees import norm

B, G, P, C = 8, 4, 6, 8
SGD = optax.sgd(1.0)  # an update is the gradient
OBJECTIVES = {
    "token": ObjectiveConfig(level="token", aggregation="dapo", entropy_coef=0.1),
    "segment": ObjectiveConfig(level="segment", aggregation="item_mean", max_segments=3),
    "sequence": ObjectiveConfig(level="sequence", aggregation="grpo", clip_high=0.4),
}


def all_objectives(**given):
    """Their sum, so that one program has the gradient of all, and the metrics of each."""
    total, found = 0.0, Metrics()
    for name, config in OBJECTIVES.items():
        loss, metrics = policy_objective(config, **given)
        total = total + loss
        parts = {
            kind: {f"{name}/{metric}": value for metric, value in getattr(metrics, kind).items()}
            for kind in ("sums", "minima", "maxima")
        }
        found = join_metrics(found, Metrics(sums={f"{name}/loss": loss}), Metrics(**parts))
    return total, found


def short_groups(seed=0):
    """Prompts and completions about half as long as there is room; some completions are empty."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 5, (B, G))
    lengths[0, 0] = C
    mask = np.arange(C)[None, None] < lengths[:, :, None]
    old = -draw.uniform(2, 4, (B, G, C))
    return PolicyBatch(
        prompts=draw.integers(0, 14, (B, P)).astype(np.int32),
        prompt_lengths=draw.integers(1, 4, B).astype(np.int32),
        completions=draw.integers(0, 14, (B, G, C)).astype(np.int32),
        mask=mask,
        advantages=draw.normal(size=(B, G, C)).astype(np.float32),
        old_log_probs=old.astype(np.float32),
        segment_ids=np.where(mask, draw.integers(-1, 3, mask.shape), -1).astype(np.int32),
    )


def packed_on(mesh, batch, parts=1):
    return pack_rollout(toy.rollout_of(batch), parts=parts, mesh=mesh, pad_id=toy.PAD)


@functools.cache
def whole_rows():
    """The update on one device, in the shared layout."""
    return gradients(toy.mesh_of(1))


def gradients(mesh, *, layout="shared", packed=None, accumulation_steps=1):
    """The update by plain gradient descent, and the metrics."""
    state = toy.fresh_state(mesh, SGD, seed=5)
    before = toy.as_numpy(state.params)
    step = make_policy_step(
        toy.POLICY,
        SGD,
        all_objectives,
        mesh=mesh,
        chunk=3,
        layout=layout,
        accumulation_steps=accumulation_steps,
    )
    batch = to_global(short_groups(), mesh)
    state, metrics = step(state, batch.replace(packed=packed))
    update = jax.tree.map(np.subtract, before, toy.as_numpy(state.params))
    return update, toy.as_numpy(metrics.as_dict())


def assert_same(one, other, tolerance):
    size = norm(one[0])
    assert size > 1e-3
    assert norm(jax.tree.map(np.subtract, one[0], other[0])) < tolerance * size
    for name in set(one[1]) - {"update/computed_tokens", "update/filled_fraction"}:
        np.testing.assert_allclose(
            other[1][name], one[1][name], rtol=tolerance, atol=tolerance, err_msg=name
        )


def test_all_layouts_have_one_loss_and_one_gradient():
    mesh = toy.mesh_of(1)
    packed = packed_on(mesh, short_groups())
    found = {
        "packed": gradients(mesh, packed=packed),
        "shared": whole_rows(),
        "plain": gradients(mesh, layout="plain"),
    }
    assert_same(found["plain"], found["shared"], 1e-4)
    assert_same(found["plain"], found["packed"], 1e-4)
    batch = short_groups()
    tokens = {layout: metrics["update/computed_tokens"] for layout, (_, metrics) in found.items()}
    assert tokens["plain"] == B * G * (P + C)
    assert tokens["shared"] == B * (P + G * C)
    assert tokens["packed"] == packed.prompts.size + packed.completions.size
    assert tokens["packed"] < 0.7 * tokens["shared"]
    filled = found["packed"][1]["update/filled_fraction"]
    held = batch.prompt_lengths.sum() + batch.mask.sum()
    assert filled == pytest.approx(held / tokens["packed"])


def test_cells_of_shards_and_micro_batches_give_the_update_of_one():
    four = toy.mesh_of(4, data=2, fsdp=2)
    packed = packed_on(four, short_groups(), parts=2)
    assert packed.prompts.shape[0] == 8
    cut = gradients(four, packed=packed, accumulation_steps=2)
    assert_same(whole_rows(), cut, 1e-5)


def test_log_probs_of_packed_rows_are_those_of_the_rows_in_their_order():
    mesh, batch = toy.mesh_of(2), short_groups()
    state = toy.fresh_state(mesh, SGD, seed=5)
    log_probs = make_log_prob_step(toy.POLICY, mesh=mesh, accumulation_steps=2, chunk=None)
    rows = to_global((batch.prompts, batch.prompt_lengths, batch.completions, batch.mask), mesh)
    expected = log_probs(state.params, *rows)
    assert np.abs(expected).max() > 0.1
    # Packed for another number of micro-batches than the step has, too.
    for parts in (1, 4):
        packed = log_probs(state.params, *rows, packed_on(mesh, batch, parts=parts))
        np.testing.assert_allclose(packed, expected, atol=1e-5)


def test_rows_packed_for_other_micro_batches_are_refused():
    mesh = toy.mesh_of(1)
    with pytest.raises(ValueError, match="not packed for 1 micro-batches"):
        packed = packed_on(mesh, short_groups(), parts=2)
        gradients(mesh, packed=packed)


@pytest.mark.parametrize("window", [2, 5])
def test_windows_are_by_positions_in_packed_rows_too(window):
    policy = decoder_policy(dataclasses.replace(toy.DECODER, window=window, global_every=2))
    # Windows are none of what is made at the start.
    params, batch = toy.params_of(1), short_groups()
    rows = (batch.prompts, batch.prompt_lengths, batch.completions, batch.mask)
    packed = packed_on(toy.mesh_of(1), batch)
    values = jax.jit(lambda p: packed_log_probs(policy, p, packed, batch.mask, temperature=0.7))
    expected = jax.jit(lambda p: completion_log_probs(policy, p, *rows, temperature=0.7))
    for ours, theirs in zip(values(params), expected(params)):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_long_groups_are_not_packed():
    batch = short_groups()
    full = batch.replace(mask=np.ones_like(batch.mask), prompt_lengths=np.full(B, P, np.int32))
    assert packed_on(toy.mesh_of(2), full) is None


@pytest.mark.slow
def test_a_run_in_packed_rows_is_the_run_in_shared_ones(tmp_path):
    changes = {"steps": 3, "mini_batches": 2, "prompt_buckets": (16,)}
    rows = {}
    for layout in ("shared", "packed"):
        mesh = toy.mesh_of(1)
        config = toy.config(layout=layout, **changes)
        toy.run(tmp_path / layout, mesh, config=config)
        rows[layout] = read_metrics(tmp_path / layout / "metrics.jsonl")
    for shared, packed in zip(rows["shared"], rows["packed"], strict=True):
        assert packed["update/computed_tokens"] < shared["update/computed_tokens"]
        for name in ("loss", "grad_norm", "entropy", "tokens", "reward/cs/mean"):
            assert packed[name] == pytest.approx(shared[name], rel=1e-3, abs=1e-5), name
