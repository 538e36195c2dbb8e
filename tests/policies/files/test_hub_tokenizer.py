"""Published tokenizers keep the contract of ours; chat templates run in a sandbox."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as InnerTokenizer

from gdpo_jax.errors import UserError
from gdpo_jax.policies import render_chat, train_tokenizer
from gdpo_jax.policies.files.hub_tokenizer import load_hub_tokenizer, save_hub_tokenizer
from gdpo_jax.policies.tokenizer import wrap_tokenizer

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role not in ('user', 'assistant') %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}"
    "<|{{ m.role }}|>\n{{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MESSAGES = [{"role": "user", "content": " Hi & <b> "}]


def byte_level():
    return train_tokenizer(["Hi there, a film of 1995"] * 9, vocab_size=290).inner


def byte_fallback():
    """As Gemma's: characters with a mark for spaces, bytes for what the vocabulary lacks."""
    control = ["<pad>", "<eos>", "<bos>"]
    words = [*f"{SPACE}abcdehilrtH.\n", "he", "ll", f"{SPACE}a", f"{SPACE}{SPACE}"]
    tokens = [*control, *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = [("h", "e"), ("l", "l"), (SPACE, "a"), (SPACE, SPACE)]
    inner = InnerTokenizer(models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Replace(" ", SPACE)
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    inner.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    inner.add_special_tokens([AddedToken(token, special=True) for token in control])
    return inner


FALLBACK = wrap_tokenizer(byte_fallback(), pad="<pad>", bos="<bos>", eos="<eos>", vocab_size=300)


def write(folder, inner, **about):
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def test_a_published_folder_names_its_tokens_and_template(tmp_path):
    eos = {"content": "<|eos|>", "lstrip": False}
    write(tmp_path, byte_level(), eos_token=eos, bos_token=None, chat_template=CHAT)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    t = load_hub_tokenizer(tmp_path, vocab_size=400)
    assert (t.pad_id, t.bos_id, t.eos_id, t.stop_ids) == (2, None, 2, (2, 7))
    assert t.vocab_size == 400
    assert t.decode([*t.encode("Hi there"), 399]) == "Hi there"
    expected = "<|user|>\nHi & <b><|eos|>\n<|assistant|>\n"
    assert render_chat(t, MESSAGES) == expected
    assert t.encode(render_chat(t, MESSAGES)).count(t.eos_id) == 1
    assert render_chat(t, MESSAGES, generation_prompt=False) == expected[: -len("<|assistant|>\n")]


@pytest.mark.parametrize("where", ["chat_template.jinja", "chat_template.json", "list"])
def test_templates_are_found_where_they_are_published(tmp_path, where):
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    write(tmp_path, byte_level(), eos_token="<|eos|>", chat_template=named)
    if where.endswith(".jinja"):
        (tmp_path / where).write_text("file")
    elif where.endswith(".json"):
        (tmp_path / where).write_text(json.dumps({"chat_template": "processor"}))
    text = render_chat(load_hub_tokenizer(tmp_path), MESSAGES)
    assert text == {"chat_template.jinja": "file", "chat_template.json": "processor"}.get(
        where, "yes"
    )


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_saving_and_loading_keeps_everything(tmp_path, make):
    names = (["<|pad|>", "<|bos|>", "<|eos|>"], ["<pad>", "<bos>", "<eos>"])[make is byte_fallback]
    t = wrap_tokenizer(
        make(), pad=names[0], bos=names[1], eos=names[2], chat_template=CHAT, vocab_size=320
    )
    save_hub_tokenizer(tmp_path, t)
    again = load_hub_tokenizer(tmp_path, vocab_size=320)
    fields = ("pieces", "pad_id", "bos_id", "eos_id", "chat_template", "stop_ids")
    assert [getattr(again, name) for name in fields] == [getattr(t, name) for name in fields]
    assert again.encode("a hall. Hi") == t.encode("a hall. Hi")


def check_spans(tokenizer, ids):
    text, spans = tokenizer.decode(ids), tokenizer.token_spans(ids)
    assert len(spans) == len(ids)
    covered, last = np.zeros(len(text), bool), 0
    for start, end in spans:
        assert last <= start <= end <= len(text)
        covered[start:end], last = True, start
    assert covered.all()


def test_bytes_and_spaces_of_a_fallback_tokenizer():
    t = FALLBACK
    ids = t.encode("hell  é a")
    assert t.decode(ids) == "hell  é a"
    pieces = [t.pieces[i] for i in ids]
    assert pieces == [b"he", b"ll", b"  ", b"\xc3", b"\xa9", b" a"]
    assert t.token_spans(ids) == [(0, 2), (2, 4), (4, 6), (6, 7), (6, 7), (7, 9)]
    assert t.decode([t.bos_id, *ids, t.eos_id, 299]) == "hell  é a"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, FALLBACK.vocab_size - 1), max_size=20))
def test_spans_cover_any_sequence_of_fallback_tokens(ids):
    assert FALLBACK.decode(ids) == FALLBACK.inner.decode(ids, skip_special_tokens=True)
    check_spans(FALLBACK, ids)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(max_size=30).filter(lambda text: SPACE not in text and "<" not in text))
def test_any_text_comes_back_from_fallback_tokens(text):
    assert FALLBACK.decode(FALLBACK.encode(text)) == text


def test_folders_that_hold_no_usable_tokenizer_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no tokenizer file .*tokenizer\.json"):
        load_hub_tokenizer(tmp_path)
    write(tmp_path, byte_level())
    with pytest.raises(UserError, match=r"tokenizer_config\.json names no eos_token"):
        load_hub_tokenizer(tmp_path)
    write(tmp_path, byte_level(), eos_token="</s>")
    with pytest.raises(UserError, match="lacks the control tokens </s>"):
        load_hub_tokenizer(tmp_path)
    write(tmp_path, byte_level(), eos_token="<|eos|>")
    with pytest.raises(UserError, match="the tokenizer has 275 ids, the model 96"):
        load_hub_tokenizer(tmp_path, vocab_size=96)
    with pytest.raises(UserError, match="the tokenizer has no chat template"):
        render_chat(load_hub_tokenizer(tmp_path), MESSAGES)
    other = byte_level()
    other.decoder = decoders.CTC()
    write(tmp_path, other, eos_token="<|eos|>")
    with pytest.raises(UserError, match="decodes by 'CTC', which is not supported; supported are"):
        load_hub_tokenizer(tmp_path)


def with_template(source):
    return wrap_tokenizer(byte_level(), chat_template=source)


def test_templates_get_variables_plain_json_and_no_clock():
    template = "{{ tools | tojson }} {{ strftime_now is defined }} {{ date }}"
    text = render_chat(with_template(template), [], tools=[{"a": "<é>"}], date="today")
    assert text == '[{"a": "<é>"}] False today'


def test_a_missing_package_is_one_message_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"jinja2.*run: pip install 'gdpo-jax\[models\]'"):
        render_chat(with_template(CHAT), MESSAGES)
