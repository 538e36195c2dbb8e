"""Fields of config.json: each is read, legal with few values only, harmless, or refused by name."""

import json

import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.policies.files.hub_config import (
    ARCHITECTURES,
    check_special_ids,
    config_from_hub,
    config_to_hub,
)
from gdpo_jax.policies.files.hub_fields import (
    FIXED_MULTIMODAL,
    FIXED_OF,
    HARMLESS_MULTIMODAL,
    HARMLESS_OF,
    READ,
    READ_GEMMA,
    READ_MULTIMODAL,
)
from tests.policies.files.published_configs import LLAMA3_ROPE, PUBLISHED

LLAMA = PUBLISHED["llama3.2-1B"][1]
GEMMA = PUBLISHED["gemma3-1B"][1]
MULTIMODAL = PUBLISHED["gemma3-4B"][1]
FAMILY = {"llama": LLAMA, "gemma3_text": GEMMA}
FAMILY |= {"qwen2": PUBLISHED["qwen2.5-0.5B"][1], "qwen3": PUBLISHED["qwen3-0.6B"][1]}


def refused(raw, match):
    with pytest.raises(UserError, match=match) as error:
        config_from_hub(json.loads(json.dumps(raw)), "here/config.json")
    assert str(error.value).startswith("here/config.json: ")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_folders_are_read(name):
    config, raw = PUBLISHED[name]
    found = config_from_hub(raw, "here")
    assert found.config == config
    assert found.multimodal == (name == "gemma3-4B")
    assert found.stored_dtype == "bfloat16"


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_every_field_of_the_tables_means_what_its_table_says(family):
    raw = FAMILY[family]
    read = READ_GEMMA if family == "gemma3_text" else READ
    fixed, harmless = FIXED_OF[family], HARMLESS_OF[family]
    assert not read & set(fixed) and not read & harmless and not harmless & set(fixed)
    assert set(raw) <= read | set(fixed) | harmless
    plain = config_from_hub(raw, "here")
    for name in harmless:
        assert config_from_hub({**raw, name: 7}, "here") == plain, name
    for name, legal in fixed.items():
        for value in legal:
            assert config_from_hub({**raw, name: value}, "here") == plain, name
        refused({**raw, name: 0.37}, f"{name}=0.37 is not supported; legal: ")


def test_every_field_that_is_read_changes_something_or_is_refused():
    changed = {
        "vocab_size": 262_208,
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "dtype": "float16",
        "torch_dtype": "float16",
        "tie_word_embeddings": False,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "linear", "factor": 2.0},
        "layer_types": ["sliding_attention"] * 26,
        "bos_token_id": -5,
        "eos_token_id": [1, 10**9],
        "pad_token_id": "x",
    }
    for name in READ_GEMMA:
        raw = {**GEMMA, name: changed.get(name, 2)}
        try:
            assert config_from_hub(raw, "here") != config_from_hub(GEMMA, "here"), name
        except UserError as error:
            assert name in str(error) or name in ("num_hidden_layers", "dtype"), name


def test_a_field_that_nobody_knows_is_refused_unless_it_says_nothing():
    for value in (0.22, True, "yes", [1], {"a": 1}, 0):
        refused({**LLAMA, "residual_multiplier": value}, "the field residual_multiplier=.* unknown")
    for value in (None, False, "", [], {}):
        config_from_hub({**LLAMA, "residual_multiplier": value}, "here")
    refused({**LLAMA, "sliding_window": 4096}, "the field sliding_window=4096 is unknown")
    refused({**LLAMA, "rope_scaling": {**LLAMA3_ROPE, "mscale": 0.7}}, "the field mscale=0.7")
    refused({**MULTIMODAL, "logit_scale": 0.5}, "the field logit_scale=0.5 is unknown")
    text = {**MULTIMODAL["text_config"], "logit_scale": 0.5}
    refused({**MULTIMODAL, "text_config": text}, "text_config: the field logit_scale=0.5")


def test_the_outer_fields_of_a_multimodal_model_are_not_passed_over():
    plain = config_from_hub(MULTIMODAL, "here")
    assert not READ_MULTIMODAL & (HARMLESS_MULTIMODAL | set(FIXED_MULTIMODAL))
    for name in HARMLESS_MULTIMODAL:
        assert config_from_hub({**MULTIMODAL, name: 7}, "here") == plain
    for name in FIXED_MULTIMODAL:
        refused({**MULTIMODAL, name: {"bits": 4}}, f"{name}=.* is not supported")
    refused({**MULTIMODAL, "tie_word_embeddings": 1}, "tie_word_embeddings must be true or false")
    text = {**MULTIMODAL["text_config"], "tie_word_embeddings": True}
    both = {**MULTIMODAL, "tie_word_embeddings": False, "text_config": text}
    refused(both, "tie_word_embeddings contradicts that of the whole model")
    refused({**MULTIMODAL, "text_config": ["a"]}, "text_config must be an object")
    refused({**MULTIMODAL, "model_type": "llama"}, "model_type 'llama' is not that of Gemma3For")
    refused({**MULTIMODAL, "eos_token_id": [1, 10**9]}, "eos_token_id must be a whole number")


SIZES = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads head_dim max_position_embeddings sliding_window query_pre_attn_scalar"
)


@pytest.mark.parametrize(
    "value", ["", "16", [], {}, True, 0, -4, 24.5, float("nan"), 1e400, 10**400]
)
def test_sizes_of_another_kind_are_one_error_with_file_and_field(value):
    for name in SIZES.split():
        refused({**GEMMA, name: value}, f"{name} must be a whole number of 1 to")
    for name in ("rms_norm_eps", "rope_theta", "rope_local_base_freq"):
        if value != 24.5:
            refused({**GEMMA, name: value}, f"{name} must be a finite number above 0")
    if value is not True:
        refused({**GEMMA, "tie_word_embeddings": value}, "tie_word_embeddings must be true or")


def test_null_is_no_default_where_the_format_knows_none():
    for name in ("vocab_size", "head_dim", "sliding_window", "rope_theta", "query_pre_attn_scalar"):
        refused({**GEMMA, name: None}, f"(the field {name} is missing|{name} must be)")
    refused({**GEMMA, "rms_norm_eps": None}, "rms_norm_eps must be a finite number")
    refused({**GEMMA, "tie_word_embeddings": None}, "(the field )?tie_word_embeddings")
    refused({**GEMMA, "hidden_activation": None}, "hidden_activation=None is not supported")
    # Llama's own: as many key heads as heads, and heads that share the width.
    found = config_from_hub({**LLAMA, "num_key_value_heads": None, "head_dim": None}, "here").config
    assert (found.num_kv_heads, found.head_dim) == (32, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 3, "head_dim": None}, "2048 is not a multiple of .* 3"),
        ({"architectures": {"a": 1}}, "architectures must name one architecture"),
        ({"architectures": ["LlamaForCausalLM", "X"]}, "architectures must name one"),
        ({"architectures": ["Qwen3MoeForCausalLM"]}, "'Qwen3MoeForCausalLM' is not supported"),
        ({"model_type": "qwen2"}, "model_type 'qwen2' contradicts architectures"),
        ({"model_type": ["llama"]}, r"model_type \['llama'\] is not supported"),
        ({"rope_scaling": "linear"}, "rope_scaling must be an object, got 'linear'"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, r"rope type \['yarn'\] is not supported"),
        ({"rope_scaling": {"type": "linear", "factor": None}}, "linear rope scaling lacks factor"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "factor must be a finite number"),
        ({"rope_scaling": {**LLAMA3_ROPE, "type": "linear"}}, "'llama3' contradicts type 'linear'"),
        ({"rope_scaling": {**LLAMA3_ROPE, "low_freq_factor": 4}}, "must be below high_freq_factor"),
        ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "the field factor=2.0 is unk"),
        ({"rope_parameters": {"rope_type": "default"}}, "rope_parameters and rope_scaling contra"),
        (
            {"rope_parameters": {**LLAMA3_ROPE, "factor": 32.0, "rope_theta": 1.0}},
            "rope_theta is g",
        ),
        ({"rope_parameters": {"rope_theta": None}, "rope_scaling": None}, "rope_theta is missing"),
        ({"layer_types": ["full_attention"]}, "layer_types is not supported"),
        ({"layer_types": ["sliding_attention"] * 16}, "legal: full_attention only"),
        ({"torch_dtype": "float8_e4m3fn"}, "dtype 'float8_e4m3fn' is not supported"),
        ({"dtype": "float16"}, r"dtype and torch_dtype contradict each other: \['bfloat16', 'fl"),
        ({"num_local_experts": 8}, "num_local_experts=8 is not supported"),
        ({"eos_token_id": "x"}, "eos_token_id must be a whole number of 0 to 128255, got 'x'"),
        ({"eos_token_id": [None]}, "eos_token_id"),
        ({"pad_token_id": -5}, "pad_token_id must be a whole number of -1 to 128255, got -5"),
        ({"bos_token_id": 10**9}, "bos_token_id must be"),
    ],
)
def test_fields_that_contradict_each_other_or_cannot_be_are_refused(change, message):
    refused({**LLAMA, **change}, message)


def test_windows_that_contradict_each_other_are_refused():
    types = (["sliding_attention"] * 4 + ["full_attention"]) * 5 + ["sliding_attention"]
    refused({**GEMMA, "layer_types": types}, "one layer in 5 and in 6 sees all")
    agreed = {**GEMMA, "layer_types": types, "sliding_window_pattern": 5}
    assert config_from_hub(agreed, "here").config.global_every == 5
    refused({**GEMMA, "_sliding_window_pattern": 3}, "one layer in 6 and in 3 sees all")


def test_the_stored_dtype_loses_nothing():
    for name, stored in (("float16", "float32"), ("float32", "float32"), ("auto", "float32")):
        assert config_from_hub({**LLAMA, "torch_dtype": name}, "here").stored_dtype == stored
    without = {name: value for name, value in LLAMA.items() if name != "torch_dtype"}
    assert config_from_hub(without, "here").stored_dtype == "float32"
    assert config_from_hub({**without, "dtype": "torch.bfloat16"}, "x").stored_dtype == "bfloat16"


def test_ids_of_other_files_are_checked_alike():
    check_special_ids(
        {"eos_token_id": [1, 2], "bos_token_id": None, "pad_token_id": -1}, 3, "there"
    )
    with pytest.raises(UserError, match="there: eos_token_id must be a whole number of 0 to 2"):
        check_special_ids({"eos_token_id": [1, 3]}, 3, "there")


def test_what_is_written_is_read_without_a_complaint():
    for config, _ in PUBLISHED.values():
        raw = {**config_to_hub(config), "dtype": "bfloat16", "torch_dtype": "bfloat16"}
        assert config_from_hub(json.loads(json.dumps(raw)), "here").config == config
