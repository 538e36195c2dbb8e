"""Every real size builds, and counts the parameters that its publishers state."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies import RopeScaling, completion_log_probs, decoder_policy, families
from gdpo_jax.policies.families import gemma3, llama3, qwen3, qwen25, smollm2

CONSTRUCTORS = {
    smollm2: families.SMOLLM2,
    llama3: families.LLAMA3,
    qwen25: families.QWEN25,
    qwen3: families.QWEN3,
    gemma3: families.GEMMA3,
}
EVERY = [(build, size) for build, table in CONSTRUCTORS.items() for size in table]


def count(config):
    """Parameters by the shapes alone: nothing is allocated."""
    shapes = jax.eval_shape(decoder_policy(config).init, jax.random.key(0))
    return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (smollm2("135M"), 134_515_008),
        (smollm2("1.7B"), 1_711_376_384),
        (llama3("3.2-1B"), 1_235_814_400),
        (llama3("3.1-8B"), 8_030_261_248),
        (qwen25("0.5B"), 494_032_768),
        (qwen25("7B"), 7_615_616_512),
        (qwen3("0.6B"), 596_049_920),
        (qwen3("8B"), 8_190_735_360),
        (llama3("3.1-405B"), 405_853_388_800),
        (gemma3("270M"), 268_098_176),
        (gemma3("1B"), 999_885_952),
    ],
)
def test_parameter_counts_are_the_published_ones(config, published):
    assert count(config) == published


@pytest.mark.parametrize(("build", "size"), EVERY, ids=lambda x: getattr(x, "__name__", x))
def test_every_size_holds_about_the_parameters_in_its_name(build, size):
    billions = float(size.split("-")[-1][:-1]) / (1000 if size.endswith("M") else 1)
    assert 0.85 * billions < count(build(size)) / 1e9 < 1.3 * billions


# Vocabulary, positions, base of the angles, epsilon of the norms, and the rest that no count of
# parameters shows, as in the published config.json files of the Instruct checkpoints.
_STRETCHED = {factor: RopeScaling(kind="llama3", factor=factor) for factor in (8.0, 32.0)}
_LINEAR = {"window": 1024, "rope_scaling": RopeScaling(kind="linear", factor=8.0)}
PUBLISHED = {
    (smollm2, "135M"): (49_152, 8192, 1e5, 1e-5, {}),
    (smollm2, "360M"): (49_152, 8192, 1e5, 1e-5, {}),
    (smollm2, "1.7B"): (49_152, 8192, 1.3e5, 1e-5, {}),
    (llama3, "3-8B"): (128_256, 8192, 5e5, 1e-5, {}),
    (llama3, "3-70B"): (128_256, 8192, 5e5, 1e-5, {}),
    (llama3, "3.2-1B"): (128_256, 131_072, 5e5, 1e-5, {"rope_scaling": _STRETCHED[32.0]}),
    (llama3, "3.2-3B"): (128_256, 131_072, 5e5, 1e-5, {"rope_scaling": _STRETCHED[32.0]}),
    (llama3, "3.1-8B"): (128_256, 131_072, 5e5, 1e-5, {"rope_scaling": _STRETCHED[8.0]}),
    (llama3, "3.1-70B"): (128_256, 131_072, 5e5, 1e-5, {"rope_scaling": _STRETCHED[8.0]}),
    (llama3, "3.1-405B"): (128_256, 131_072, 5e5, 1e-5, {"rope_scaling": _STRETCHED[8.0]}),
    (llama3, "3.3-70B"): (128_256, 131_072, 5e5, 1e-5, {"rope_scaling": _STRETCHED[8.0]}),
    (qwen25, "0.5B"): (151_936, 32_768, 1e6, 1e-6, {}),
    (qwen25, "1.5B"): (151_936, 32_768, 1e6, 1e-6, {}),
    (qwen25, "3B"): (151_936, 32_768, 1e6, 1e-6, {}),
    (qwen25, "7B"): (152_064, 32_768, 1e6, 1e-6, {}),
    (qwen25, "14B"): (152_064, 32_768, 1e6, 1e-6, {}),
    (qwen25, "32B"): (152_064, 32_768, 1e6, 1e-6, {}),
    (qwen25, "72B"): (152_064, 32_768, 1e6, 1e-6, {}),
    (qwen3, "0.6B"): (151_936, 40_960, 1e6, 1e-6, {}),
    (qwen3, "1.7B"): (151_936, 40_960, 1e6, 1e-6, {}),
    (qwen3, "4B"): (151_936, 40_960, 1e6, 1e-6, {}),
    (qwen3, "8B"): (151_936, 40_960, 1e6, 1e-6, {}),
    (qwen3, "14B"): (151_936, 40_960, 1e6, 1e-6, {}),
    (qwen3, "32B"): (151_936, 40_960, 1e6, 1e-6, {}),
    (gemma3, "270M"): (262_144, 32_768, 1e6, 1e-6, {"query_scalar": 256, "window": 512}),
    (gemma3, "1B"): (262_144, 32_768, 1e6, 1e-6, {"query_scalar": 256, "window": 512}),
    (gemma3, "4B"): (262_208, 131_072, 1e6, 1e-6, {"query_scalar": 256, **_LINEAR}),
    (gemma3, "12B"): (262_208, 131_072, 1e6, 1e-6, {"query_scalar": 256, **_LINEAR}),
    (gemma3, "27B"): (262_208, 131_072, 1e6, 1e-6, {"query_scalar": 168, **_LINEAR}),
}


@pytest.mark.parametrize(("build", "size"), EVERY, ids=lambda x: getattr(x, "__name__", x))
def test_what_no_count_shows_is_as_published(build, size):
    vocab, positions, theta, epsilon, others = PUBLISHED[build, size]
    wanted = {
        "vocab_size": vocab,
        "max_positions": positions,
        "rope_theta": theta,
        "norm_eps": epsilon,
        "rope_scaling": None,
        "window": None,
        "query_scalar": None,
        "local_rope_theta": 1e4,
        "global_every": 6,
        **others,
    }
    config = build(size)
    assert {name: getattr(config, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (smollm2, "135M"),
        (llama3, "3.2-1B"),
        (qwen25, "0.5B"),
        (qwen3, "0.6B"),
        (gemma3, "1B"),
    ],
)
def test_a_shrunk_one_of_each_family_computes(build, size):
    config = build(
        size, vocab_size=40, d_model=16, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=8
    )
    policy = decoder_policy(config)
    params = jax.tree.map(
        lambda x: jnp.full(x.shape, 0.1), jax.eval_shape(policy.init, jax.random.key(0))
    )
    tokens = np.arange(6, dtype=np.int32).reshape(1, 2, 3)
    prompts, lengths = np.array([[1, 2]], np.int32), np.array([2], np.int32)

    @jax.jit
    def log_probs(params, *arrays):
        return completion_log_probs(policy, params, *arrays)[0]

    values = log_probs(params, prompts, lengths, tokens, tokens >= 0)
    # All rows of the embedding are equal, so every token is equally likely.
    np.testing.assert_allclose(values, -np.log(40), rtol=1e-5)


def test_an_unknown_size_is_refused_with_the_sizes():
    with pytest.raises(UserError, match=r"Qwen3 has no size '7B'; sizes: 0\.6B, 1\.7B, 4B, 8B"):
        qwen3("7B")
