"""Text and spans follow the decoder of the tokenizers library, whatever the vocabulary holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as InnerTokenizer
from tokenizers import decoders as d

from gdpo_jax.errors import UserError
from gdpo_jax.policies import train_tokenizer
from gdpo_jax.policies.tokenizer import wrap_tokenizer

MARK = "\N{LOWER ONE EIGHTH BLOCK}"
WORDS = [
    "a", "b", "é", "日本", MARK, MARK * 2, f"{MARK}a", f"a{MARK}", "##x", "##", "x</w>", "</w>",
    "'s", " n't", ".", " .", " ", "  ", " a ", "@@", "a@@b", "\n", "<0x41>", "<0xE2>", "<0x82>",
    "<0xAC>", "<0xFF>", "<0xc3>", "<0xA9>", "<0x+5>", "<0x20>", "<0xZZ>",
]  # fmt: skip
CHAINS = {
    "none": None,
    "gemma": d.Sequence([d.Replace(MARK, " "), d.ByteFallback(), d.Fuse()]),
    "llama 2": d.Sequence([d.Replace(MARK, " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)]),
    "behind fuse": d.Sequence([d.ByteFallback(), d.Fuse(), d.Replace(f"{MARK}a", " ZZZ")]),
    "metaspace": d.Metaspace(),
    "metaspace never": d.Metaspace(prepend_scheme="never"),
    "word pieces": d.WordPiece(),
    "word pieces as they are": d.WordPiece(cleanup=False),
    "suffixes": d.BPEDecoder(),
    "strip each": d.Sequence([d.Strip(" ", 1, 0), d.Fuse()]),
    "bytes": d.ByteLevel(),
}
SIZE = len(WORDS) + 8  # with control tokens, added words and ids without a token


def tokenizer_of(decoder):
    tokens = ["<pad>", "<eos>", *WORDS]
    inner = InnerTokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "a"))
    inner.add_special_tokens(["<pad>", "<eos>"])
    words = [f"{MARK}b{MARK}", "<b>", "\n\n"]
    inner.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    if decoder is not None:
        inner.decoder = decoder
    return wrap_tokenizer(inner, pad="<pad>", bos=None, eos="<eos>", vocab_size=SIZE)


TOKENIZERS = {name: tokenizer_of(decoder) for name, decoder in CHAINS.items()}


@pytest.mark.parametrize("chain", CHAINS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(ids=st.lists(st.integers(0, SIZE - 1), max_size=9))
def test_text_is_the_librarys_and_spans_cover_it_in_order(chain, ids):
    tokenizer = TOKENIZERS[chain]
    text, spans = tokenizer.decode(ids), tokenizer.token_spans(ids)
    assert text == tokenizer.inner.decode(ids, skip_special_tokens=True)
    assert len(spans) == len(ids)
    covered, last = np.zeros(len(text), bool), 0
    for start, end in spans:
        assert last <= start <= end <= len(text)
        covered[start:end], last = True, start
    assert covered.all()


def ids_of(tokenizer, *tokens):
    return [tokenizer.inner.token_to_id(token) for token in tokens]


def test_runs_of_spaces_that_were_added_to_the_vocabulary():
    gemma = TOKENIZERS["gemma"]
    ids = ids_of(gemma, "a", MARK * 2, f"{MARK}b{MARK}", "<eos>", "<b>", "\n\n")
    assert gemma.decode(ids) == "a   b <b>\n\n"
    assert gemma.token_spans(ids) == [(0, 1), (1, 3), (3, 6), (6, 6), (6, 9), (9, 11)]


def test_characters_of_several_bytes_and_bytes_that_are_none():
    gemma = TOKENIZERS["gemma"]
    euro = ids_of(gemma, "<0xE2>", "<0x82>", "<pad>", "<0xAC>", "a")
    assert gemma.decode(euro) == "€a"
    assert gemma.token_spans(euro) == [(0, 1), (0, 1), (0, 0), (0, 1), (1, 2)]
    cut = ids_of(gemma, "<0x41>", "<0xE2>", "<0x82>")
    assert gemma.decode(cut) == "\N{REPLACEMENT CHARACTER}" * 3  # as the library: the whole run
    assert gemma.token_spans(cut) == [(0, 1), (1, 2), (2, 3)]


def test_the_space_in_front_is_cut_with_its_span():
    llama = TOKENIZERS["llama 2"]
    ids = ids_of(llama, f"{MARK}a", MARK, "b")
    assert llama.decode(ids) == "a b"
    assert llama.token_spans(ids) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("decoder", "message"),
    [
        (d.CTC(), "decodes by 'CTC', which is not supported; supported are ByteLevel"),
        (d.Replace("", "x"), "decodes by Replace with the pattern"),
        (d.Sequence([d.ByteFallback(), d.Metaspace()]), "behind ByteFallback comes Fuse"),
    ],
)
def test_other_decoders_are_refused(decoder, message):
    with pytest.raises(UserError, match=message):
        tokenizer_of(decoder)


def test_entries_of_a_byte_vocabulary_that_spell_no_bytes_stand_for_themselves():
    vocab = {"<eos>": 0} | {c: i + 1 for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    strange = ["hello world", "日本", "<unused 1>", "a\tb"]
    vocab |= {token: len(vocab) + i for i, token in enumerate(strange)}
    inner = InnerTokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = d.ByteLevel()
    inner.add_tokens([AddedToken("día", normalized=False)])
    t = wrap_tokenizer(inner, pad=None, bos=None, eos="<eos>")
    for token in strange:
        assert t.decode(ids_of(t, token)) == token == inner.decode(ids_of(t, token))
    # A word that was added is text, although its letters also stand for bytes.
    assert t.decode(t.encode("un día")) == "un día"
    assert t.token_spans(ids_of(t, "día", "日本")) == [(0, 3), (3, 5)]


PLAIN = train_tokenizer(["some text"], vocab_size=300)


@pytest.mark.parametrize("ids", [[-1], [PLAIN.vocab_size], [2**40], [1.0], [True], ["a"], [None]])
def test_ids_that_are_none_are_one_error(ids):
    for read in (PLAIN.decode, PLAIN.token_spans, TOKENIZERS["gemma"].decode):
        with pytest.raises(UserError, match="at place 1; token ids are whole numbers from 0 to"):
            read([3, *ids])
    assert PLAIN.decode(np.array(PLAIN.encode("some"))) == "some"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab\ud800", r"text 0 holds half of a surrogate pair, '\\ud800', at character 2"),
        (b"ab", "text 0 is a bytes, not a text"),
        (None, "text 0 is a NoneType, not a text"),
    ],
)
def test_what_is_no_text_is_one_error(text, message):
    with pytest.raises(UserError, match=message):
        PLAIN.encode(text)


def test_any_other_text_comes_back():
    for text in ("", "\x00", "\x00a\x00", "\ufeff\u2028", "x" * 100_000):
        assert PLAIN.decode(PLAIN.encode(text)) == text
