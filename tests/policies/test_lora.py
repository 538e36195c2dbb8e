"""Adapters beside the parameters, in them, and on disk in peft's layout."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    LoraConfig,
    completion_log_probs,
    decoder_policy,
    load_adapters,
    load_pretrained,
    lora_apply,
    lora_init,
    lora_merge,
    lora_policy,
    open_pretrained,
    save_adapters,
)
from gdpo_jax.rollouts import SamplerConfig, sample
from gdpo_jax.training import MeshConfig, make_mesh, shardings_for
from tests.policies.checkpoints import REFERENCE

LORA = LoraConfig(rank=3, alpha=6.0)


@functools.partial(jax.jit, static_argnames="policy")
def log_probs_of(policy, params):
    draw = np.random.default_rng(0).integers
    prompts, completions = draw(0, 96, (2, 5), np.int32), draw(0, 96, (2, 3, 4), np.int32)
    lengths, mask = np.array([5, 2], np.int32), np.ones((2, 3, 4), bool)
    given = map(jnp.asarray, (prompts, lengths, completions, mask))
    return completion_log_probs(policy, params, *given)[0]


def random_adapters(params, config=LORA, seed=1):
    adapters = lora_init(jax.random.key(seed), params, config)
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda a: jnp.asarray(0.1 * draw(size=a.shape), a.dtype), adapters)


def loaded(name):
    opened = open_pretrained(REFERENCE / name)
    return decoder_policy(opened.config), load_pretrained(opened)


@pytest.fixture(scope="module", params=["llama3", "gemma3"])
def each(request):
    return loaded(request.param)


@pytest.fixture(scope="module")
def model():
    return loaded("llama3")


def test_fresh_adapters_change_nothing_and_trained_ones_do(each):
    policy, params = each
    fresh = lora_init(jax.random.key(0), params, LORA)
    plain = log_probs_of(policy, params)
    same = log_probs_of(policy, lora_apply(params, fresh, LORA))
    np.testing.assert_allclose(same, plain, rtol=1e-6)
    bounds = {name: float(jnp.abs(pair["a"]).max()) for name, pair in fresh["layers"].items()}
    assert 0.9 * 24**-0.5 < bounds["query"] < 24**-0.5
    assert 0.9 * 40**-0.5 < bounds["down"] < 40**-0.5
    changed = lora_apply(params, random_adapters(params), LORA)
    assert np.abs(log_probs_of(policy, changed) - plain).max() > 0.05


def test_merged_equals_apart_equals_the_formula(each):
    policy, params = each
    adapters = random_adapters(params)
    apart = log_probs_of(policy, lora_apply(params, adapters, LORA))
    merged = lora_merge(params, adapters, LORA)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    np.testing.assert_allclose(log_probs_of(policy, merged), apart, atol=2e-5)
    pair = jax.tree.map(np.asarray, adapters["layers"]["out"])
    by_hand = np.stack([6 / 3 * a @ b for a, b in zip(pair["a"], pair["b"])])
    change = merged["layers"]["out"] - params["layers"]["out"]
    np.testing.assert_allclose(change, by_hand.reshape(change.shape), atol=1e-6)


def test_each_target_alone_is_adapted(model):
    policy, params = model
    plain = log_probs_of(policy, params)
    for target in LoraConfig().targets:
        config = LoraConfig(rank=2, targets=(target,))
        adapters = random_adapters(params, config)
        assert list(adapters["layers"]) == [target]
        apart = log_probs_of(policy, lora_apply(params, adapters, config))
        merged = log_probs_of(policy, lora_merge(params, adapters, config))
        np.testing.assert_allclose(apart, merged, atol=2e-5)
        assert np.abs(apart - plain).max() > 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_sampler_draws_from_the_adapted_policy(dtype):
    opened = open_pretrained(REFERENCE / "llama3", dtype=dtype)
    policy = lora_policy(decoder_policy(opened.config), LORA)
    base = load_pretrained(opened)
    params = {"base": base, "adapters": random_adapters(base)}
    prompts, lengths = jnp.array([[3, 4, 5]] * 2), jnp.array([3, 2])
    config = SamplerConfig(max_new_tokens=6, stop_ids=(1,), pad_id=0)

    @jax.jit
    def run(params):
        rollout = sample(
            policy, params, prompts, lengths, jax.random.key(0), num_samples=4, config=config
        )
        given = (rollout.prompts, rollout.prompt_lengths, rollout.completions, rollout.mask)
        of = functools.partial(completion_log_probs, policy)
        return rollout.log_probs, of(params, *given)[0], of(params["base"], *given)[0]

    sampled, trained, reference = run(params)
    tolerance = 1e-4 if dtype == "float32" else 0.15
    np.testing.assert_allclose(sampled, trained, atol=tolerance)
    assert np.abs(reference - sampled).max() > 3 * tolerance
    # In bfloat16 the adapters stay apart, or rounding would lose a part of them.
    apart = "query_lora" in policy.unroll(params, 8)["layers"][0]
    assert apart == (dtype == "bfloat16")


def test_a_lora_policy_takes_plain_parameters_as_its_reference(model):
    policy, params = model
    adapted = lora_policy(policy, LORA)
    both = {"base": params, "adapters": random_adapters(params)}
    assert adapted.reference(both) is params
    np.testing.assert_array_equal(log_probs_of(adapted, params), log_probs_of(policy, params))
    jax.tree.map(np.testing.assert_array_equal, adapted.unroll(params, 8), policy.unroll(params, 8))


def test_gradients_of_adapters_need_none_of_the_matrices(model):
    """Apart, the compiled gradient holds no product of the shape of an adapted matrix."""
    policy, params = model
    adapters = random_adapters(params)

    def loss(adapters, join):
        return log_probs_of(policy, join(params, adapters, LORA)).sum()

    def results(join):
        text = jax.jit(jax.grad(functools.partial(loss, join=join))).lower(adapters).as_text()
        return [line.split("->")[-1] for line in text.splitlines() if "dot_general" in line]

    width, ff = policy.config.d_model, policy.config.d_ff
    assert any(f"tensor<{width}x{ff}xf32>" in result for result in results(lora_merge))
    assert not any(f"tensor<{width}x{ff}xf32>" in result for result in results(lora_apply))
    gradients = [
        jax.jit(jax.grad(functools.partial(loss, join=join)))(adapters)
        for join in (lora_apply, lora_merge)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3), *gradients)


def test_adapters_lie_on_a_mesh_with_their_matrices(model):
    policy, params = model
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), jax.devices()[:8])
    adapted = lora_policy(policy, LORA)
    both = {"base": params, "adapters": random_adapters(params)}
    placed = jax.device_put(both, shardings_for(adapted.logical_axes(), both, mesh))
    specs = jax.tree.map(lambda leaf: leaf.sharding.spec, placed["adapters"]["layers"])
    assert specs["query"] == {
        "a": jax.P(None, "fsdp", None),
        "b": jax.P(None, None, "tensor"),
    }
    assert specs["down"] == {"a": jax.P(None, "tensor", None), "b": jax.P(None, None, "fsdp")}
    expected = log_probs_of(adapted, both)
    np.testing.assert_allclose(log_probs_of(adapted, placed), expected, atol=2e-5)


def test_saving_and_loading_adapters(model, tmp_path):
    policy, params = model
    config = LoraConfig(rank=2, alpha=5.0, targets=("query", "out", "down"))
    adapters = random_adapters(params, config)
    save_adapters(tmp_path, adapters, config, base="org/model")
    again, found = load_adapters(tmp_path, policy.config)
    assert found == config
    jax.tree.map(np.testing.assert_array_equal, again, adapters)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"
    assert tensors[name.format("A")].shape == (2, 40)
    assert tensors[name.format("B")].shape == (24, 2)
    about = json.loads((tmp_path / "adapter_config.json").read_text())
    assert about["target_modules"] == ["q_proj", "o_proj", "down_proj"]
    assert about["base_model_name_or_path"] == "org/model"
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), jax.devices()[:8])
    axes = lora_policy(policy, config).logical_axes()["adapters"]
    shardings = shardings_for(axes, adapters, mesh)
    sharded, _ = load_adapters(tmp_path, policy.config, shardings=shardings)
    jax.tree.map(np.testing.assert_array_equal, sharded, adapters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type='LOHA' is not supported; legal: LORA"),
        ({"use_dora": True}, "use_dora=True is not supported"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, r"\['embed_tokens'\] are not supported"),
        ({"target_modules": "all-linear"}, r"\['all-linear'\] are not supported; legal: \['q_p"),
        ({"r": 4}, "28 of another shape"),
        ({"target_modules": ["q_proj"]}, "24 not of this model"),
    ],
)
def test_adapters_that_are_not_supported_are_refused(model, tmp_path, change, message):
    policy, params = model
    save_adapters(tmp_path, random_adapters(params), LORA)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        load_adapters(tmp_path, policy.config)


def test_folders_without_adapters_are_refused(model, tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*adapter_config\.json"):
        load_adapters(tmp_path, model[0].config)
    save_adapters(tmp_path, random_adapters(model[1]), LORA)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"there is no file .*adapter_model\.safetensors"):
        load_adapters(tmp_path, model[0].config)
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="missing"):
        load_adapters(tmp_path, model[0].config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "lora rank must be at least 1, got 0"),
        ({"targets": ("query", "head")}, r"targets \['head'\] are unknown; legal: query, key"),
        ({"targets": ()}, "are unknown; legal"),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        LoraConfig(**options)


def test_targets_may_be_a_list():
    config = LoraConfig(targets=["query", "value"])
    assert config == LoraConfig(targets=("query", "value"))
    assert hash(config) == hash(LoraConfig(targets=("query", "value")))
    assert LoraConfig(targets="query").targets == ("query",)
