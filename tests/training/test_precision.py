"""bfloat16 products over float32 weights and statistics; rematerialisation saves memory only."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from test_packing import short_groups

from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.policies import completion_log_probs, decoder_policy
from gdpo_jax.training import (
    PolicyBatch,
    create_state,
    make_optimizer,
    make_policy_step,
    to_global,
)
from gdpo_jax.training.state import abstract_state, frozen_part, without_frozen

OBJECTIVE = ObjectiveConfig(entropy_coef=0.1)
HALF = decoder_policy(dataclasses.replace(toy.DECODER, dtype="bfloat16"))


# Its rate is part of the state, so that all rates share a program.
DESCENT = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)


def one_update(policy, rate):
    mesh = toy.mesh_of(1)
    state = create_state(policy, DESCENT, key=jax.random.key(5), mesh=mesh)
    before = toy.as_numpy(state.params)
    rates = {"learning_rate": jnp.full_like(state.opt_state.hyperparams["learning_rate"], rate)}
    state = state.replace(opt_state=state.opt_state._replace(hyperparams=rates))
    step = make_policy_step(policy, DESCENT, OBJECTIVE, mesh=mesh, chunk=3)
    state, metrics = step(state, to_global(short_groups(), mesh))
    return state, before, toy.as_numpy(metrics.as_dict())


def test_weights_optimizer_and_metrics_stay_float32_under_bfloat16_products():
    mesh, optimizer = toy.mesh_of(1), make_optimizer(toy.OPTIMIZER)
    before = abstract_state(HALF, optimizer, mesh=mesh)
    step = make_policy_step(HALF, optimizer, OBJECTIVE, mesh=mesh, chunk=3)
    state, metrics = jax.eval_shape(step, before, to_global(short_groups(), mesh))
    for leaf in jax.tree.leaves((state.params, state.opt_state)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    moments = state.opt_state[1][0]
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((moments.mu, moments.nu)))
    assert all(value.dtype == np.float32 for value in metrics.as_dict().values())


def test_the_bfloat16_step_is_close_to_the_float32_one():
    exact, before, exact_metrics = one_update(toy.POLICY, 1.0)
    half, _, half_metrics = one_update(HALF, 1.0)
    assert half_metrics["loss"] == pytest.approx(exact_metrics["loss"], rel=0.02, abs=0.02)
    assert half_metrics["entropy"] == pytest.approx(exact_metrics["entropy"], rel=0.02)
    one, other = (
        np.concatenate([np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (before, params)))])
        for params in (toy.as_numpy(exact.params), toy.as_numpy(half.params))
    )
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert 0.99 < cosine < 1 - 1e-7


def test_updates_below_bfloat16_rounding_are_not_lost():
    state, before, _ = one_update(HALF, 1e-4)
    changed = jax.tree.map(lambda a, b: np.mean(a != b), before, toy.as_numpy(state.params))
    rounded = jax.tree.map(
        lambda a, b: np.mean(a.astype(jnp.bfloat16) != np.asarray(b).astype(jnp.bfloat16)),
        before,
        toy.as_numpy(state.params),
    )
    assert changed["final_norm"]["scale"] > 0.9 and rounded["final_norm"]["scale"] < 0.1


def functions_of(jaxpr, names):
    """Operand types of the named primitives, inner programs included."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in names:
            found += [variable.aval.dtype for variable in equation.invars]
        for param in equation.params.values():
            for inner in param if isinstance(param, (tuple, list)) else (param,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    found += functions_of(inner, names)
    return found


def test_softmax_and_log_softmax_are_float32_under_bfloat16_products():
    batch = short_groups()
    rows = (batch.prompts, batch.prompt_lengths, batch.completions, batch.mask)
    params = jax.eval_shape(HALF.init, jax.random.key(0))
    program = jax.make_jaxpr(
        jax.grad(lambda p: completion_log_probs(HALF, p, *rows, chunk=3)[0].sum())
    )(params)
    kinds = functions_of(program.jaxpr, {"exp", "log", "rsqrt", "cos"})
    assert len(kinds) > 10 and set(kinds) == {jnp.dtype("float32")}
    assert jnp.dtype("bfloat16") in functions_of(program.jaxpr, {"dot_general"})


def test_remat_keeps_the_step_and_lowers_its_memory():
    # Deep and long enough that activations outweigh everything else.
    deep = dataclasses.replace(toy.DECODER, num_layers=6, max_positions=128)
    mesh, optimizer = toy.mesh_of(1), optax.sgd(1.0)
    draw = np.random.default_rng(0)
    lengths = draw.integers(0, 33, (8, 4))
    rows = PolicyBatch(
        prompts=draw.integers(0, 14, (8, 32)).astype(np.int32),
        prompt_lengths=draw.integers(1, 33, 8).astype(np.int32),
        completions=draw.integers(0, 14, (8, 4, 32)).astype(np.int32),
        mask=np.arange(32) < lengths[:, :, None],
        advantages=draw.normal(size=(8, 4, 32)).astype(np.float32),
        old_log_probs=-draw.uniform(2, 4, (8, 4, 32)).astype(np.float32),
    )
    batch, params = to_global(rows, mesh), jax.jit(decoder_policy(deep).init)(jax.random.key(5))
    temporary, results = {}, {}
    for remat in ("none", "dots", "layer"):
        policy = decoder_policy(dataclasses.replace(deep, remat=remat))
        options = {"key": jax.random.key(5), "mesh": mesh, "params": params}
        state = create_state(policy, optimizer, **options)
        step = make_policy_step(policy, optimizer, OBJECTIVE, mesh=mesh, chunk=8)
        # The program whose memory is counted is the one that runs.
        program = step.lower(state, batch).compile()
        temporary[remat] = program.memory_analysis().temp_size_in_bytes
        parts = without_frozen(policy, state), frozen_part(policy, state.params)
        changed, metrics = program(*parts, batch)
        results[remat] = toy.as_numpy((changed.params, metrics.as_dict()))
    assert temporary["layer"] < 0.7 * temporary["dots"] < 0.7 * temporary["none"]
    for remat in ("dots", "layer"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            results[remat],
            results["none"],
        )
