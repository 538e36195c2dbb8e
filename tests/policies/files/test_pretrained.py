"""Models on disk: transformers' logits, slices only, and errors that name what is wrong."""

import dataclasses
import json
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DecoderConfig,
    RopeScaling,
    decoder_policy,
    families,
    load_pretrained,
    open_pretrained,
    save_pretrained,
    train_tokenizer,
)
from gdpo_jax.policies.files.hub_config import config_from_hub, config_to_hub
from gdpo_jax.policies.files.weights import abstract_params
from gdpo_jax.training import MeshConfig, make_mesh, shardings_for
from tests.policies.files.checkpoints import NAMES, REFERENCE, logits_of


def relative_error(logits, expected):
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def loaded():
    """Configuration and parameters of every family."""
    opened = {name: open_pretrained(REFERENCE / name) for name in NAMES}
    return {name: (p.config, load_pretrained(p)) for name, p in opened.items()}


def assert_equal_trees(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(loaded, name):
    golden = np.load(REFERENCE / name / "golden.npz")
    config, params = loaded[name]
    assert relative_error(logits_of(config, params, golden["tokens"]), golden["logits"]) < 1e-4


def test_what_families_differ_in_changes_the_logits(loaded):
    """Each setting that a config.json carries is one that the logits depend on."""
    changes = {
        "llama3": [{"rope_scaling": None}, {"rope_theta": 900.0}, {"norm_eps": 0.1}],
        "gemma3": [
            {"window": 5},
            {"global_every": 3},
            {"local_rope_theta": 60.0},
            {"rope_scaling": None},
            {"query_scalar": 8},
            {"norm_offset": False},
            {"scale_embeddings": False},
            {"activation": "silu"},
        ],
    }
    for name, variants in changes.items():
        config, params = loaded[name]
        golden = np.load(REFERENCE / name / "golden.npz")
        for change in variants:
            other = dataclasses.replace(config, **change)
            error = relative_error(logits_of(other, params, golden["tokens"]), golden["logits"])
            assert error > 1e-3, change


def counting(pretrained):
    """The same model, and a list of (tensor, bytes) that grows with every read."""
    reads = []

    def read(name, cuts):
        values = pretrained.source.read(name, cuts)
        reads.append((name, values.nbytes))
        return values

    return pretrained._replace(source=pretrained.source._replace(read=read)), reads


MESHES = [{"fsdp": 4, "tensor": 2}, {"data": 2, "fsdp": 2, "tensor": 2}]


@pytest.mark.parametrize("axes", MESHES, ids=["4x2", "2x2x2"])
@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_a_mesh_reads_each_slice_once_and_no_device_gets_more(loaded, name, axes):
    config, whole = loaded[name]
    mesh = make_mesh(MeshConfig(**{"data": 1, **axes}), jax.devices()[:8])
    policy = decoder_policy(config)
    shardings = shardings_for(policy.logical_axes(), abstract_params(config), mesh)
    pretrained, reads = counting(open_pretrained(REFERENCE / name))
    params = load_pretrained(pretrained, shardings)
    assert_equal_trees(params, whole)
    for leaf, sharding in zip(jax.tree.leaves(params), jax.tree.leaves(shardings)):
        assert leaf.sharding == sharding
    # Every number is read once: slices of sharded tensors do not overlap, copies share a read.
    assert sum(size for _, size in reads) == sum(leaf.nbytes for leaf in jax.tree.leaves(whole))
    # Matrices are read in as many pieces as the mesh cuts them into.
    cut = axes["fsdp"] * axes["tensor"]
    pieces = [size for tensor, size in reads if tensor == "model.layers.1.mlp.up_proj.weight"]
    assert pieces == [whole["layers"]["up"][1].nbytes // cut] * cut
    most = max(piece.data.nbytes for piece in params["layers"]["query"].addressable_shards)
    assert most == whole["layers"]["query"].nbytes // cut


def test_a_cut_head_is_read_right(loaded):
    """Head sizes may be cut too: the file is then read by whole heads."""
    _, whole = loaded["qwen3"]
    mesh = jax.make_mesh((5,), ("x",), devices=jax.devices()[:5])
    spec = jax.tree.map(lambda _: jax.P(), whole)
    spec["layers"]["query"] = jax.P(None, None, None, "x")
    spec["layers"]["out"] = jax.P(None, None, "x", None)
    shardings = jax.tree.map(lambda s: jax.NamedSharding(mesh, s), spec)
    assert_equal_trees(load_pretrained(open_pretrained(REFERENCE / "qwen3"), shardings), whole)


@pytest.mark.parametrize("name", NAMES)
def test_saving_and_opening_again_changes_nothing(loaded, name, tmp_path):
    config, params = loaded[name]
    save_pretrained(tmp_path, config, params, max_file_bytes=30_000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    again = open_pretrained(tmp_path)
    assert again.config == config
    assert_equal_trees(load_pretrained(again), params)
    # One file now, and nothing of the several is looked at any more.
    save_pretrained(tmp_path, config, params, dtype="bfloat16")
    half = open_pretrained(tmp_path, remat="layer")
    assert half.config == dataclasses.replace(config, remat="layer")
    rounded = jax.tree.map(lambda p: p.astype(jnp.bfloat16).astype(jnp.float32), params)
    assert_equal_trees(load_pretrained(half), rounded)


def test_sharded_parameters_are_saved_whole(loaded, tmp_path):
    config, params = loaded["qwen3"]
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), jax.devices()[:8])
    shardings = shardings_for(decoder_policy(config).logical_axes(), params, mesh)
    save_pretrained(tmp_path, config, jax.device_put(params, shardings))
    assert_equal_trees(load_pretrained(open_pretrained(tmp_path)), params)


def copied(name, to):
    shutil.copytree(REFERENCE / name, to, dirs_exist_ok=True)
    return to


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_all_tensors_that_do_not_fit_are_listed_in_one_error(tmp_path):
    copied("llama3", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    del tensors["lm_head.weight"]
    tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros((2, 2), np.float32)
    tensors["model.norm.weight"] = np.zeros(5, np.float32)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(4, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as error:
        load_pretrained(open_pretrained(tmp_path))
    message = str(error.value)
    assert "2 missing:\n  lm_head.weight\n  model.layers.0.mlp.up_proj.weight\n" in message
    assert "1 not of this model:\n  model.layers.2.mlp.up_proj.weight\n" in message
    assert "1 of another shape:\n  model.norm.weight [5] instead of [24]" in message
    assert str(tmp_path) in message and "inv_freq" not in message


def test_a_checkpoint_of_another_model_does_not_flood_the_screen(tmp_path):
    copied("qwen3", tmp_path)
    edit_json(tmp_path / "config.json", num_hidden_layers=20, layer_types=None)
    with pytest.raises(UserError, match=r"(?s)198 missing:.*and 158 more") as error:
        load_pretrained(open_pretrained(tmp_path))
    assert len(str(error.value).splitlines()) < 50


def test_a_copy_of_tied_embeddings_is_left_alone(loaded, tmp_path):
    copied("smollm2", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    assert_equal_trees(load_pretrained(open_pretrained(tmp_path)), loaded["smollm2"][1])


def test_the_language_model_of_a_multimodal_gemma_is_taken_alone(loaded, tmp_path):
    copied("gemma3", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    named = {f"language_model.{name}": value for name, value in tensors.items()}
    named["vision_tower.patch.weight"] = np.zeros((2, 2), np.float32)
    save_file(named, tmp_path / "model.safetensors")
    text = json.loads((tmp_path / "config.json").read_text())
    del text["tie_word_embeddings"]  # published files rely on defaults
    whole = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", **whole}))
    opened = open_pretrained(tmp_path)
    assert opened.config == loaded["gemma3"][0]
    assert_equal_trees(load_pretrained(opened), loaded["gemma3"][1])


def test_every_real_size_survives_its_config_file():
    builders = {
        families.smollm2: families.SMOLLM2,
        families.llama3: families.LLAMA3,
        families.qwen25: families.QWEN25,
        families.qwen3: families.QWEN3,
        families.gemma3: families.GEMMA3,
    }
    for build, table in builders.items():
        for size in table:
            raw = json.loads(json.dumps(config_to_hub(build(size))))
            assert config_from_hub(raw, "here").config == build(size)


def test_published_spellings_of_a_config_are_understood():
    """gemma-3-4b's text_config and Llama-3.2-1B's rope_scaling, as published."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    whole = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    found = config_from_hub(whole, "here")
    assert (found.config, found.multimodal) == (families.gemma3("4B"), True)
    raw = config_to_hub(families.llama3("3.2-1B"))
    newer = {
        "rope_parameters": raw.pop("rope_scaling") | {"rope_theta": raw.pop("rope_theta")},
        "dtype": "bfloat16",
    }
    assert config_from_hub(raw | newer, "here").config == families.llama3("3.2-1B")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "'MambaForCausalLM' is not supported; legal: Ll"),
        ({"architectures": None, "model_type": "phi"}, "architecture 'phi' is not supported"),
        ({"model_type": "mistral"}, "model_type 'mistral' is not supported; legal: llama"),
        ({"hidden_size": None}, "the field hidden_size is missing"),
        ({"mlp_bias": True}, "mlp_bias=True is not supported; legal: False"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported; legal: silu"),
        ({"quantization_config": {"bits": 4}}, "quantization_config=.* is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope type 'yarn' is not supported; legal: d"),
        (
            {"rope_parameters": {"rope_type": "llama3"}},
            "the llama3 rope scaling lacks factor, orig",
        ),
        ({"num_key_value_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
    ],
)
def test_configurations_that_are_not_supported_are_refused(tmp_path, change, message):
    copied("llama3", tmp_path)
    edit_json(tmp_path / "config.json", **change)
    with pytest.raises(UserError, match=message):
        open_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_types": ["full_attention", "full_attention", "sliding_attention"]}, "layer_types"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0 is not supported"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not supp"),
    ],
)
def test_gemmas_that_are_not_supported_are_refused(tmp_path, change, message):
    copied("gemma3", tmp_path)
    edit_json(tmp_path / "config.json", **change)
    with pytest.raises(UserError, match=message):
        open_pretrained(tmp_path)


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no model folder or file .*nowhere"):
        open_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a model folder: it has no config\.json"):
        open_pretrained(tmp_path)
    copied("qwen3", tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"index names: \['model-00002-of-00002"):
        open_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(UserError, match=r"no weights: neither model\.safetensors nor"):
        open_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is not a safetensors file"):
        open_pretrained(tmp_path)
    save_file({"a": np.zeros(3, np.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="tensor a is I8; legal: F64, F32, F16, BF16"):
        open_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json cannot be read as JSON"):
        open_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="holds a JSON list, not an object"):
        open_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qk_norm": True, "attention_bias": True}, "a qwen3 checkpoint cannot hold .*attention_b"),
        ({"scale_embeddings": True}, "a llama checkpoint cannot hold .*scale_embeddings"),
        ({"query_scalar": 3}, "a llama checkpoint cannot hold .*query_scalar"),
    ],
)
def test_a_decoder_that_nobody_else_computes_is_not_saved(change, message, tmp_path, loaded):
    config, params = loaded["smollm2"]
    with pytest.raises(UserError, match=message):
        save_pretrained(tmp_path / "out", dataclasses.replace(config, **change), params)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match=r"\['head'\] differ.* adapters merged"):
        save_pretrained(tmp_path / "out", config, params | {"head": params["embedding"].T})
    with pytest.raises(UserError, match=r"Layers must be stacked"):
        save_pretrained(tmp_path / "out", config, decoder_policy(config).unroll(params, 8))
    with pytest.raises(UserError, match="dtype 'int8' is unknown; legal: float32, bfloat16"):
        save_pretrained(tmp_path / "out", config, params, dtype="int8")


def test_a_policy_from_scratch_is_saved_with_its_tokenizer(tmp_path):
    tokenizer = train_tokenizer(["a b c"], vocab_size=300)
    config = DecoderConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        d_ff=8,
        max_positions=16,
        rope_scaling=RopeScaling(factor=2.0, kind="linear"),
    )
    params = jax.jit(decoder_policy(config).init)(jax.random.key(0))
    save_pretrained(tmp_path, config, params, tokenizer)
    again = open_pretrained(tmp_path)
    assert again.config == config
    assert_equal_trees(load_pretrained(again), params)
    assert again.tokenizer().pieces == tokenizer.pieces
    assert again.tokenizer().stop_ids == (tokenizer.eos_id,)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written == {"bos_token_id": 1, "pad_token_id": 0, "eos_token_id": 2}


def test_a_missing_package_is_one_message_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match=r"safetensors.*run: pip install 'gdpo-jax\[models\]'"):
        open_pretrained(REFERENCE / "qwen3")
