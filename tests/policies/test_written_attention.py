"""Decoding that reads the slots that are written, against decoding that reads all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.policies import (
    attention,
)
from gdpo_jax.policies.softmax_attention import KeySet, softmax_attention
from gdpo_jax.policies.written_attention import written_attention
from gdpo_jax.rollouts import SamplerConfig, sample
from tests.policies.attention_cases import (
    POLICY,
    batch,
)


@pytest.mark.parametrize("reach", [None, 3])
def test_a_new_token_sees_what_is_written_and_nothing_else(reach):
    """Ten slots in blocks of four, the last of which overlaps; blocks behind it are not read."""
    draw = np.random.default_rng(11).normal
    queries, keys, values = (
        draw(size=shape) for shape in ((1, 2, 2, 2, 4), *[(1, 2, 2, 10, 4)] * 2)
    )
    prompt = KeySet(*jnp.asarray(draw(size=(2, 1, 2, 3, 4)), jnp.float32), jnp.arange(3) < 2)
    prompt = prompt._replace(mask=prompt.mask[None, None, None, None])
    written = jax.jit(functools.partial(written_attention, reach=reach, block=4))
    for step in range(10):
        slots = np.arange(10)
        later = (slots > step)[:, None]
        unread = (slots >= (step // 4 + 1) * 4)[:, None]
        own = [jnp.asarray(np.where(later, 1e9, x), jnp.float32) for x in (keys, values)]
        seen = jnp.asarray((slots <= step) & (step - slots < (reach or 10)))
        own_set = KeySet(*own, seen[None, None, None, None])
        expected = softmax_attention(jnp.asarray(queries, jnp.float32), (prompt, own_set))
        own = [jnp.asarray(np.where(unread, np.nan, x), jnp.float32) for x in own]
        turned = jnp.swapaxes(own[0], -1, -2)
        found = written(jnp.asarray(queries, jnp.float32), prompt, turned, own[1], jnp.array(step))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_sampler_with_many_slots_draws_what_one_with_few_does(monkeypatch):
    """Windows in one of two layers; rows that end early, and others that move together then."""
    params, (prompts, lengths, *_), _ = batch()

    def drawn(halvings):
        options = {"max_new_tokens": 18, "halvings": halvings, "fewest_rows": 1}
        config = SamplerConfig(stop_ids=tuple(range(1, 7)), pad_id=0, **options)
        options = {"num_samples": 4, "config": config}
        key = jax.random.key(1)
        return jax.jit(lambda p: sample(POLICY, p, prompts, lengths, key, **options))(params)

    expected = drawn(halvings=0)
    monkeypatch.setattr(attention, "LONG", 0)
    read = functools.partial(written_attention, block=4)
    monkeypatch.setattr(attention, "written_attention", read)
    found = drawn(halvings=1)
    lengths = np.sort(np.asarray(expected.mask).sum(-1))
    # Two of four rows of each prompt at most go on, early enough to see what moved.
    assert lengths[:, 1].max() < 8 and lengths.max() == 18
    np.testing.assert_array_equal(found.completions, expected.completions)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=1e-5)
