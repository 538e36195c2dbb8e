"""Which file decides where several do, what a save leaves behind, and files that are damaged."""

import contextlib
import json
import logging
import os
import random
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gdpo_jax.errors import UserError
from gdpo_jax.policies import (
    DecoderConfig,
    LoraConfig,
    load_adapters,
    load_pretrained,
    lora_init,
    open_pretrained,
    save_adapters,
    save_pretrained,
    train_tokenizer,
)
from gdpo_jax.policies.files.weights import abstract_params

CONFIG = DecoderConfig(
    vocab_size=280,
    d_model=4,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=4,
    d_ff=4,
    max_positions=16,
)
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def some_params(seed, config=CONFIG):
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda leaf: draw(size=leaf.shape).astype("f4"), abstract_params(config))


OLD, NEW = some_params(0), some_params(1)


def same(one, other):
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def loaded(folder):
    return load_pretrained(open_pretrained(folder))


@pytest.fixture
def shards(tmp_path):
    """A folder whose weights lie in several files with an index."""
    save_pretrained(tmp_path / "m", CONFIG, OLD, max_file_bytes=200)
    return tmp_path / "m"


def edited_index(folder, change):
    path = folder / "model.safetensors.index.json"
    raw = json.loads(path.read_text())
    change(raw["weight_map"])
    path.write_text(json.dumps(raw))
    return raw["weight_map"]


def test_a_single_file_goes_before_an_index_and_the_choice_is_logged(shards, tmp_path, caplog):
    save_pretrained(tmp_path / "one", CONFIG, NEW)
    shutil.copy(tmp_path / "one" / "model.safetensors", shards / "model.safetensors")
    with caplog.at_level(logging.WARNING):
        assert same(loaded(shards), NEW)
    assert "are read from model.safetensors and not from ['model-00001-of-00004" in caplog.text
    assert "'model.safetensors.index.json']" in caplog.text
    for path in shards.glob("model-0*"):
        path.unlink()
    assert same(loaded(shards), NEW)


def test_the_index_decides_between_files_that_share_a_tensor(shards, caplog):
    places = edited_index(shards, lambda places: None)
    other = next(name for name in places.values() if name != places[NORM])
    tensors = load_file(shards / other)
    save_file(tensors | {NORM: np.full(4, 9.0, np.float32)}, shards / other)
    with caplog.at_level(logging.WARNING):
        assert same(loaded(shards), OLD)
    assert f"holds tensors twice: {NORM} (read from {places[NORM]}, not {other})" in caplog.text
    edited_index(shards, lambda places: places.update({NORM: other}))
    np.testing.assert_array_equal(loaded(shards)["final_norm"]["scale"], np.full(4, 9.0))


def test_files_that_an_index_does_not_name_are_logged(shards, caplog):
    shutil.copy(
        shards / "model-00001-of-00004.safetensors", shards / "model-00005-of-00005.safetensors"
    )
    with caplog.at_level(logging.WARNING):
        assert same(loaded(shards), OLD)
    assert "index.json and not from ['model-00005-of-00005.safetensors']" in caplog.text


def test_an_index_that_contradicts_its_files_is_refused(shards):
    places = edited_index(shards, lambda places: None)
    edited_index(shards, lambda places: places.pop(NORM))
    with pytest.raises(UserError, match=rf"holds the tensor {NORM}, which the index does not name"):
        open_pretrained(shards)
    edited_index(shards, lambda raw: raw.update({NORM: places[NORM], "more": places[NORM]}))
    with pytest.raises(UserError, match=r"names tensors that its files do not hold: more"):
        open_pretrained(shards)


WRONG_MAPS = [
    ["a"],
    None,
    3,
    "model.safetensors",
    {},
    *({NORM: name} for name in (None, 3, "", ["a"], "/etc/passwd", "../m/a", "a/../../b", "a\\b")),
    {NORM: "a\0b"},
]


@pytest.mark.parametrize("weight_map", WRONG_MAPS)
@pytest.mark.parametrize("single", [True, False])
def test_an_index_of_another_form_or_outside_of_its_folder_is_refused(tmp_path, weight_map, single):
    save_pretrained(tmp_path, CONFIG, OLD)
    if not single:
        (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match=r"index\.json: weight_map must (be an object|name a file)"):
        open_pretrained(tmp_path)


def test_linked_weights_open_as_a_download_cache_lays_them_out(shards, tmp_path):
    (tmp_path / "blobs").mkdir()
    for path in list(shards.iterdir()):
        shutil.move(path, tmp_path / "blobs" / path.name)
        path.symlink_to(tmp_path / "blobs" / path.name)
    assert same(loaded(shards), OLD)


@pytest.mark.parametrize(
    "head", [np.zeros((280, 4), np.float32), np.zeros((3, 4), np.float32), None]
)
def test_a_head_beside_tied_embeddings_equals_them_or_is_refused(tmp_path, head):
    save_pretrained(tmp_path, CONFIG, OLD)
    tensors = load_file(tmp_path / "model.safetensors")
    copy = tensors[EMBEDDING] if head is None else head
    save_file(tensors | {"lm_head.weight": copy}, tmp_path / "model.safetensors")
    if head is None:
        assert same(loaded(tmp_path), OLD)
        return
    with pytest.raises(
        UserError, match=r"tie_word_embeddings is true, but .* lm_head\.weight diff"
    ):
        loaded(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    bad = jax.tree.map(np.copy, OLD)
    bad["layers"]["up"][0, 1, 2] = value
    bad["final_norm"]["scale"][0] = value
    save_pretrained(tmp_path, CONFIG, bad)
    with pytest.raises(UserError, match=r"2 tensors of .* not finite") as error:
        loaded(tmp_path)
    assert NORM in str(error.value) and "model.layers.0.mlp.up_proj.weight" in str(error.value)


def test_a_save_leaves_nothing_of_an_older_one_and_touches_nothing_else(shards):
    kept = {"notes.txt", "model-extra.safetensors", "pytorch_model.bin", "adapter_config.json"}
    for name in kept | {"special_tokens_map.json", "chat_template.jinja"}:
        (shards / name).write_text("{}")
    (shards / "model-00001-of-00002.safetensors.d").mkdir()
    save_pretrained(shards, CONFIG, NEW, max_file_bytes=3000)
    places = edited_index(shards, lambda places: None)
    found = {path.name for path in shards.glob("*.safetensors")}
    assert found == set(places.values()) | {"model-extra.safetensors"}
    assert (shards / "chat_template.jinja").exists()
    tokenizer = train_tokenizer(["a b c"], vocab_size=270)
    save_pretrained(shards, CONFIG, OLD, tokenizer)
    assert {path.name for path in shards.iterdir() if path.is_file()} == kept | {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


class Killed(BaseException):
    """Ends a save where it is."""


def steps_until_killed(monkeypatch, step):
    """The process ends before its `step`-th change of a folder."""
    left = [step]

    def counting(function):
        def run(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*arguments, **options)

        return run

    for name in ("replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, counting(getattr(os, name)))


@pytest.mark.parametrize("to_shards", [True, False])
def test_a_save_that_is_killed_leaves_the_old_model_or_an_error(tmp_path, to_shards):
    other = DecoderConfig(**{**vars(CONFIG), "rope_theta": 7.0})
    outcomes, step = [], 0
    while not outcomes or outcomes[-1] != "new":
        folder = tmp_path / str(step)
        save_pretrained(folder, CONFIG, OLD, max_file_bytes=200 if to_shards else 10**9)
        with pytest.MonkeyPatch.context() as patch:
            steps_until_killed(patch, step)
            with contextlib.suppress(Killed):
                save_pretrained(folder, other, NEW, max_file_bytes=10**9 if to_shards else 200)
        try:
            opened = open_pretrained(folder)
            params = load_pretrained(opened)
            old = opened.config == CONFIG and same(params, OLD)
            assert old or (opened.config == other and same(params, NEW)), step
            outcomes.append("old" if old else "new")
        except UserError as error:
            assert "saving to it was interrupted; save again" in str(error)
            outcomes.append("refused")
        step += 1
    assert outcomes[0] == "old" and "refused" in outcomes
    assert outcomes == sorted(outcomes, key=("old", "refused", "new").index)
    # The next save finds its way whatever was left.
    save_pretrained(tmp_path / str(step // 2), CONFIG, OLD)
    assert same(loaded(tmp_path / str(step // 2)), OLD)
    assert not (tmp_path / str(step // 2) / ".saving.part").exists()


def test_a_save_that_fails_leaves_the_old_model_and_no_rest(tmp_path, monkeypatch):
    save_pretrained(tmp_path, CONFIG, OLD)

    def full(*arguments, **options):
        raise OSError("no space left")

    monkeypatch.setattr("gdpo_jax.policies.files.pretrained.write_safetensors", full)
    with pytest.raises(OSError, match="no space"):
        save_pretrained(tmp_path, CONFIG, NEW)
    assert same(loaded(tmp_path), OLD)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is a file; give a folder to save to"):
        save_pretrained(tmp_path / "file", CONFIG, NEW)


def test_adapters_that_are_killed_on_their_way_are_old_new_or_an_error(tmp_path):
    lora, wider = (
        LoraConfig(rank=2, targets=("up",)),
        LoraConfig(rank=2, alpha=5.0, targets=("up",)),
    )
    first = lora_init(jax.random.key(0), OLD, lora)
    second = lora_init(jax.random.key(1), OLD, lora)
    outcomes = []
    for step in range(6):
        save_adapters(tmp_path / str(step), first, lora)
        with pytest.MonkeyPatch.context() as patch:
            steps_until_killed(patch, step)
            with contextlib.suppress(Killed):
                save_adapters(tmp_path / str(step), second, wider)
        try:
            got, found = load_adapters(tmp_path / str(step), CONFIG)
            old = found == lora and same(got, first)
            assert old or (found == wider and same(got, second))
            outcomes.append("old" if old else "new")
        except UserError:
            outcomes.append("refused")
    assert outcomes == sorted(outcomes, key=("old", "refused", "new").index)
    assert set(outcomes) == {"old", "refused", "new"}


def test_damaged_safetensors_are_refused_or_read_right(tmp_path):
    save_pretrained(tmp_path, CONFIG, OLD)
    path = tmp_path / "model.safetensors"
    data, chance = path.read_bytes(), random.Random(2)
    size = int.from_bytes(data[:8], "little")
    damaged = [data[: chance.randrange(len(data))] for _ in range(15)]
    damaged += [(2**40).to_bytes(8, "little") + data[8:], (2**63).to_bytes(8, "little") + data[8:]]
    for _ in range(40):
        content = bytearray(data)
        content[chance.randrange(size + 8)] = chance.randrange(256)
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert same(loaded(tmp_path), OLD)
        except UserError:
            refused += 1
    assert refused > 40


def test_what_a_package_in_rust_panics_with_becomes_one_error(tmp_path, monkeypatch):
    class PanicException(BaseException):
        """As pyo3 raises it: no Exception."""

    def panics(*arguments, **options):
        raise PanicException("slice index starts at 9")

    save_pretrained(tmp_path, CONFIG, OLD)
    monkeypatch.setattr("safetensors.safe_open", panics)
    with pytest.raises(UserError, match=r"is not a safetensors file: PanicException: slice index"):
        open_pretrained(tmp_path)


def test_ids_of_generation_config_and_deep_json_are_checked_when_the_folder_opens(tmp_path):
    save_pretrained(tmp_path, CONFIG, OLD)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 280]}')
    with pytest.raises(UserError, match=r"generation_config\.json: eos_token_id must be .* to 279"):
        open_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"a": ' + "[" * 10**5 + "]" * 10**5 + "}")
    with pytest.raises(UserError, match=r"generation_config\.json cannot be read as JSON"):
        open_pretrained(tmp_path)


def test_tensors_of_another_size_are_refused_when_the_folder_opens(tmp_path):
    save_pretrained(tmp_path, CONFIG, OLD)
    raw = json.loads((tmp_path / "config.json").read_text())
    for change in ({"vocab_size": 2**24}, {"num_hidden_layers": 4096}, {"hidden_size": 2**24}):
        (tmp_path / "config.json").write_text(json.dumps(raw | change))
        with pytest.raises(UserError, match="do not fit"):
            open_pretrained(tmp_path)
