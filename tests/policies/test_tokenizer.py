"""Training, saving and the characters of each token."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdpo_jax.errors import UserError
from gdpo_jax.policies import load_tokenizer, train_tokenizer

RESERVED = ("<reasoning>", "</reasoning>", "<solution>", "</solution>")
TEXTS = [
    "<solution>\n1. Heat (1995)\n2. Alien (1979)\n3. Amélie (2001)\n</solution>",
    "I loved 'Alien' but can't watch animals die. What's on? 日本語 日本語",
] * 30
TOKENIZER = train_tokenizer(TEXTS, vocab_size=500, special_tokens=RESERVED)


def pieces(text):
    return [TOKENIZER.decode([i]) for i in TOKENIZER.encode(text)]


def test_a_year_is_one_token_and_the_line_end_joins_the_bracket():
    split = pieces("Heat (1995)\nAlien (1979)\n")
    assert "1995" in split and "1979" in split
    assert ")\n" in split


def test_reserved_words_are_one_token_each_and_come_back_in_the_text():
    text = "<reasoning>safe</reasoning>\n<solution>\n1. Heat (1995)\n</solution>"
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    for word in RESERVED:
        assert ids.count(TOKENIZER.token_id(word)) == 1


def test_merges_do_not_learn_the_inside_of_reserved_words():
    # "solution" stands in the texts as a reserved word only.
    assert TOKENIZER.inner.token_to_id("solution") is None


def test_control_tokens_come_first_and_vanish_in_text():
    t = TOKENIZER
    assert (t.pad_id, t.bos_id, t.eos_id) == (0, 1, 2)
    ids = [t.bos_id, *t.encode("Heat"), t.eos_id, t.pad_id]
    assert t.decode(ids) == "Heat"
    assert t.token_spans(ids)[0] == (0, 0)
    assert t.token_spans(ids)[-2:] == [(4, 4), (4, 4)]


def test_spans_of_plain_text_by_hand():
    ids = TOKENIZER.encode("Heat (1995)\n")
    assert TOKENIZER.decode(ids) == "Heat (1995)\n"
    spans = TOKENIZER.token_spans(ids)
    assert spans[-2:] == [(6, 10), (10, 12)]
    assert spans[0][0] == 0


def test_a_character_split_over_tokens_belongs_to_each_of_them():
    ids = TOKENIZER.encode("ë")
    assert len(ids) == 2
    assert TOKENIZER.token_spans(ids) == [(0, 1), (0, 1)]
    assert TOKENIZER.decode(ids[:1]) == "\N{REPLACEMENT CHARACTER}"
    assert TOKENIZER.token_spans(ids[:1]) == [(0, 1)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(max_size=40))
def test_any_text_comes_back_and_its_spans_cover_it_in_order(text):
    ids = TOKENIZER.encode(text)
    control = {TOKENIZER.pad_id, TOKENIZER.bos_id, TOKENIZER.eos_id}
    if control & set(ids):
        return
    assert TOKENIZER.decode(ids) == text
    check_spans(ids)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=30))
def test_spans_hold_for_any_token_sequence(ids):
    """Also bytes that are no UTF-8: every token's own bytes are inside of its characters."""
    assert TOKENIZER.decode(ids) == TOKENIZER.inner.decode(ids, skip_special_tokens=True)
    check_spans(ids)


def check_spans(ids):
    text, spans = TOKENIZER.decode(ids), TOKENIZER.token_spans(ids)
    assert len(spans) == len(ids)
    covered = np.zeros(len(text), bool)
    last_start = 0
    for i, (start, end) in zip(ids, spans):
        assert last_start <= start <= end <= len(text)
        last_start = start
        covered[start:end] = True
        piece = TOKENIZER.pieces[i].decode("utf-8", errors="ignore")
        assert piece in text[start:end]
    assert covered.all()


def test_saving_and_loading_keeps_ids_and_bytes(tmp_path):
    path = tmp_path / "tokenizer.json"
    TOKENIZER.save(path)
    again = load_tokenizer(path)
    assert again.encode(TEXTS[0]) == TOKENIZER.encode(TEXTS[0])
    assert again.pieces == TOKENIZER.pieces
    assert again.encode_batch(TEXTS[:2]) == [TOKENIZER.encode(text) for text in TEXTS[:2]]


def test_training_twice_gives_the_same_tokenizer():
    again = train_tokenizer(TEXTS, vocab_size=500, special_tokens=RESERVED)
    assert again.inner.to_str() == TOKENIZER.inner.to_str()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 200}, "vocab_size 200 is below 259"),
        ({"vocab_size": 400, "special_tokens": ["<a>", "<a>"]}, "must differ"),
        ({"vocab_size": 400, "special_tokens": ["<|eos|>"]}, "must differ"),
        ({"vocab_size": 400, "special_tokens": [""]}, "is empty"),
    ],
)
def test_impossible_vocabularies_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        train_tokenizer(TEXTS, **options)


def test_files_that_are_no_tokenizer_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no tokenizer file"):
        load_tokenizer(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"bad\.json is not a tokenizer"):
        load_tokenizer(path)
    with pytest.raises(UserError, match="has no token '<film>'"):
        TOKENIZER.token_id("<film>")
