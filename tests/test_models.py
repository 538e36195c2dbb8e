"""Models opened, made, adapted, saved and restored."""

import dataclasses

import jax
import numpy as np
import pytest

from gdpo_jax.errors import UserError
from gdpo_jax.models import abstract_model, open_model, with_lora
from gdpo_jax.policies import LoraConfig, load_adapters, train_tokenizer
from gdpo_jax.training import MeshConfig, make_mesh
from tests.tiny_model import DECODER, TEXTS, save_tiny_model

LORA = LoraConfig(rank=2, alpha=4.0, targets=("query", "down"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def equal(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def test_a_folder_opens_on_a_mesh_and_is_saved_to_the_same(folder, tmp_path):
    model = open_model(folder, MeshConfig(data=4, fsdp=2))
    assert model.mesh.shape["fsdp"] == 2 and model.name == str(folder)
    assert len(model.params["embedding"].sharding.device_set) == 8
    assert model.policy.config.dtype == "float32" and model.policy.config.remat == "layer"
    model.save(tmp_path / "again")
    again = open_model(tmp_path / "again", make_mesh(None, jax.devices()[:1]))
    equal(again.params, model.params)
    assert again.tokenizer.chat_template == model.tokenizer.chat_template


def test_the_folder_says_in_what_its_products_are(folder, tmp_path):
    open_model(folder).save(tmp_path / "half", dtype="bfloat16")
    assert open_model(tmp_path / "half").policy.config.dtype == "bfloat16"
    assert open_model(tmp_path / "half", dtype="float32").policy.config.dtype == "float32"


def test_adapters_start_as_nothing_and_are_saved_apart_or_merged(folder, tmp_path):
    plain = open_model(folder)
    model = with_lora(plain, LORA, jax.random.key(3))
    assert model.params["base"]["embedding"] is plain.params["embedding"]
    equal(model.merged().params, plain.params)
    pair = model.params["adapters"]["layers"]["query"]
    changed = {**pair, "b": pair["b"] + 0.5}
    layers = {**model.params["adapters"]["layers"], "query": changed}
    model = model.with_params({**model.params, "adapters": {"layers": layers}})
    model.save(tmp_path / "adapters", adapters=True)
    adapters, lora = load_adapters(tmp_path / "adapters", plain.policy.config)
    equal(adapters, model.params["adapters"])
    assert (lora.rank, lora.alpha, set(lora.targets)) == (2, 4.0, {"query", "down"})
    model.save(tmp_path / "merged")
    equal(open_model(tmp_path / "merged").params, model.merged().params)
    with pytest.raises(UserError, match="no adapters to save"):
        plain.save(tmp_path / "none", adapters=True)
    with pytest.raises(UserError, match="has adapters already"):
        with_lora(model, LORA)


def test_a_new_model_is_its_configuration_and_key():
    tokenizer = train_tokenizer(TEXTS, vocab_size=300)
    config = dataclasses.replace(DECODER, vocab_size=tokenizer.vocab_size)
    first = open_model(config, tokenizer=tokenizer, key=jax.random.key(1))
    equal(first.params, open_model(config, tokenizer=tokenizer, key=jax.random.key(1)).params)
    other = open_model(config, tokenizer=tokenizer, key=jax.random.key(2))
    assert not np.array_equal(first.params["embedding"], other.params["embedding"])
    with pytest.raises(UserError, match="needs tokenizer="):
        open_model(config)
    small = dataclasses.replace(config, vocab_size=8)
    with pytest.raises(UserError, match="vocab_size is 8"):
        open_model(small, tokenizer=tokenizer)


def test_a_model_is_described_without_its_weights(folder):
    described = abstract_model(folder, make_mesh(), lora=LORA)
    opened = open_model(folder, lora=LORA)
    assert described.policy.config == opened.policy.config
    assert jax.tree.map(lambda x: x.shape, described.params) == jax.tree.map(
        lambda x: x.shape, opened.params
    )


def test_what_is_no_model_is_one_error(folder, tmp_path):
    with pytest.raises(UserError, match="no model folder or file"):
        open_model(tmp_path / "none")
    with pytest.raises(UserError, match="is not a model folder"):
        open_model(tmp_path)
    with pytest.raises(UserError, match="brings its tokenizer"):
        open_model(folder, tokenizer=train_tokenizer(TEXTS, vocab_size=300))
