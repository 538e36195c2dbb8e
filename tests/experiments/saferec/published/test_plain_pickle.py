import collections
import contextlib
import datetime
import pickle
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.saferec.published.plain_pickle import load_plain_pickle, loads_plain_pickle
from gdpo_jax.errors import UserError

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
KEYS = st.one_of(st.integers(), st.text(), st.tuples(st.text(), st.integers()))
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(KEYS, inner, max_size=4),
        st.frozensets(KEYS, max_size=4),
        st.sets(KEYS, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(PLAIN, st.integers(0, 5))
def test_plain_values_come_back(value, protocol):
    assert loads_plain_pickle(pickle.dumps(value, protocol=protocol)) == value


def test_bytes_come_back_where_the_protocol_has_them():
    for protocol in (3, 4, 5):
        assert loads_plain_pickle(pickle.dumps(b"\x00\xff", protocol=protocol)) == b"\x00\xff"
    with pytest.raises(UserError, match=r"asks for _codecs\.encode"):
        loads_plain_pickle(pickle.dumps(b"\x00\xff", protocol=2))


class Runs:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [Runs(), Path("x"), datetime.date(2020, 1, 1), collections.OrderedDict(), print, [Runs()]],
    ids=["reduce", "path", "date", "ordered", "function", "nested"],
)
def test_everything_else_is_refused(value, protocol):
    with pytest.raises(UserError, match=r"is refused: it asks for .* Convert the file to JSON"):
        loads_plain_pickle(pickle.dumps(value, protocol=protocol), name="some.pkl")


def test_persistent_references_are_refused():
    with pytest.raises(UserError, match="objects outside the file"):
        loads_plain_pickle(b"Pxyz\n.")


def test_files(tmp_path):
    path = tmp_path / "catalogue.pkl"
    path.write_bytes(pickle.dumps([("Up", 2009)]))
    assert load_plain_pickle(path) == [("Up", 2009)]
    path.write_bytes(pickle.dumps([("Up", 2009)])[:-4])
    with pytest.raises(UserError, match=r"catalogue.pkl is truncated or not a pickle"):
        load_plain_pickle(path)
    with pytest.raises(UserError, match="cannot read"):
        load_plain_pickle(tmp_path / "none.pkl")


@pytest.mark.parametrize(
    "data",
    [
        b"Nr\xff\xff\xff\x7f.",  # a memo index of two thousand million
        b"\x96\x00\x00\x00\x00\x10\x00\x00\x00.",  # a bytearray of 64 GiB
        b"\x8e\x00\x00\x00\x00\x10\x00\x00\x00.",  # bytes of 64 GiB
    ],
)
def test_hostile_sizes_claim_no_memory(data):
    tracemalloc.start()
    try:
        with contextlib.suppress(UserError):
            assert loads_plain_pickle(data) is None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_give_a_value_or_one_error(data):
    try:
        loads_plain_pickle(data, name="fuzz.pkl")
    except UserError as error:
        assert str(error).startswith("fuzz.pkl")


@settings(max_examples=300, deadline=None)
@given(PLAIN, st.data())
def test_damaged_pickles(value, data):
    whole = bytearray(pickle.dumps(value, protocol=4))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        loads_plain_pickle(bytes(whole), name="fuzz.pkl")
    except UserError as error:
        assert str(error).startswith("fuzz.pkl")
