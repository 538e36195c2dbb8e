"""The flax module of docs/models.md behind the first record of a policy, with default placement."""

import functools
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdpo_jax.objectives import ObjectiveConfig
from gdpo_jax.rollouts import SamplerConfig, jax_engine
from gdpo_jax.training import (
    MeshConfig,
    PolicyBatch,
    batch_sharding,
    create_state,
    make_mesh,
    make_policy_step,
)

TEXT = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
PAGE: dict = {}
exec(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[-1], PAGE)
SIZES = PAGE["Sizes"]()
MODULE, POLICY = PAGE["Transformer"](SIZES), PAGE["flax_policy"](SIZES)

PROMPTS = np.array([[3, 5, 0], [7, 1, 2], [4, 0, 0], [6, 6, 0]], np.int32)
LENGTHS = np.array([2, 3, 1, 2], np.int32)
SAMPLER = SamplerConfig(max_new_tokens=4, stop_ids=(1,), pad_id=0)


def flax_log_probs(params, rows, first):
    """[N, C] of rows without padding in front, by flax's attention under a causal mask.

    first [N]: the slots of the first tokens to score.
    """
    see = jnp.tril(jnp.ones((1, 1, rows.shape[1], rows.shape[1]), bool))

    def attention(queries, keys, values, **options):
        return nn.dot_product_attention(queries, keys, values, mask=see)

    places = jnp.broadcast_to(jnp.arange(rows.shape[1]), rows.shape)
    attentions = [attention] * SIZES.num_layers
    hidden = MODULE.apply({"params": params["module"]}, rows, places, attentions)
    log_probs = jax.nn.log_softmax(hidden @ params["head"])
    slots = first[:, None] + np.arange(SAMPLER.max_new_tokens)[None]
    of_slots = jnp.take_along_axis(log_probs, slots[..., None] - 1, axis=1)
    return jnp.take_along_axis(of_slots, jnp.take_along_axis(rows, slots, 1)[..., None], 2)[..., 0]


@jax.jit
@functools.partial(jax.grad, has_aux=True)
def gradient_and_log_probs(params, rows, first, mask, advantages):
    log_probs = flax_log_probs(params, rows, first).reshape(mask.shape)
    return -(log_probs * advantages).sum() / mask.sum(dtype=jnp.float32), log_probs


@pytest.mark.parametrize("devices", [1, 4])
def test_one_policy_step_is_what_flax_gives(devices):
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    optimizer = optax.sgd(0.1)
    state = create_state(POLICY, optimizer, key=jax.random.key(0), mesh=mesh)
    params = jax.tree.map(np.asarray, state.params)
    engine = jax_engine(POLICY, SAMPLER, batch_sharding=batch_sharding(mesh), bucket=1)
    rollout = engine.generate(state.params, PROMPTS, LENGTHS, jax.random.key(1), num_samples=3)
    mask, tokens = np.asarray(rollout.mask), np.asarray(rollout.completions)
    advantages = np.where(mask, np.array([1.0, -0.5, 0.25], np.float32)[:, None], 0)

    rows = np.zeros((12, 7), np.int32)
    first = np.repeat(LENGTHS, 3)
    for row, start, prompt, own in zip(
        rows, first, np.repeat(PROMPTS, 3, 0), tokens.reshape(12, 4)
    ):
        row[: start + 4] = [*prompt[:start], *own]

    gradient, log_probs = gradient_and_log_probs(params, rows, first, mask, advantages)
    np.testing.assert_allclose(rollout.log_probs, np.where(mask, log_probs, 0), atol=1e-5)

    batch = PolicyBatch(
        prompts=PROMPTS,
        prompt_lengths=LENGTHS,
        completions=tokens,
        mask=mask,
        advantages=advantages,
        sampled_log_probs=np.asarray(rollout.log_probs),
    )
    step = make_policy_step(POLICY, optimizer, ObjectiveConfig(), mesh=mesh, chunk=2)
    state, metrics = step(state, batch)
    assert float(metrics["sampler/gap_max"]) < 1e-5
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, expected)
