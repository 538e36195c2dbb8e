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
    open_adapters,
    open_pretrained,
    save_adapters,
)
from gdpo_jax.policies.files.adapters import FIXED, HARMLESS, READ
from gdpo_jax.rollouts import SamplerConfig, sample
from gdpo_jax.training import MeshConfig, make_mesh, shardings_for
from tests.policies.files.checkpoints import REFERENCE

LORA = LoraConfig(rank=3, alpha=6.0)


@functools.partial(jax.jit, static_argnames="policy")
def log_probs_of(policy, params):
    draw = np.random.default_rng(0).integers
    prompts, completions = draw(0, 96, (2, 5), np.int32), draw(0, 96, (2, 3, 4), np.int32)
    lengths, mask = np.array([5, 2], np.int32), np.ones((2, 3, 4), bool)
    given = map(jnp.asarray, (prompts, lengths, completions, mask))
    return completion_log_probs(policy, params, *given)[0]


def random_adapters(params, config=LORA, seed=1):
    adapters = jax.eval_shape(lambda: lora_init(jax.random.key(seed), params, config))
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda a: jnp.asarray((0.1 * draw(size=a.shape)).astype(a.dtype)), adapters)


applied = jax.jit(lora_apply, static_argnums=2)
merged_with = jax.jit(lora_merge, static_argnums=2)


@functools.cache
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
    fresh = jax.jit(lora_init, static_argnums=2)(jax.random.key(0), params, LORA)
    plain = log_probs_of(policy, params)
    same = log_probs_of(policy, applied(params, fresh, LORA))
    np.testing.assert_allclose(same, plain, rtol=1e-6)
    bounds = {name: np.abs(pair["a"]).max() for name, pair in fresh["layers"].items()}
    assert 0.9 * 24**-0.5 < bounds["query"] < 24**-0.5
    assert 0.9 * 40**-0.5 < bounds["down"] < 40**-0.5
    changed = applied(params, random_adapters(params), LORA)
    assert np.abs(log_probs_of(policy, changed) - plain).max() > 0.05


def test_merged_equals_apart_equals_the_formula(each):
    policy, params = each
    adapters = random_adapters(params)
    apart = log_probs_of(policy, applied(params, adapters, LORA))
    merged = merged_with(params, adapters, LORA)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    np.testing.assert_allclose(log_probs_of(policy, merged), apart, atol=2e-5)
    pair = jax.tree.map(np.asarray, adapters["layers"]["out"])
    by_hand = np.stack([6 / 3 * a @ b for a, b in zip(pair["a"], pair["b"])])
    change = np.asarray(merged["layers"]["out"]) - np.asarray(params["layers"]["out"])
    np.testing.assert_allclose(change, by_hand.reshape(change.shape), atol=1e-6)


def test_each_target_alone_is_adapted(model):
    policy, params = model
    plain = log_probs_of(policy, params)
    for target in LoraConfig().targets:
        config = LoraConfig(rank=2, targets=(target,))
        adapters = random_adapters(params, config)
        assert list(adapters["layers"]) == [target]
        apart = log_probs_of(policy, applied(params, adapters, config))
        merged = log_probs_of(policy, merged_with(params, adapters, config))
        np.testing.assert_allclose(apart, merged, atol=2e-5)
        assert np.abs(apart - plain).max() > 1e-4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_sampler_draws_from_the_adapted_policy(dtype):
    opened = open_pretrained(REFERENCE / "llama3", dtype=dtype)
    policy = lora_policy(decoder_policy(opened.config), LORA)
    base = load_pretrained(opened)
    params = {"base": base, "adapters": random_adapters(base)}
    prompts, lengths = np.array([[3, 4, 5]] * 2, np.int32), np.array([3, 2], np.int32)
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
    apart = "query_lora" in jax.eval_shape(lambda: policy.unroll(params, 8))["layers"][0]
    assert apart == (dtype == "bfloat16")


def test_a_lora_policy_takes_plain_parameters_as_its_reference(model):
    policy, params = model
    adapted = lora_policy(policy, LORA)
    both = {"base": params, "adapters": random_adapters(params)}
    assert adapted.reference(both) is params
    np.testing.assert_array_equal(log_probs_of(adapted, params), log_probs_of(policy, params))
    ours, plain = (jax.jit(lambda p, of=of: of.unroll(p, 8))(params) for of in (adapted, policy))
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


def test_gradients_of_adapters_need_none_of_the_matrices(model):
    """Apart, the compiled gradient holds no product of the shape of an adapted matrix."""
    policy, params = model
    adapters = random_adapters(params)

    def gradient(join):
        def loss(adapters):
            return log_probs_of(policy, join(params, adapters, LORA)).sum()

        return jax.jit(jax.grad(loss)).lower(adapters)

    def results(lowered):
        lines = lowered.as_text().splitlines()
        return [line.split("->")[-1] for line in lines if "dot_general" in line]

    width, ff = policy.config.d_model, policy.config.d_ff
    apart, merged = gradient(lora_apply), gradient(lora_merge)
    assert any(f"tensor<{width}x{ff}xf32>" in result for result in results(merged))
    assert not any(f"tensor<{width}x{ff}xf32>" in result for result in results(apart))
    gradients = [jax.device_get(lowered.compile()(adapters)) for lowered in (apart, merged)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3), *gradients)


def test_adapters_lie_on_a_mesh_with_their_matrices(model):
    policy, params = model
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), jax.devices()[:8])
    adapted = lora_policy(policy, LORA)
    both = {"base": params, "adapters": random_adapters(params)}
    shardings = shardings_for(adapted.logical_axes(), both, mesh)
    placed = jax.device_put(jax.device_get(both), shardings)
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


def test_every_field_of_the_table_is_legal_with_few_values_only(model, tmp_path):
    save_adapters(tmp_path, random_adapters(model[1]), LORA, base="org/model")
    path = tmp_path / "adapter_config.json"
    raw = json.loads(path.read_text())
    assert open_adapters(tmp_path) == (LORA, "org/model")

    def opened(change):
        path.write_text(json.dumps(raw | change))
        return open_adapters(tmp_path)

    assert not set(FIXED) & {*HARMLESS, *READ} and not set(HARMLESS) & set(READ)
    for name in HARMLESS:
        assert opened({name: 7}) == (LORA, "org/model")
    for name, legal in FIXED.items():
        for value in legal:
            assert opened({name: value}).config == LORA
        with pytest.raises(UserError, match=f"{name}=0.37 is not supported; legal: "):
            opened({name: 0.37})
    for start in ("pissa", "pissa_niter_4", "olora", "corda", "eva", "loftq", "new"):
        with pytest.raises(UserError, match=f"init_lora_weights='{start}' is not supported"):
            opened({"init_lora_weights": start})
    for change, message in (
        ({"use_newlora": True}, "the field use_newlora=True is unknown and may change"),
        ({"r": "2"}, "r must be a whole number"),
        ({"r": 2.5}, "r must be a whole number"),
        ({"r": None}, "the field r is missing"),
        ({"r": 0}, "r must be a whole number of 1 to"),
        ({"lora_alpha": None}, "the field lora_alpha is missing"),
        ({"lora_alpha": "much"}, "lora_alpha must be a finite number"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a finite number"),
        ({"target_modules": [1]}, r"target_modules \[1\] are not supported"),
        ({"target_modules": 3}, "target_modules must list modules, got 3"),
        ({"target_modules": ["mlp.q_proj"]}, r"\['mlp.q_proj'\] are not supported"),
        ({"target_modules": None}, "target_modules must list modules"),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path must be text"),
    ):
        with pytest.raises(UserError, match=message):
            opened(change)
    assert opened({"use_newlora": False, "base_model_name_or_path": ""}).base is None
    path.write_text(json.dumps({k: v for k, v in raw.items() if k != "peft_type"}))
    with pytest.raises(UserError, match="the field peft_type is missing"):
        open_adapters(tmp_path)


def test_adapters_of_a_multimodal_model_are_found_under_its_names(model, tmp_path):
    adapters = random_adapters(model[1])
    save_adapters(tmp_path, adapters, LORA)
    path = tmp_path / "adapter_model.safetensors"
    plain = load_file(path)
    for body in ("language_model.model.", "model.language_model."):
        named = {name.replace("model.layers", f"{body}layers"): a for name, a in plain.items()}
        save_file(named, path)
        again, _ = load_adapters(tmp_path, model[0].config)
        jax.tree.map(np.testing.assert_array_equal, again, adapters)


def test_adapters_and_a_configuration_of_other_targets_are_not_saved(model, tmp_path):
    other = LoraConfig(rank=3, targets=("query",))
    with pytest.raises(UserError, match=r"the configuration of \['query'\]"):
        save_adapters(tmp_path / "out", random_adapters(model[1]), other)
    assert not (tmp_path / "out").exists()


def test_an_adapter_folder_is_no_model_folder(model, tmp_path):
    save_adapters(tmp_path, random_adapters(model[1]), LORA)
    with pytest.raises(UserError, match=r"no config\.json: it holds adapters; open their base"):
        open_pretrained(tmp_path)


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
        ({"targets": "query,key"}, r"\['query,key'\] are unknown"),
        ({"targets": ["up", "up"]}, "name a matrix twice"),
        ({"rank": 2.5}, "lora rank must be"),
        ({"alpha": float("nan")}, "lora alpha must be a finite number, got nan"),
    ],
)
def test_impossible_configurations_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        LoraConfig(**options)


def test_targets_may_be_a_list():
    config = LoraConfig(rank=2, targets=["query", "up"])
    assert config == LoraConfig(rank=2, targets=("query", "up"))
    assert hash(config) == hash(LoraConfig(rank=2, targets=("query", "up")))
    assert LoraConfig(targets="up").targets == ("up",)
