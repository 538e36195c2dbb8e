"""Files of tokenizers: every field is followed, harmless or refused, and damage is one error."""

import json
import time

import numpy as np
import pytest

from gdpo_jax.data import pad_right
from gdpo_jax.errors import UserError
from gdpo_jax.policies import load_tokenizer, render_chat, train_tokenizer
from gdpo_jax.policies.files.hub_tokenizer import load_hub_tokenizer, save_hub_tokenizer
from gdpo_jax.policies.files.tokenizer_fields import (
    FOLLOWED,
    GENERATION_HARMLESS,
    HARMLESS,
    REFUSED,
)
from gdpo_jax.policies.tokenizer_file import FIELDS

SAVED = json.loads(train_tokenizer(["Hi there, 1995"] * 9, vocab_size=290).inner.to_str())
SIZE = len(SAVED["model"]["vocab"])
PROCESSOR = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<|bos|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [1], "tokens": ["<|bos|>"]}},
}
USER = [{"role": "user", "content": "Hi"}]


def copy():
    return json.loads(json.dumps(SAVED))


def added(content, i, **flags):
    options = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": i, "content": content, **options, **flags}


def folder(path, file=None, *, generation=None, config=None, others=None, **about):
    path.mkdir(exist_ok=True)
    (path / "tokenizer.json").write_text(json.dumps(file or SAVED))
    about = {"eos_token": "<|eos|>", "bos_token": "<|bos|>", **about}
    files = {"tokenizer_config": about, "generation_config": generation, "config": config}
    for name, value in {**files, **(others or {})}.items():
        if value is not None:
            (path / f"{name}.json").write_text(json.dumps(value))
    return path


def test_every_harmless_field_changes_no_id_and_no_text(tmp_path):
    plain = load_hub_tokenizer(folder(tmp_path / "plain"))
    ids, text = plain.encode("Hi there <|eos|>\n"), plain.decode(plain.encode("Hi  there ."))
    for name in HARMLESS:
        t = load_hub_tokenizer(folder(tmp_path / "other", **{name: True}))
        assert t.encode("Hi there <|eos|>\n") == ids, name
        assert t.decode(t.encode("Hi  there .")) == text, name
        assert t.stop_ids == plain.stop_ids and t.adds_bos == plain.adds_bos, name
    assert not set(HARMLESS) & (FOLLOWED | set(REFUSED))
    for name in GENERATION_HARMLESS:
        t = load_hub_tokenizer(folder(tmp_path / "other", generation={name: 0.5}))
        assert t.stop_ids == plain.stop_ids


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unheard_of": 1}, r"tokenizer_config\.json: the field 'unheard_of' is not known"),
        ({"do_lower_case": True}, "do_lower_case=True rewrites the rules of tokenizer.json"),
        ({"fix_mistral_regex": True}, "fix_mistral_regex=True rewrites"),
        ({"add_prefix_space": True}, "add_prefix_space=True, but tokenizer.json has False"),
        ({"eos_token": 5}, "eos_token is a int, not a token"),
        ({"pad_token": {"content": ["x"]}}, "pad_token is a list, not a token"),
        ({"chat_template": 5}, "chat_template is a int, not a text"),
        ({"chat_template": ["x"]}, "a list of records with name and template"),
        ({"chat_template": [{"name": "default", "template": 3}]}, "'default' is not a text"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder is not an object"),
        ({"added_tokens_decoder": {"x": {"content": "y"}}}, "'x' is no token id"),
        ({"added_tokens_decoder": {"5": "y"}}, "token 5 has no content"),
        ({"added_tokens_decoder": {"900": {"content": "<new>"}}}, "'<new>' has the id 900"),
        ({"added_tokens_decoder": {"2": {"content": "<|bos|>"}}}, r"'<\|bos\|>' has the id 2"),
        ({"generation": {"suppress_tokens": [3]}}, "'suppress_tokens' changes which tokens"),
        ({"generation": {"bad_words_ids": [[3]]}}, "'bad_words_ids' changes which tokens"),
        ({"generation": {"stop_strings": ["no such"]}}, "stop_strings has 'no such'"),
        ({"generation": {"eos_token_id": [2, -5]}}, r"generation_config.*eos_token_id has -5"),
        ({"generation": {"eos_token_id": True}}, "eos_token_id has True"),
        ({"config": {"eos_token_id": 10**9}}, r"/config\.json: eos_token_id has 1000000000"),
        ({"config": {"eos_token_id": "x"}}, "eos_token_id has 'x'"),
        ({"others": {"added_tokens": {"<new>": 900}}}, r"added_tokens\.json: .*'<new>' has the"),
        ({"others": {"added_tokens": {"<new>": "x"}}}, r"added_tokens\.json.*is no token id"),
        ({"others": {"special_tokens_map": {"odd": 1}}}, r"special_tokens_map\.json: the field"),
    ],
)
def test_fields_that_may_change_ids_are_refused(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        load_hub_tokenizer(folder(tmp_path, **fields))


def test_every_end_that_the_files_name_stops(tmp_path):
    file = copy()
    ends = ["<|im_end|>", "<end>", "<|other|>"]
    file["added_tokens"] += [added(token, SIZE + i) for i, token in enumerate(ends)]
    t = load_hub_tokenizer(
        folder(
            tmp_path,
            file,
            generation={"eos_token_id": [2, 7], "stop_strings": ["<end>"]},
            config={"eos_token_id": 8},
            chat_template="{{ messages[0].content }}<|im_end|>",
        )
    )
    assert t.stop_ids == (2, SIZE + 1, 7, 8, SIZE)


@pytest.mark.parametrize("how", ["post_processor", "add_bos_token", "neither", "only named"])
def test_plain_text_begins_with_the_begin_token_once(tmp_path, how):
    file, about = copy(), {}
    if how == "post_processor":
        file["post_processor"] = PROCESSOR
    if how == "add_bos_token":
        about["add_bos_token"] = True
    t = load_hub_tokenizer(folder(tmp_path, file, **about, chat_template="{{ bos_token }}Hi"))
    plain, chat = t.encode("Hi"), t.encode(render_chat(t, USER))
    adds = how in ("post_processor", "add_bos_token")
    assert t.adds_bos == adds
    assert t.with_bos(plain) == ([1, *plain] if adds else plain)
    assert t.with_bos(t.with_bos(plain)) == t.with_bos(plain)
    assert t.with_bos(chat) == chat == [1, *plain]
    assert t.with_bos([]) == ([1] if adds else [])
    save_hub_tokenizer(tmp_path, t)
    assert load_hub_tokenizer(tmp_path).adds_bos == adds


def test_files_beside_tokenizer_json_are_followed_as_transformers_does(tmp_path):
    others = {
        "special_tokens_map": {"eos_token": "<|pad|>", "unk_token": "<|pad|>"},
        "added_tokens": {"<more>": SIZE},
    }
    about = {"image_token": "<|img|>", "split_special_tokens": True}
    t = load_hub_tokenizer(folder(tmp_path, others=others, **about))
    assert t.eos_id == 0 and t.decode([SIZE]) == "<more>"
    assert t.special_tokens["image_token"] == "<|img|>"
    assert t.special_tokens["unk_token"] == "<|pad|>"
    assert 0 not in t.encode("<|pad|>")
    decoder = {"1": {"content": "<|bos|>", "special": False}}
    t = load_hub_tokenizer(folder(tmp_path, others=others, added_tokens_decoder=decoder))
    assert t.eos_id == 2 and t.decode([1]) == "<|bos|>"


def test_templates_in_files_of_their_own_and_several_by_name(tmp_path):
    where = folder(tmp_path, chat_template="config")
    (where / "chat_template.jinja").write_text("file")
    (where / "additional_chat_templates").mkdir()
    (where / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    t = load_hub_tokenizer(where)
    assert (t.chat_template, dict(t.named_templates)) == ("file", {"tool_use": "tools"})
    save_hub_tokenizer(folder(tmp_path / "saved"), t)
    again = load_hub_tokenizer(tmp_path / "saved")
    assert (again.chat_template, again.named_templates) == (t.chat_template, t.named_templates)


def test_cutting_and_padding_rules_of_the_file_do_nothing(tmp_path):
    file = copy()
    file["truncation"] = {
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    file["padding"] = {
        "strategy": {"Fixed": 10**6}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<|pad|>",
    }  # fmt: skip
    t = load_hub_tokenizer(folder(tmp_path, file))
    assert t.encode("Hi there, 1995") == load_hub_tokenizer(folder(tmp_path)).encode(
        "Hi there, 1995"
    )


def changed(**changes):
    file = copy()
    for path, value in changes.items():
        place = file
        *way, last = path.split("__")
        for key in way:
            place = place[key]
        place[last] = value
    return file


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (changed(model__vocab__far=2**31), r"'far' the id 2147483648; legal are ids below"),
        (changed(model__vocab__twice=5), "gives the id 5 to"),
        (changed(model__vocab__low=-1), r"is not a tokenizer\.json"),
        (changed(model__vocab__half=0.5), r"is not a tokenizer\.json"),
        (changed(model__vocab={}), r"is not a tokenizer\.json|lacks the control tokens"),
        (changed(model__vocab=[1]), r"is not a tokenizer\.json"),
        (changed(model__merges=[["zz", "q"]]), r"is not a tokenizer\.json"),
        (changed(model__dropout=0.1), r"model\.dropout=0\.1 gives the same text other ids"),
        (changed(model=None), "it has no model"),
        (changed(extra=1), "the field 'extra' is not known"),
        (changed(decoder={"type": "Nothing"}), r"is not a tokenizer\.json"),
        (changed(added_tokens=[added("<new>", 900)]), "'<new>' has the id 900, but"),
        (changed(added_tokens=[added("<new>", -3)]), r"is not a tokenizer\.json"),
        (changed(added_tokens=[{"id": "x"}]), r"added_tokens\[0\] has no content or no whole id"),
        (changed(added_tokens={"a": 1}), "added_tokens is not a list"),
        (changed(added_tokens=[added("x" * 10**7, SIZE)]), "has 10000000 characters"),
        (changed(normalizer={"type": "Prepend", "prepend": "x" * 10**7}), "normalizer.prepend has"),
        (
            changed(
                normalizer={
                    "type": "Sequence",
                    "normalizers": [
                        {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
                    ] * 40,
                }
            ),
            "can make a text 1099511627776 times longer",
        ),
    ],
)  # fmt: skip
def test_damaged_and_hostile_files_are_one_error(tmp_path, file, message):
    start = time.perf_counter()
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file))
    with pytest.raises(UserError, match=message):
        load_tokenizer(path)
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"x"'])
def test_files_that_are_no_json_object(tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UserError, match=r"is not a tokenizer\.json"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_every_field_of_the_file_is_known():
    assert set(SAVED) == set(FIELDS)


def test_a_panic_of_the_library_is_one_error(tmp_path):
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    file = changed(pre_tokenizer={**split, "pattern": {"Regex": "(a+)+$"}})
    with pytest.raises(UserError, match="the tokenizer fails on a text: PanicException"):
        load_hub_tokenizer(folder(tmp_path, file)).encode("a" * 40 + "b")


@pytest.mark.parametrize("token", [-100, 300, True, 1.0, None, 2**31])
def test_rows_hold_ids_of_the_vocabulary(token):
    with pytest.raises(UserError, match=r"prompt in row 1 holds .* at place 2; token ids are"):
        pad_right([[1, 2], [1, 2, token]], 4, pad_id=0, what="prompt", vocab_size=300)
    rows, _ = pad_right([np.array([1, 299])], 4, pad_id=0, vocab_size=300)
    assert rows.tolist() == [[1, 299, 0, 0]]
