"""The sampler against the training forward, a plain loop, and itself on other shapes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.planning.hlo import parse, visits
from gdpo_jax.policies import DecoderConfig, completion_log_probs, decoder_policy
from gdpo_jax.rollouts import SamplerConfig, jax_engine, sample

CONFIG = DecoderConfig(
    vocab_size=61,
    d_model=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=24,
    max_positions=40,
)
POLICY = decoder_policy(CONFIG)
SAMPLER = SamplerConfig(max_new_tokens=12, stop_ids=(7, 9, 11), pad_id=0, halvings=0)


def make_params(key):
    params = jax.jit(POLICY.init)(key)
    return params | {"embedding": params["embedding"] * (0.3 / params["embedding"].std())}


@pytest.fixture(scope="module")
def inputs():
    prompts = np.random.default_rng(3).integers(0, CONFIG.vocab_size, (4, 8), np.int32)
    return make_params(jax.random.key(4)), prompts, np.array([8, 1, 5, 3], np.int32)


@functools.partial(jax.jit, static_argnames=("num_samples", "config", "policy"))
def draw(params, prompts, lengths, key, *, num_samples=5, config=SAMPLER, policy=POLICY):
    return sample(policy, params, prompts, lengths, key, num_samples=num_samples, config=config)


@functools.partial(jax.jit, static_argnames=("policy", "temperature", "layout"))
def trained(params, rollout, policy=POLICY, temperature=1.0, layout="shared"):
    return completion_log_probs(
        policy,
        params,
        rollout.prompts,
        rollout.prompt_lengths,
        rollout.completions,
        rollout.mask,
        temperature=temperature,
        layout=layout,
    )[0]


def test_log_probs_equal_the_training_forward_at_every_token(inputs, getkey):
    params, prompts, lengths = inputs
    rollout = draw(params, prompts, lengths, getkey())
    assert int(rollout.mask.sum()) > 40
    assert rollout.sampled_log_probs is None
    np.testing.assert_allclose(rollout.log_probs, trained(params, rollout), atol=1e-4)


@jax.jit
def next_logits(params, rollout):
    """The logits `[B, G, C, V]` of every completion token, by a forward of whole rows."""
    batch, samples, length = rollout.completions.shape

    def whole(prompt, size, completion):
        row = jnp.concatenate([prompt, jnp.zeros(length, jnp.int32)])
        return jax.lax.dynamic_update_slice(row, completion, (size,))

    of_prompt = jax.vmap(whole, in_axes=(None, None, 0))
    rows = jax.vmap(of_prompt)(rollout.prompts, rollout.prompt_lengths, rollout.completions)
    rows = rows.reshape(batch * samples, -1)
    first = jnp.repeat(rollout.prompt_lengths - 1, samples)
    see = jnp.tril(jnp.ones((1, rows.shape[1], rows.shape[1]), bool))
    positions = jnp.broadcast_to(jnp.arange(rows.shape[1])[None], rows.shape)
    hidden, _ = POLICY.apply(
        params, rows, positions, jnp.broadcast_to(see, (len(rows), *see[0].shape))
    )
    places = first[:, None] + jnp.arange(length)[None]
    hidden = jnp.take_along_axis(hidden, places[:, :, None], axis=1)
    return POLICY.unembed(params, hidden.reshape(-1, hidden.shape[-1])).reshape(
        batch, samples, length, -1
    )


def test_sampled_log_probs_are_those_of_the_distribution_drawn_from(inputs, getkey):
    params, prompts, lengths = inputs
    cuts = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.05}
    config = dataclasses.replace(SAMPLER, halvings=2, fewest_rows=1, **cuts)
    rollout = jax.device_get(draw(params, prompts, lengths, getkey(), config=config))
    expected = trained(params, rollout, temperature=0.8, layout="plain")
    np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-4)
    logits = np.asarray(next_logits(params, rollout), np.float64)[rollout.mask] / 0.8
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    tokens, found = rollout.completions[rollout.mask], rollout.sampled_log_probs[rollout.mask]
    wrong, cut = 0, 0.0
    for row, token, value in zip(probs, tokens, found):
        order = np.argsort(-row)[:20]
        share = np.cumsum(row[order]) / row[order].sum()
        kept = order[: np.searchsorted(share, 0.9) + 1]
        kept = kept[row[kept] >= 0.05 * row.max()]
        inside = token in kept
        wrong += not inside or abs(np.log(row[token] / row[kept].sum()) - value) > 1e-4
        cut = max(cut, 1 - row[kept].sum())
    # Rounding may put one token on the other side of a threshold.
    assert wrong <= 1 and len(tokens) > 40
    assert cut > 0.1
    assert (rollout.sampled_log_probs[~rollout.mask] == 0).all()
    assert (found > rollout.log_probs[rollout.mask]).any()


def test_sampling_in_sliding_windows_equals_the_training_forward(inputs, getkey):
    """Windows that one token and its prompt fill; wider ones are those of Gemma 3 below."""
    policy = decoder_policy(dataclasses.replace(CONFIG, window=2, global_every=2))
    params, prompts, lengths = inputs
    rollout = draw(params, prompts, lengths, getkey(), policy=policy)
    assert int(rollout.mask.sum()) > 40
    expected = trained(params, rollout, policy=policy, layout="plain")
    np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-4)
    assert np.abs(rollout.log_probs - trained(params, rollout)).max() > 1e-3


@pytest.mark.parametrize(
    "family",
    [
        {"attention_bias": True, "tie_embeddings": False, "qk_norm": True},
        {"window": 6, "global_every": 2, "query_scalar": 6, "norm_offset": True}
        | {"post_norms": True, "scale_embeddings": True, "activation": "gelu_tanh"},
    ],
    ids=["qwen2 and qwen3", "gemma3"],
)
def test_every_family_samples_what_it_trains(inputs, getkey, family):
    policy = decoder_policy(dataclasses.replace(CONFIG, **family))
    _, prompts, lengths = inputs
    normal = np.random.default_rng(0).normal
    params = jax.tree.map(
        lambda x: jnp.asarray(0.3 * normal(size=x.shape), x.dtype),
        jax.eval_shape(policy.init, jax.random.key(0)),
    )
    config = dataclasses.replace(SAMPLER, halvings=1)
    rollout = draw(params, prompts, lengths, getkey(), config=config, policy=policy)
    assert int(rollout.mask.sum()) > 40
    expected = trained(params, rollout, policy=policy)
    np.testing.assert_allclose(rollout.log_probs, expected, atol=1e-4)


@jax.jit
def next_token(params, row, size):
    """The most likely token behind the first `size` of a row, by a forward of the whole row."""
    see = jnp.tril(jnp.ones((1, row.size, row.size), bool))
    hidden, _ = POLICY.apply(params, row[None], jnp.arange(row.size)[None], see)
    return POLICY.unembed(params, hidden[0, size - 1]).argmax()


def test_greedy_equals_a_plain_loop_without_cache(inputs, getkey):
    params, prompts, lengths = inputs
    config = dataclasses.replace(SAMPLER, temperature=0.0)
    rollout = draw(params, prompts, lengths, getkey(), num_samples=2, config=config)
    for b, length in enumerate([8, 1, 5, 3]):
        row, expected = np.zeros(20, np.int32), []
        row[:length] = prompts[b, :length]
        while len(expected) < 12 and not set(expected) & set(SAMPLER.stop_ids):
            size = length + len(expected)
            expected.append(int(next_token(params, row, size)))
            row[size:] = expected[-1]
        for g in range(2):
            got = np.asarray(rollout.completions[b, g])[np.asarray(rollout.mask[b, g])]
            assert got.tolist() == expected


def test_rows_end_with_their_stop_token_and_padding_follows(inputs, getkey):
    params, prompts, lengths = inputs
    drawn = [jax.device_get(draw(params, prompts, lengths, getkey())) for _ in range(4)]
    given = {"prompts": None, "prompt_lengths": None}
    drawn = [one.replace(**given) for one in drawn]
    rollout = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *drawn)
    ended = set()
    for b, g in np.ndindex(4, 20):
        size = int(rollout.mask[b, g].sum())
        row = rollout.completions[b, g]
        assert rollout.mask[b, g, :size].all()
        assert not set(row[: size - 1]) & set(SAMPLER.stop_ids)
        assert rollout.finished[b, g] == (row[size - 1] in SAMPLER.stop_ids)
        assert rollout.finished[b, g] or size == 12
        assert (row[size:] == SAMPLER.pad_id).all()
        assert (rollout.log_probs[b, g, size:] == 0).all()
        assert (rollout.log_probs[b, g, :size] < 0).all()
        if rollout.finished[b, g]:
            ended.add(int(row[size - 1]))
    assert ended == set(SAMPLER.stop_ids)
    assert not rollout.finished.all()


def test_the_loop_ends_when_all_rows_are_done(inputs, getkey):
    """A token budget no run could finish in time: every first token stops, so none is needed."""
    params, prompts, lengths = inputs
    every = tuple(range(CONFIG.vocab_size))
    policy = decoder_policy(dataclasses.replace(CONFIG, max_positions=200_010))
    config = SamplerConfig(max_new_tokens=200_000, stop_ids=every, pad_id=0)
    rollout = draw(
        params, prompts[:1], lengths[:1], getkey(), num_samples=1, config=config, policy=policy
    )
    assert int(rollout.mask.sum()) == 1
    assert bool(rollout.finished.all())


def test_the_first_token_follows_the_policy(inputs, getkey):
    params, prompts, lengths = inputs
    config = dataclasses.replace(SAMPLER, max_new_tokens=1, temperature=0.8)
    rollout = draw(params, prompts[:1], lengths[:1], getkey(), num_samples=8192, config=config)
    every = rollout.replace(
        completions=jnp.arange(CONFIG.vocab_size)[None, :, None],
        mask=jnp.ones((1, CONFIG.vocab_size, 1), bool),
        log_probs=rollout.log_probs[:, : CONFIG.vocab_size],
        finished=rollout.finished[:, : CONFIG.vocab_size],
    )
    log_probs = trained(params, every, temperature=0.8)
    expected = np.exp(np.asarray(log_probs, np.float64)).ravel()
    observed = np.bincount(np.asarray(rollout.completions).ravel(), minlength=61) / 8192
    common = expected > 1e-3
    value = 8192 * (((observed - expected) ** 2)[common] / expected[common]).sum()
    freedom = common.sum()
    assert value < freedom + 4 * (2 * freedom) ** 0.5


def test_samples_of_one_prompt_differ_and_keys_repeat(inputs, getkey):
    params, prompts, lengths = inputs
    key = getkey()
    first, again = (draw(params, prompts, lengths, key) for _ in range(2))
    other = draw(params, prompts, lengths, getkey())
    np.testing.assert_array_equal(first.completions, again.completions)
    assert (np.asarray(first.completions) != np.asarray(other.completions)).any()
    assert len({tuple(row) for row in np.asarray(first.completions)[0].tolist()}) > 1


def test_rows_do_not_depend_on_padding_of_batch_prompts_or_samples(inputs, getkey):
    params, prompts, lengths = inputs
    key = getkey()
    whole = draw(params, prompts, lengths, key)
    more = np.append(lengths, np.array([1, 1], np.int32))
    padded = draw(params, np.pad(prompts, ((0, 2), (0, 6))), more, key)
    fewer = draw(params, prompts[:2], lengths[:2], key, num_samples=3)
    np.testing.assert_array_equal(padded.completions[:4], whole.completions)
    np.testing.assert_array_equal(fewer.completions, whole.completions[:2, :3])
    np.testing.assert_allclose(padded.log_probs[:4], whole.log_probs, atol=1e-5)


def test_bfloat16_samples_and_keeps_float32_log_probs(inputs, getkey):
    params, prompts, lengths = inputs
    policy = decoder_policy(dataclasses.replace(CONFIG, dtype="bfloat16"))
    rollout = draw(params, prompts, lengths, getkey(), policy=policy)
    expected = trained(params, rollout, policy=policy)
    assert rollout.log_probs.dtype == jnp.float32
    assert float(np.abs(rollout.log_probs - expected).max()) < 0.5


def test_rows_beyond_the_positions_are_refused(inputs, getkey):
    params, prompts, lengths = inputs
    config = dataclasses.replace(SAMPLER, max_new_tokens=33)
    with pytest.raises(UserError, match="prompt length 8 and max_new_tokens 33 exceed"):
        draw(params, prompts, lengths, getkey(), config=config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
        ({"temperature": -1.0}, r"0 \(greedy\) or above"),
        ({"temperature": float("nan")}, r"0 \(greedy\) or above"),
        ({"top_p": 0.0}, "above 0 and at most 1"),
        ({"top_p": 1.5}, "above 0 and at most 1"),
        ({"top_k": -1}, r"top_k must be 0 \(off\) or above"),
        ({"top_k": 1.5}, "top_k must hold whole numbers"),
        ({"min_p": -0.1}, r"min_p must be at least 0 \(off\)"),
        ({"min_p": 1.1}, "and at most 1"),
        ({"stop_ids": 7}, "stop_ids must hold whole numbers"),
        ({"stop_ids": [7.0]}, "stop_ids must hold whole numbers"),
        ({"stop_ids": "7"}, "stop_ids must hold whole numbers"),
        ({"pad_id": None}, "pad_id must hold whole numbers"),
        ({"halvings": -1}, "halvings must be 0 or above"),
        ({"fewest_rows": 0}, "fewest_rows must be at least 1"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SAMPLER, **change)


def test_stop_ids_may_be_a_list_or_an_array():
    for ids in ([7, 9], np.array([7, 9])):
        config = SamplerConfig(max_new_tokens=2, stop_ids=ids, pad_id=np.int64(0))
        assert config == SamplerConfig(max_new_tokens=2, stop_ids=(7, 9), pad_id=0)
        assert hash(config) == hash(dataclasses.replace(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stop_ids": (7, 61, 99)}, "stop_ids 61, 99: the policy's vocabulary has the ids 0 to 60"),
        ({"stop_ids": [-1]}, "stop_ids -1: the policy's vocabulary"),
        ({"pad_id": 61}, "pad_id 61: the policy's vocabulary"),
        ({"pad_id": -1}, "pad_id -1: the policy's vocabulary"),
    ],
)
def test_ids_outside_of_the_vocabulary_are_refused_before_anything_compiles(
    inputs, getkey, change, message
):
    params, prompts, lengths = inputs
    config = dataclasses.replace(SAMPLER, **change)
    with pytest.raises(UserError, match=message):
        sample(POLICY, params, prompts, lengths, getkey(), num_samples=1, config=config)
    with pytest.raises(UserError, match=message):
        jax_engine(POLICY, config)


@pytest.mark.parametrize(
    ("rows", "kv_heads", "samples"), [(4, 2, 1), (4, 2, 3), (1, 2, 3), (4, 1, 1)]
)
def test_no_cache_is_copied_for_a_token(inputs, rows, kv_heads, samples):
    """The compiler writes a token into a cache in place, where nothing else reads the old one."""
    _, prompts, lengths = inputs
    config = dataclasses.replace(CONFIG, num_kv_heads=kv_heads, num_layers=1)
    policy = decoder_policy(config)
    params = jax.eval_shape(policy.init, jax.random.key(0))
    given = params, prompts[:rows], lengths[:rows], jax.random.key(0)
    text = draw.lower(*given, num_samples=samples, policy=policy).compile().as_text()
    size = 4 * rows * samples * kv_heads * config.head_dim * SAMPLER.max_new_tokens
    copied = [
        instruction.name
        for _, instruction, times, _ in visits(parse(text), open_steps=11)
        if instruction.op == "copy"
        and times == 11
        and any(array.size == size for array in instruction.arrays)
    ]
    assert copied == []
