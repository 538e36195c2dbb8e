"""The decoder against a plain NumPy transformer, its cache, its numerics and its parameter tree."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DecoderConfig,
    RopeScaling,
    decoder_policy,
    num_params,
)
from gdpo_jax.policies.attention import masked
from gdpo_jax.policies.rotary import looked_up, rotary_table, rotary_turns

TINY = DecoderConfig(
    vocab_size=41,
    d_model=16,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    d_ff=20,
    max_positions=32,
    rope_theta=100.0,
)


def random_params(config, seed=0):
    """Parameters with every leaf random, so that no norm scale hides behind a one."""
    draw = np.random.default_rng(seed).normal
    shapes = jax.eval_shape(decoder_policy(config).init, jax.random.key(0))
    return jax.tree.map(
        lambda x: jnp.asarray(0.3 * draw(size=x.shape) + (x.ndim == 2), x.dtype), shapes
    )


def random_tokens(rows, size, seed=1):
    return np.random.default_rng(seed).integers(0, TINY.vocab_size, (rows, size), np.int32)


def numpy_forward(config, params, tokens):
    """Logits of one row, one token, one head at a time, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, scale):
        return x / np.sqrt(np.mean(x**2) + config.norm_eps) * (scale + config.norm_offset)

    def is_local(n):
        return config.window is not None and n % config.global_every != config.global_every - 1

    def frequency(pair, n):
        theta = config.local_rope_theta if is_local(n) else config.rope_theta
        radians = theta ** (-2 * pair / config.head_dim)
        scaling = config.rope_scaling
        if scaling is None or is_local(n):
            return radians
        if scaling.kind == "linear":
            return radians / scaling.factor
        wavelength = 2 * np.pi / radians
        if wavelength > scaling.original_positions / scaling.low_frequency_factor:
            return radians / scaling.factor
        if wavelength < scaling.original_positions / scaling.high_frequency_factor:
            return radians
        smooth = scaling.original_positions / wavelength - scaling.low_frequency_factor
        smooth /= scaling.high_frequency_factor - scaling.low_frequency_factor
        return (1 - smooth) * radians / scaling.factor + smooth * radians

    def head(n, name, i, row):
        x = row @ p["layers"][name][n][:, i]
        if config.attention_bias:
            x = x + p["layers"][f"{name}_bias"][n][i]
        if config.qk_norm and name != "value":
            x = norm(x, p["layers"][f"{name}_norm"]["scale"][n])
        return x

    def turn(x, position, n):
        half = len(x) // 2
        out = np.empty_like(x)
        for i in range(half):
            angle = position * frequency(i, n)
            a, b = x[i], x[i + half]
            out[i] = a * np.cos(angle) - b * np.sin(angle)
            out[i + half] = b * np.cos(angle) + a * np.sin(angle)
        return out

    def activation(x):
        if config.activation == "silu":
            return x / (1 + np.exp(-x))
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def added(rows, name, n):
        if not config.post_norms:
            return rows
        return np.stack([norm(row, p["layers"][name]["scale"][n]) for row in rows])

    root = np.sqrt(config.query_scalar or config.head_dim)
    x = p["embedding"][tokens] * (np.sqrt(config.d_model) if config.scale_embeddings else 1)
    for n in range(config.num_layers):
        w = {name: leaf[n] for name, leaf in p["layers"].items() if not isinstance(leaf, dict)}
        before = [norm(row, p["layers"]["attention_norm"]["scale"][n]) for row in x]
        mixed = np.zeros_like(x)
        for h in range(config.num_heads):
            j = h // (config.num_heads // config.num_kv_heads)
            q = [turn(head(n, "query", h, row), t, n) for t, row in enumerate(before)]
            k = [turn(head(n, "key", j, row), t, n) for t, row in enumerate(before)]
            v = [head(n, "value", j, row) for row in before]
            for t in range(len(tokens)):
                seen = range(max(0, t + 1 - config.window) if is_local(n) else 0, t + 1)
                scores = np.array([q[t] @ k[s] / root for s in seen])
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                mixed[t] += sum(a * v[s] for a, s in zip(weights, seen)) @ w["out"][h]
        x = x + added(mixed, "attention_post_norm", n)
        before = np.stack([norm(row, p["layers"]["mlp_norm"]["scale"][n]) for row in x])
        mixed = (activation(before @ w["gate"]) * (before @ w["up"])) @ w["down"]
        x = x + added(mixed, "mlp_post_norm", n)
    x = np.stack([norm(row, p["final_norm"]["scale"]) for row in x])
    return x @ (p["embedding"].T if config.tie_embeddings else p["head"])


def causal(rows, size):
    return np.broadcast_to(np.tril(np.ones((size, size), bool)), (rows, size, size))


def row_positions(rows, size):
    return np.broadcast_to(np.arange(size, dtype=np.int32), (rows, size))


@functools.partial(jax.jit, static_argnames="config")
def hidden_of(config, params, tokens, positions, mask, cache=None):
    return decoder_policy(config).apply(params, tokens, positions, mask, cache)


@functools.partial(jax.jit, static_argnames="config")
def logits_of(config, params, tokens):
    rows, size = tokens.shape
    policy = decoder_policy(config)
    positions, mask = jnp.asarray(row_positions(rows, size)), jnp.asarray(causal(rows, size))
    hidden, _ = policy.apply(params, tokens, positions, mask)
    return policy.unembed(params, hidden)


STRETCH = RopeScaling(factor=8.0, original_positions=60)
GEMMA = {
    "qk_norm": True,
    "window": 3,
    "global_every": 2,
    "local_rope_theta": 50.0,
    "rope_scaling": RopeScaling(factor=8.0, kind="linear"),
    "query_scalar": 9,
    "norm_offset": True,
    "post_norms": True,
    "scale_embeddings": True,
    "activation": "gelu_tanh",
}


@pytest.mark.parametrize(
    "family",
    [
        {},
        {"tie_embeddings": False, "rope_scaling": STRETCH},
        {"attention_bias": True},
        {"qk_norm": True},
        GEMMA,
    ],
    ids=["plain", "llama3", "qwen2", "qwen3", "gemma3"],
)
def test_logits_equal_a_plain_numpy_transformer(family):
    config = dataclasses.replace(TINY, **family)
    params, tokens = random_params(config), random_tokens(2, 6)
    logits = logits_of(config, params, tokens)
    for row in range(2):
        expected = numpy_forward(config, params, tokens[row])
        np.testing.assert_allclose(logits[row], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [{}, GEMMA], ids=["plain", "gemma3"])
def test_cached_steps_equal_one_full_forward(family):
    config = dataclasses.replace(TINY, **family)
    params, tokens = random_params(config), random_tokens(2, 9)
    full, _ = hidden_of(config, params, tokens, row_positions(2, 9), causal(2, 9))
    cache, pieces = decoder_policy(config).init_cache(2, 12), []
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        mask = np.arange(12)[None, :] <= np.arange(start, stop)[:, None]
        mask = np.broadcast_to(mask, (2, *mask.shape))
        positions = row_positions(2, 9)[:, start:stop]
        hidden, cache = hidden_of(config, params, tokens[:, start:stop], positions, mask, cache)
        pieces.append(hidden)
    assert int(cache.filled) == 9
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), full, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("family", [{"rope_scaling": STRETCH}, GEMMA], ids=["llama", "gemma3"])
def test_turns_looked_up_in_a_table_are_those_of_the_positions(family):
    config = dataclasses.replace(TINY, **family)
    positions = jnp.array([[0, 3, 7], [5, 5, 1]])
    exact = rotary_turns(config, positions)
    found = looked_up(rotary_table(config, 8), positions)
    assert len(jax.tree.leaves(found)) == (4 if config.window else 2)
    jax.tree.map(np.testing.assert_array_equal, found, exact)


@pytest.mark.parametrize(
    "family",
    [{}, {"attention_bias": True}, {"qk_norm": True}, GEMMA, {"dtype": "bfloat16"}],
    ids=["plain", "qwen2", "qwen3", "gemma3", "bfloat16"],
)
def test_unrolled_layers_with_fused_projections_equal_scanned_layers(family):
    config = dataclasses.replace(TINY, **family)
    params, tokens = random_params(config), random_tokens(2, 6)
    scanned = logits_of(config, params, tokens)
    unrolled = decoder_policy(config).unroll(params, tokens.shape[1])
    shapes = {name: x.shape for name, x in unrolled["layers"][0].items() if hasattr(x, "shape")}
    # 4 query heads and 2 of keys, 6 wide: two queries, the key and the value behind each key head.
    assert shapes["query_key_value"] == (16, 2, 4, 6) and shapes["gate_up"] == (16, 2, 20)
    assert not {"query", "key", "value", "gate", "up"} & set(shapes)
    fused = logits_of(config, unrolled, tokens)
    tolerance = 0.03 * float(np.abs(scanned).max()) if config.dtype == "bfloat16" else 1e-4
    np.testing.assert_allclose(fused, scanned, rtol=1e-5, atol=tolerance)


@functools.partial(jax.jit, static_argnames="config")
def gradient_of(config, params, tokens):
    return jax.grad(lambda p: jnp.sin(logits_of(config, p, tokens)).mean())(params)


@pytest.mark.parametrize("remat", ["layer", "dots"])
def test_remat_changes_no_gradient(remat):
    params, tokens = random_params(TINY), random_tokens(2, 6)
    plain = gradient_of(TINY, params, tokens)
    again = gradient_of(dataclasses.replace(TINY, remat=remat), params, tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)


def test_bfloat16_computes_near_float32_and_keeps_float32_where_it_counts():
    config = dataclasses.replace(TINY, dtype="bfloat16")
    params, tokens = random_params(TINY), random_tokens(2, 6)
    hidden, _ = hidden_of(config, params, tokens, row_positions(2, 6), causal(2, 6))
    assert hidden.dtype == jnp.bfloat16
    exact, logits = logits_of(TINY, params, tokens), logits_of(config, params, tokens)
    assert logits.dtype == jnp.float32
    assert 0 < float(np.abs(logits - exact).max()) < 0.1 * float(np.abs(exact).max())
    for leaf in jax.tree.leaves(gradient_of(config, params, tokens)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()


def test_rows_do_not_see_what_follows_or_each_other():
    params, tokens = random_params(TINY), random_tokens(2, 6)
    other = tokens.copy()
    other[0, 4:], other[1] = 7, 3
    before = logits_of(TINY, params, tokens)[0, :4]
    after = logits_of(TINY, params, other)
    np.testing.assert_allclose(after[0, :4], before, rtol=1e-5, atol=1e-5)
    assert (after[0, 4] != logits_of(TINY, params, tokens)[0, 4]).any()


def test_a_query_that_sees_nothing_stays_finite():
    params, tokens = random_params(TINY), random_tokens(1, 3)
    mask = np.zeros((1, 3, 3), bool)

    @jax.jit
    def gradient(p):
        return jax.grad(lambda p: hidden_of(TINY, p, tokens, row_positions(1, 3), mask)[0].sum())(p)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(params)))


def test_positions_decide_the_window_not_slots():
    """A gap in the slots is none in the window, and a jump of positions is one."""
    config = dataclasses.replace(TINY, **GEMMA)
    params, tokens = random_params(config), random_tokens(1, 6)
    whole, _ = hidden_of(config, params, tokens, row_positions(1, 6), causal(1, 6))
    apart = np.insert(tokens, 3, [[7], [7]], axis=1)
    positions = np.array([[0, 1, 2, 9, 9, 3, 4, 5]], np.int32)
    shown = causal(1, 8) & ~np.isin(np.arange(8), [3, 4])
    gap, _ = hidden_of(config, params, apart, positions, shown)
    np.testing.assert_allclose(np.delete(gap, [3, 4], axis=1), whole, rtol=1e-5, atol=1e-5)
    # Three positions on, the local layers see nothing before; in the global ones, angles differ.
    local = dataclasses.replace(config, global_every=99)
    far, _ = hidden_of(local, params, tokens, np.array([[0, 1, 2, 5, 6, 7]]), causal(1, 6))
    alone, _ = hidden_of(local, params, tokens[:, 3:], row_positions(1, 3), causal(1, 3))
    np.testing.assert_allclose(far[:, 3:], alone, rtol=1e-4, atol=1e-4)


def test_a_layout_without_its_window_is_refused():
    config = dataclasses.replace(TINY, **GEMMA)
    policy, tokens = decoder_policy(config), random_tokens(1, 3)
    with pytest.raises(ValueError, match="was given its window"):
        see = masked(jnp.asarray(causal(1, 3)))
        policy.forward(random_params(config), tokens, jnp.arange(3)[None], see)


def test_rows_longer_than_the_positions_are_refused():
    policy = decoder_policy(TINY)
    tokens, positions = jnp.zeros((1, 33), int), jnp.arange(33)[None]
    with pytest.raises(UserError, match="rows of 33 tokens exceed the policy's 32 positions"):
        policy.apply(random_params(TINY), tokens, positions, jnp.asarray(causal(1, 33)))
    with pytest.raises(UserError, match="rows of 40 tokens exceed"):
        policy.init_cache(2, 40)


@pytest.mark.parametrize("tie", [True, False])
def test_logical_axes_name_every_axis_of_every_parameter(tie):
    more = {"attention_bias": tie, "qk_norm": tie, "post_norms": tie}
    policy = decoder_policy(dataclasses.replace(TINY, tie_embeddings=tie, **more))
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    axes = policy.logical_axes()
    sizes = {
        "vocab": {41},
        "embed": {16},
        "heads": {4},
        "kv_heads": {2},
        "head_dim": {6},
        "mlp": {20},
        "layers": {3},
    }
    checked = jax.tree.map(
        lambda names, leaf: (
            [leaf.shape[i] in sizes[n] for i, n in enumerate(names)] + [len(names) == leaf.ndim]
        ),
        axes,
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    assert all(jax.tree.leaves(checked))
    assert ("head" in axes) == (not tie)


def test_parameter_count_and_initial_scale(getkey):
    params = jax.jit(decoder_policy(TINY).init)(getkey())
    attention = 16 * 6 * (4 + 2 + 2) + 4 * 6 * 16
    assert num_params(params) == 41 * 16 + 3 * (attention + 3 * 16 * 20 + 2 * 16) + 16
    layers = params["layers"]
    assert not np.allclose(layers["query"][0], layers["query"][1])
    np.testing.assert_allclose(float(layers["gate"].std()), 16**-0.5, rtol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 is not a multiple of num_kv_heads 2"),
        ({"head_dim": 5}, "head_dim must be even"),
        ({"d_ff": 0}, "d_ff must be at least 1, got 0"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"activation": "relu"}, "legal: silu, gelu_tanh"),
        ({"dtype": "float16"}, "legal: float32, bfloat16"),
        ({"remat": "all"}, "legal: none, layer, dots"),
    ],
)
def test_impossible_configs_are_refused_with_the_legal_values(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **change)


def test_a_config_is_hashable_and_a_policy_compiles_once_for_it():
    assert hash(TINY) == hash(dataclasses.replace(TINY))
    assert decoder_policy(TINY).config == TINY
