"""Training adapters: the base stays as it is, and the optimizer knows nothing of it."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import toy
from test_steps import OBJECTIVE, OPTIMIZER, WHOLE_HEADS, host_batch

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import (
    LoraConfig,
    completion_log_probs,
    lora_init,
    lora_merge,
    lora_policy,
)
from gdpo_jax.rollouts import SamplerConfig, jax_engine
from gdpo_jax.training import (
    Checkpoints,
    batch_sharding,
    create_state,
    fingerprint,
    make_log_prob_step,
    make_policy_step,
    read_metrics,
    to_global,
)

LORA = LoraConfig(rank=2, alpha=8.0, targets=("query", "value", "down"))
POLICY = lora_policy(toy.POLICY, LORA)


@functools.cache
def fresh_params():
    base = toy.params_of(1)
    adapters = jax.jit(lora_init, static_argnums=2)(jax.random.key(2), base, LORA)
    return toy.as_numpy({"base": base, "adapters": adapters})


def state_on(mesh, rules=toy.RULES):
    return create_state(
        POLICY, OPTIMIZER, key=jax.random.key(5), mesh=mesh, rules=rules, params=fresh_params()
    )


def shapes(tree):
    return sorted(leaf.shape for leaf in jax.tree.leaves(tree) if leaf.ndim)


@pytest.mark.parametrize(
    ("axes", "rules", "accumulation_steps"),
    [({}, toy.RULES, 1), ({"data": 2, "fsdp": 2, "tensor": 2}, WHOLE_HEADS, 2)],
    ids=["copied", "sharded"],
)
def test_a_step_trains_the_adapters_alone(axes, rules, accumulation_steps):
    mesh = toy.mesh_of(8, **axes)
    options = {"rules": rules, "accumulation_steps": accumulation_steps}
    step = make_policy_step(POLICY, OPTIMIZER, OBJECTIVE, mesh=mesh, chunk=3, **options)
    state = state_on(mesh, rules)
    # AdamW keeps two numbers for each trained one.
    assert shapes(state.opt_state) == sorted(2 * shapes(state.params["adapters"]))
    before = toy.as_numpy(state.params)
    batch = to_global(host_batch(), mesh)
    for _ in range(2):
        state, metrics = step(state, batch)
    after = toy.as_numpy(state.params)
    jax.tree.map(np.testing.assert_array_equal, after["base"], before["base"])
    for pair in after["adapters"]["layers"].values():
        assert np.abs(pair["b"]).max() > 0
    for name in LORA.targets:
        old, new = (tree["adapters"]["layers"][name]["a"] for tree in (before, after))
        assert (new != old).any()
    assert float(metrics["grad_norm"]) > 0
    assert int(state.step) == 2


def test_the_update_is_that_of_the_merged_policy():
    """The gradient of B is the adapted matrix's gradient seen through A."""
    mesh = toy.mesh_of(1)
    state = state_on(mesh)
    batch = jax.device_put(host_batch())

    def loss(log_probs):
        return (log_probs * batch.advantages).sum()

    def of(policy, params):
        given = (batch.prompts, batch.prompt_lengths, batch.completions, batch.mask)
        return loss(completion_log_probs(policy, params, *given, with_entropy=False)[0])

    base, adapters = state.params["base"], state.params["adapters"]

    def of_merged(adapters):
        return jax.grad(lambda p: of(toy.POLICY, p))(lora_merge(base, adapters, LORA))

    full = jax.device_get(jax.jit(of_merged)(adapters))
    low = jax.jit(jax.grad(lambda a: of(POLICY, {"base": base, "adapters": a})))(adapters)
    matrix, pair = full["layers"]["down"], toy.as_numpy(adapters["layers"]["down"])
    expected = LORA.scale * np.swapaxes(pair["a"], 1, 2) @ matrix
    size = np.abs(expected).max()
    np.testing.assert_allclose(low["layers"]["down"]["b"], expected, atol=1e-4 * size)


def test_the_reference_is_the_base_without_another_copy():
    mesh = toy.mesh_of(8)
    state = state_on(mesh)
    moved = jax.jit(lambda tree: jax.tree.map(lambda a: a + 0.3, tree))(state.params["adapters"])
    state = state.replace(params={**state.params, "adapters": moved})
    batch = to_global(host_batch(), mesh)
    given = (batch.prompts, batch.prompt_lengths, batch.completions, batch.mask)
    log_probs = make_log_prob_step(POLICY, mesh=mesh, chunk=3)
    reference = log_probs(POLICY.reference(state.params), *given)
    plain = make_log_prob_step(toy.POLICY, mesh=mesh, chunk=3)(state.params["base"], *given)
    np.testing.assert_allclose(reference, plain, atol=1e-6)
    assert np.abs(log_probs(state.params, *given) - reference).max() > 0.1


def run_on(mesh, workdir, *, steps, policy=POLICY):
    sampler = SamplerConfig(max_new_tokens=6, stop_ids=(toy.STOP,), pad_id=toy.PAD)
    return toy.run(
        workdir,
        mesh,
        policy=policy,
        config=toy.config(steps=steps),
        engine=jax_engine(POLICY, sampler, batch_sharding=batch_sharding(mesh), bucket=4),
        state=state_on(mesh),
        optimizer=OPTIMIZER,
        objective=ObjectiveConfig(kl="k3", kl_coef=0.1),
    )


def test_a_run_with_kl_needs_no_reference_parameters(tmp_path):
    mesh = toy.mesh_of(8)
    base = fresh_params()["base"]
    ended = run_on(mesh, tmp_path, steps=3)
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(ended.params["base"]), base)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0]["kl/k3"] < 1e-6 < rows[-1]["kl/k3"]
    assert max(row["sampler/gap_max"] for row in rows) < 1e-3


def test_checkpoints_hold_the_adapters_alone_and_a_run_goes_on_from_them(tmp_path):
    mesh = toy.mesh_of(8)
    whole = toy.as_numpy(run_on(mesh, tmp_path / "whole", steps=4).params)
    run_on(mesh, tmp_path / "parts", steps=2)
    stored = Checkpoints(tmp_path / "parts" / "checkpoints", config={})
    adapters = stored.restore_params(state_on(mesh).params["adapters"])
    assert jax.tree.structure(adapters) == jax.tree.structure(whole["adapters"])
    with pytest.raises(UserError, match="holds the state of another policy"):
        stored.restore_params(state_on(mesh).params)
    parts = toy.as_numpy(run_on(mesh, tmp_path / "parts", steps=4).params)
    jax.tree.map(np.testing.assert_array_equal, parts, whole)


def test_a_run_of_other_adapters_is_refused(tmp_path):
    mesh = toy.mesh_of(8)
    run_on(mesh, tmp_path, steps=2)
    louder = lora_policy(toy.POLICY, dataclasses.replace(LORA, alpha=16.0))
    with pytest.raises(UserError, match=r"lora\.alpha: 8\.0 \(stored\), 16\.0 \(now\)"):
        run_on(mesh, tmp_path, steps=4, policy=louder)


def test_fingerprints_tell_numbers_apart_and_not_their_shardings():
    base = state_on(toy.mesh_of(1)).params["base"]
    sharded = state_on(toy.mesh_of(8, data=2, fsdp=2, tensor=2), WHOLE_HEADS).params["base"]
    assert fingerprint(base) == fingerprint(sharded)
    norm = base["final_norm"]["scale"]
    nudged = {**base, "final_norm": {"scale": norm.at[0].set(np.nextafter(norm[0], np.float32(9)))}}
    assert fingerprint(nudged) != fingerprint(base)
    assert fingerprint(base["layers"]) != fingerprint(base)
    # Whole numbers beyond those of float32, and random keys.
    assert fingerprint(np.int32(2**24)) != fingerprint(np.int32(2**24 + 1))
    assert fingerprint(jax.random.key(0)) != fingerprint(jax.random.key(1))


def pointers(tree):
    return [
        piece.data.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves(tree)
        for piece in leaf.addressable_shards
    ]


def test_the_frozen_base_is_neither_copied_nor_donated():
    mesh = toy.mesh_of(8)
    base = toy.fresh_state(mesh, OPTIMIZER, seed=1).params
    adapters = lora_init(jax.random.key(2), base, LORA)
    given = {"base": base, "adapters": adapters}
    state = create_state(POLICY, OPTIMIZER, key=jax.random.key(5), mesh=mesh, params=given)
    assert pointers(state.params["base"]) == pointers(base)
    step = make_policy_step(POLICY, OPTIMIZER, OBJECTIVE, mesh=mesh, chunk=3)
    after, _ = step(state, to_global(host_batch(), mesh))
    assert pointers(after.params["base"]) == pointers(base)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params["adapters"]))
    # What the caller has is alive, the adapters that training copied as well.
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(given))
