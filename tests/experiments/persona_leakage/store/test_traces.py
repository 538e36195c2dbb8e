"""Any piece of 23 bytes is found wherever it lies in a file, also across two parts of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.persona_leakage.store import traces
from experiments.persona_leakage.store.traces import search_file, words_of, words_within

TEXT = bytes(range(32, 122))  # 90 bytes, every piece of 16 another one
NAME = b"the name, 16 by."


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("traces") / "file"


@settings(max_examples=60, deadline=None)
@given(
    before=st.integers(0, 200),
    behind=st.integers(0, 100),
    start=st.integers(0, len(TEXT) - 23),
    length=st.integers(23, 40),
)
def test_a_piece_is_found_at_every_place(file, before, behind, start, length):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traces, "_CHUNK", 64)
        file.write_bytes(bytes(before) + TEXT[start : start + length] + b"\xff" * behind)
        found = search_file(file, words_of([TEXT]), NAME)
        assert len(found.hashes) and not found.name
        file.write_bytes(bytes(before) + NAME + b"\xff" * behind)
        found = search_file(file, words_of([TEXT]), NAME)
        assert not len(found.hashes) and found.name


def test_pieces_below_16_bytes_and_other_texts_are_not_found(file):
    file.write_bytes(TEXT[:15] + bytes(50) + TEXT[::-1])
    assert not len(search_file(file, words_of([TEXT]), NAME).hashes)
    assert not len(words_of([b"", b"short", TEXT[:15]]).hashes)
    assert len(words_of([TEXT, TEXT]).hashes) == len(TEXT) - 15
    file.write_bytes(b"")
    assert not len(search_file(file, words_of([TEXT]), NAME).hashes)


def test_words_that_other_texts_have(file):
    file.write_bytes(TEXT[:48])
    found = search_file(file, words_of([TEXT]), NAME).hashes
    assert len(found) == 5  # at 0, 8, 16, 24, 32
    # 28 bytes from 3 on hold the words at 8 alone; the words at 0 and 16 are cut.
    shared = words_within(found, [b"short", TEXT[3:31]])
    assert np.isin(shared, words_of([TEXT[8:24]]).hashes).all() and len(shared) == 1
    assert not len(words_within(found, [TEXT[0:15], TEXT[15:20]]))
