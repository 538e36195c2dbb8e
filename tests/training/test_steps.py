"""The update does not depend on devices, micro-batches or sharding, and compiles once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from gdpo_jax.advantages import RewardBatch
from gdpo_jax.errors import UserError
from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import completion_log_probs
from gdpo_jax.training import (
    PolicyBatch,
    SFTBatch,
    create_state,
    make_advantage_step,
    make_log_prob_step,
    make_optimizer,
    make_policy_step,
    make_sft_step,
    to_global,
)
from tests.trees import norm

B, G, P, C = 32, 4, 6, 8
# Adam's first update is the sign of the gradient, and a gradient of rounding size has none: eps
# stands above it.
OPTIMIZER = make_optimizer(dataclasses.replace(toy.OPTIMIZER, weight_decay=0.1, eps=1e-4))
OBJECTIVE = ObjectiveConfig(kl="k3", kl_coef=0.1, entropy_coef=0.01, aggregation="grpo")


def host_batch(**changes):
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, C + 1, (B, G))
    lengths[0, 0], lengths[0, 1] = 0, C
    old = -draw.uniform(1, 4, (B, G, C))
    fields = {
        "prompts": draw.integers(0, 14, (B, P)).astype(np.int32),
        "prompt_lengths": draw.integers(1, P + 1, B).astype(np.int32),
        "completions": draw.integers(0, 14, (B, G, C)).astype(np.int32),
        "mask": np.arange(C)[None, None] < lengths[:, :, None],
        "advantages": draw.normal(size=(B, G, C)).astype(np.float32),
        "old_log_probs": old.astype(np.float32),
        "ref_log_probs": (old + draw.normal(size=(B, G, C)) / 4).astype(np.float32),
        "sampled_log_probs": np.where(lengths[:, :, None] > 0, old, 99.0).astype(np.float32),
    }
    return PolicyBatch(**(fields | changes))


def state_on(mesh, rules=toy.RULES):
    return toy.fresh_state(mesh, OPTIMIZER, seed=5, rules=rules)


def updated(mesh, *, batch=None, rules=toy.RULES, accumulation_steps=1):
    """Parameters and metrics after one update on `mesh`, as NumPy."""
    options = {"rules": rules, "accumulation_steps": accumulation_steps}
    step = make_policy_step(toy.POLICY, OPTIMIZER, OBJECTIVE, mesh=mesh, chunk=3, **options)
    batch = to_global(host_batch() if batch is None else batch, mesh)
    state, metrics = step(state_on(mesh, rules), batch)
    return toy.as_numpy(state.params), toy.as_numpy(metrics.as_dict())


@pytest.fixture(scope="module")
def on_eight():
    return updated(toy.mesh_of(8))


def assert_same_update(one, other):
    """Updates and metrics agree to a relative 1e-5; updates are compared, not the parameters."""
    before = toy.as_numpy(state_on(toy.mesh_of(1)).params)
    difference = norm(jax.tree.map(np.subtract, one[0], other[0]))
    size = norm(jax.tree.map(np.subtract, one[0], before))
    assert difference / size < 1e-5
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_allclose(other[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_four_accumulation_steps_give_the_update_of_one(on_eight):
    assert_same_update(updated(toy.mesh_of(8), accumulation_steps=4), on_eight)


# One key-value head cannot be split over `tensor`, so the table keeps it whole.
ALL_AXES = {"data": 2, "fsdp": 2, "tensor": 2}
WHOLE_HEADS = dataclasses.replace(toy.RULES, kv_heads=None)


@pytest.mark.parametrize(("shape", "rules"), [({}, toy.RULES), (ALL_AXES, WHOLE_HEADS)])
def test_a_step_keeps_every_type_and_sharding_and_traces_once(shape, rules):
    mesh = toy.mesh_of(8, **shape)
    state = state_on(mesh, rules=rules)
    traces = []

    def forward(*arguments, **options):
        traces.append(1)
        return toy.POLICY.forward(*arguments, **options)

    policy = toy.POLICY._replace(forward=forward)
    options = {"rules": rules, "accumulation_steps": 2 if shape else 1}
    step = make_policy_step(policy, OPTIMIZER, OBJECTIVE, mesh=mesh, chunk=3, **options)
    types = jax.tree.map(jax.typeof, state)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    batch = to_global(host_batch(), mesh)
    for count in range(1, 4):
        state, _ = step(state, batch)
        assert jax.tree.map(jax.typeof, state) == types
        for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True):
            assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
        assert int(state.step) == count
    assert len(traces) == 1


def test_estimators_with_other_states_share_the_program_of_a_step(caplog):
    mesh = toy.mesh_of(8)
    step = make_policy_step(toy.POLICY, OPTIMIZER, OBJECTIVE, mesh=mesh, chunk=3)
    batch = to_global(host_batch(), mesh)
    step(state_on(mesh), batch)
    weights = {"weights": jnp.array([0.5, 2.0])}
    state = state_on(mesh).replace(advantage_state=weights)
    with jax.log_compiles():
        state, _ = step(state, batch)
    assert not any(text.startswith("Compiling") for text in caplog.messages)
    jax.tree.map(np.testing.assert_array_equal, state.advantage_state, weights)


def drawn_on(mesh, optimizer=OPTIMIZER, rules=toy.RULES):
    """The parameters of a state that draws its own."""
    key = jax.random.key(5)
    return create_state(toy.POLICY, optimizer, key=key, mesh=mesh, rules=rules).params


def test_fresh_parameters_do_not_depend_on_the_mesh():
    one = drawn_on(toy.mesh_of(1))
    eight = drawn_on(toy.mesh_of(8, **ALL_AXES), rules=WHOLE_HEADS)
    given = state_on(toy.mesh_of(1)).params
    for other in (eight, given):
        jax.tree.map(np.testing.assert_array_equal, *map(toy.as_numpy, (one, other)))


def test_another_optimizer_draws_the_same_parameters_by_the_same_program(caplog):
    """What draws them is the larger part of a state's compilation."""
    mesh = toy.mesh_of(1)
    first = drawn_on(mesh)
    with jax.log_compiles():
        other = drawn_on(mesh, optax.sgd(0.1))
    compiled = [text for text in caplog.messages if text.startswith("Compiling")]
    assert any("_build" in text for text in compiled)
    assert not any("init" in text for text in compiled)
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(first), toy.as_numpy(other))


def test_given_parameters_are_copied_and_survive_donation():
    mesh = toy.mesh_of(8)
    params = toy.params_of(9)
    before = toy.as_numpy(params)
    state = create_state(toy.POLICY, OPTIMIZER, key=jax.random.key(0), mesh=mesh, params=params)
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(state.params), before)
    step = make_policy_step(toy.POLICY, OPTIMIZER, OBJECTIVE, mesh=mesh, chunk=3)
    step(state, to_global(host_batch(), mesh))
    jax.tree.map(np.testing.assert_array_equal, toy.as_numpy(params), before)


def test_no_old_log_probs_means_those_of_the_policy_itself():
    mesh = toy.mesh_of(8)
    batch = host_batch(old_log_probs=None)
    log_probs = make_log_prob_step(toy.POLICY, mesh=mesh, chunk=3)
    own = log_probs(
        state_on(mesh).params,
        *to_global((batch.prompts, batch.prompt_lengths, batch.completions, batch.mask), mesh),
    )
    without = updated(mesh, batch=batch)
    given = updated(mesh, batch=batch.replace(old_log_probs=np.asarray(own)))
    assert_same_update(without, given)
    assert without[1]["ratio/mean"] == pytest.approx(1.0, abs=1e-6)
    assert without[1]["clip_ratio/region_mean"] == 0


def test_log_probs_in_micro_batches_keep_their_rows():
    mesh, batch = toy.mesh_of(8), host_batch()
    rows = (batch.prompts, batch.prompt_lengths, batch.completions, batch.mask)
    params = state_on(mesh).params
    values = {
        parts: make_log_prob_step(toy.POLICY, mesh=mesh, accumulation_steps=parts, chunk=None)(
            params, *to_global(rows, mesh)
        )
        for parts in (1, 4)
    }
    np.testing.assert_allclose(values[1], values[4], atol=2e-6)
    assert np.all(np.asarray(values[1])[~batch.mask] == 0)


def test_the_sampler_gap_is_measured_over_sampled_tokens(on_eight):
    # Where nothing was sampled the sampler's values are far off, and must not count.
    _, metrics = on_eight
    assert 0 < metrics["sampler/gap_mean"] < metrics["sampler/gap_max"] < 10


def test_a_bad_batch_changes_nothing_now_or_later():
    mesh = toy.mesh_of(8)
    step = make_policy_step(toy.POLICY, OPTIMIZER, OBJECTIVE, mesh=mesh, chunk=3)
    good = host_batch()
    bad = good.replace(advantages=np.where(good.mask, np.nan, 0).astype(np.float32))
    state, metrics = step(state_on(mesh), to_global(good, mesh))
    kept = toy.as_numpy((state.params, state.opt_state))
    assert metrics["healthy"] == 1
    for batch in (bad, good):
        state, metrics = step(state, to_global(batch, mesh))
        assert metrics["healthy"] == 0 and int(state.step) == 1
        jax.tree.map(
            np.testing.assert_array_equal, toy.as_numpy((state.params, state.opt_state)), kept
        )


def test_batches_that_do_not_divide_are_refused():
    step = make_policy_step(
        toy.POLICY, OPTIMIZER, OBJECTIVE, mesh=toy.mesh_of(8), accumulation_steps=3
    )
    with pytest.raises(UserError, match=r"prompt batch 32 is not divisible by 24 .* use 24, 48"):
        step(state_on(toy.mesh_of(8)), host_batch())


def test_sft_minimises_the_token_mean_of_the_negative_log_likelihood():
    mesh, batch = toy.mesh_of(8), host_batch()
    rows = SFTBatch(
        prompts=batch.prompts,
        prompt_lengths=batch.prompt_lengths,
        completions=batch.completions[:, 1],
        completion_mask=batch.mask[:, 1],
    )
    plain = functools.partial(completion_log_probs, toy.POLICY, layout="plain", chunk=None)
    log_probs, _ = jax.jit(plain)(
        toy.as_numpy(state_on(mesh).params),
        batch.prompts,
        batch.prompt_lengths,
        batch.completions[:, 1:2],
        batch.mask[:, 1:2],
    )
    expected = -np.sum(np.asarray(log_probs)) / np.sum(batch.mask[:, 1])
    results = []
    for on, parts in ((mesh, 1), (toy.mesh_of(1), 1), (toy.mesh_of(8, fsdp=4), 4)):
        step = make_sft_step(toy.POLICY, OPTIMIZER, mesh=on, accumulation_steps=parts, chunk=3)
        state, metrics = step(state_on(on), to_global(rows, on))
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
        assert float(metrics["tokens"]) == np.sum(batch.mask[:, 1])
        results.append((toy.as_numpy(state.params), toy.as_numpy(metrics.as_dict())))
        _, later = step(state, to_global(rows, on))
        assert later["loss"] < metrics["loss"]
    for other in results[1:]:
        assert_same_update(results[0], other)


def test_advantages_are_global_and_reach_the_tokens_of_their_rank():
    mesh = toy.mesh_of(8)
    draw = np.random.default_rng(1)
    ranks = 3
    mask = host_batch().mask
    segments = np.where(mask, draw.integers(-1, ranks, mask.shape), -1).astype(np.int32)
    rewards = RewardBatch(
        values=draw.normal(size=(B, G, 2, ranks)).astype(np.float32),
        valid=np.ones((B, G, 2, ranks), bool),
        names=("a", "b"),
    )
    arguments = (rewards, mask, mask[..., -1], segments)
    results = {}
    for devices in (1, 8):
        mesh = toy.mesh_of(devices)
        tokens, _, advantages, _, metrics = make_advantage_step(toy.GDPO, mesh=mesh)(
            toy.GDPO.init(rewards.names), *to_global(arguments, mesh)
        )
        results[devices] = toy.as_numpy((tokens, advantages.values, metrics))
    tokens, values, metrics = results[8]
    jax.tree.map(
        lambda one, eight: np.testing.assert_allclose(one, eight, rtol=1e-4, atol=1e-6),
        results[1],
        results[8],
    )
    b, g, t = np.argwhere(segments == 2)[0]
    assert tokens[b, g, t] == values[b, g, 2] != 0
    assert np.all(tokens[segments == -1] == 0)
    assert metrics["tokens"] == mask.sum()
    assert metrics["completions/length_mean"] == pytest.approx(mask.sum() / (B * G))
    assert metrics["completions/truncated_fraction"] == pytest.approx(1 - mask[..., -1].mean())
    lengths, ended = mask.sum(-1), mask[..., -1]
    assert metrics["completions/length_min"] == lengths.min()
    assert metrics["completions/length_max"] == lengths.max()
    assert metrics["completions/terminated_length_mean"] == pytest.approx(lengths[ended].mean())
    assert metrics["completions/terminated_length_min"] == lengths[ended].min()
    assert metrics["completions/terminated_length_max"] == lengths[ended].max()
    items = [len(set(row[row >= 0])) for row in segments.reshape(B * G, -1)]
    assert metrics["completions/items_mean"] == pytest.approx(np.mean(items))
