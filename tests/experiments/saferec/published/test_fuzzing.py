"""Readers on any bytes and any JSON: a value or one UserError that names the file, nothing else."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.files.json_rows import read_rows
from experiments.saferec.data.own_conversations import corpus_record
from experiments.saferec.data.published_rows import published_record
from experiments.saferec.lists.parsing import parse_recommendations
from experiments.saferec.oracle.catalogue import Catalogue, film_oracle
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL
from experiments.saferec.oracle.files import read_items
from experiments.saferec.published.official import published_oracle
from experiments.saferec.published.plain_pickle import loads_plain_pickle
from experiments.saferec.published.readers import (
    read_catalogue,
    read_records,
    read_sensitivity,
    read_title_map,
    read_traits,
)
from experiments.saferec.published.revealed import record_oracle
from experiments.saferec.rewards import official_item, official_sequence
from experiments.saferec.scoring.references import Reference, Scoring
from gdpo_jax.data.arrow_rows import read_arrow
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, GORE, answer, record
from tests.experiments.saferec.published_files import (
    CATALOGUE,
    SENSITIVITY,
    TITLE_MAP,
    raw_row,
    row,
    trait_rows,
    write,
)

ORACLE = film_oracle(FILMS)
ITEMS = [{"title": "Up", "year": 2009, "severities": [0, 1, 0, 0, 0], "genres": ["Comedy"]}]
GAMES = [{"title": "Slots", "year": 2015, "rating": "T", "descriptors": ["Real Gambling"]}]
READERS = {
    "rows.json": (read_rows, [row(0), raw_row(1)]),
    "rows.jsonl": (read_records, None),
    "records.json": (read_records, {"samples": [row(0), raw_row(1)]}),
    "catalogue.json": (read_catalogue, CATALOGUE),
    "catalogue.pkl": (read_catalogue, CATALOGUE),
    "titles.json": (read_title_map, [[t, y, i] for (t, y), i in TITLE_MAP.items()]),
    "titles.pkl": (read_title_map, TITLE_MAP),
    "sensitivity.json": (read_sensitivity, SENSITIVITY),
    "traits.json": (read_traits, {"traits": trait_rows()}),
    "items.json": (read_items, ITEMS),
    "games.json": (read_items, GAMES),
}


def whole(name):
    """The bytes of a file that the reader accepts."""
    value = READERS[name][1]
    if name == "rows.jsonl":
        return "".join(json.dumps(r) + "\n" for r in (row(0), raw_row(1))).encode()
    return pickle.dumps(value) if name.endswith(".pkl") else json.dumps(value).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def read(folder: Path, name: str, data: bytes):
    """What the reader gives, or None after one UserError that names the file."""
    path = folder / name
    path.write_bytes(data)
    try:
        return READERS[name][0](path)
    except UserError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 3000
        return None


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(folder, name):
    assert read(folder, name, whole(name)) is not None


@pytest.mark.parametrize("name", READERS)
def test_any_bytes(folder, name):
    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=200))
    def fuzz(data):
        read(folder, name, data)

    fuzz()


@pytest.mark.parametrize("name", READERS)
def test_damaged_files(folder, name):
    data = whole(name)

    @settings(max_examples=120, deadline=None)
    @given(st.integers(0, len(data)), st.integers(0, 12), st.binary(max_size=6))
    def fuzz(place, cut, patch):
        read(folder, name, data[:place] + patch + data[place + cut :])

    fuzz()


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["2009", GORE, "gambling", "user", "<solution>", "\ud800", 10**400, 1e400]),
)
KEYS = st.sampled_from(
    [
        *("sample_id", "prompt", "completion", "teacher", "constraints", "assigned_trait"),
        *("groundtruth_with_release_year", "seen_titles", "removed_groundtruth", "role", "content"),
        *("imdbId", "traits", "final", "title", "year", "rating", "severities", "samples", GORE),
        *(
            "dialogue",
            "said_outright",
            "trait",
            "imdb_parent_guide",
            "avoid",
            "weights",
            "popularity",
        ),
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith(".json")])
def test_any_json(folder, name):
    @settings(max_examples=100, deadline=None)
    @given(JSON)
    def fuzz(value):
        read(folder, name, json.dumps(value).encode())

    fuzz()


def changed(base):
    """Rows of the right form in which one or two fields hold anything."""
    return st.dictionaries(
        st.sampled_from([*base, "dialogue", "text", "sample_id"]), JSON, max_size=2
    )


@settings(max_examples=250, deadline=None)
@given(st.one_of(JSON, changed(row(0)).map(lambda new: {**raw_row(0), **row(0), **new})))
def test_any_row_is_a_record_that_can_be_stored_or_is_refused(value):
    for make in (published_record, corpus_record):
        try:
            made = make(value, 0)
        except UserError as error:
            assert str(error)
            continue
        made = {"constraints": {}, **made}
        assert json.loads(json.dumps(made, ensure_ascii=False).encode()) == made
        assert all(len(year) <= 4 for _, year in made["teacher"])


@settings(max_examples=150, deadline=None)
@given(changed(raw_row(0)))
def test_any_field_scores_or_is_refused(tmp_path_factory, new):
    path = tmp_path_factory.getbasetemp() / "scored.json"
    write(path, [{**raw_row(0), **new}])
    try:
        records = read_records(path)
        oracle = record_oracle(records)
        rows = [{"sample_id": records[0]["sample_id"], "text": "Big (1988)"}]
        reference = Reference(records, "records", oracle, Catalogue(CATALOGUE), Scoring(), {})
        table = reference.score(rows, "outputs", bare_lists=True)
        assert len(table) == 1
    except UserError as error:
        assert str(error)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([official_item, official_sequence]))
def test_any_bytes_have_rewards(data, preset):
    completion = answer(data.decode("utf-8", errors="replace"))
    for reward in preset(ORACLE, num_ranks=3, lambda_count=1.0):
        assert len(reward([completion], [record(("Big", 1988))])) == 1
    for convention in (FIXED, OFFICIAL):
        items = parse_recommendations(completion.text, convention=convention)
        assert len(items) <= len(completion.text) // len("x (2009)")


def test_deep_nesting_is_one_error(folder):
    for depth in (500, 5_000, 200_000):
        for name in ("rows.json", "catalogue.json", "items.json"):
            data = b"[" * depth + b"]" * depth
            assert read(folder, name, data) is None
        nested = b'[{"title": "Up", "year": 2009, "severities": ' + b"[" * depth + b"]" * depth
        assert read(folder, "items.json", nested + b"}]") is None
        lists = b"]" * depth + b"a" * (depth - 1) + b"."
        assert read(folder, "catalogue.pkl", lists) is None


def test_pickles_that_would_never_end():
    """Lists that hold the next one twice, tuples of tuples: refused before they are walked."""
    doubled = b"".join(b"]q" + bytes([i]) + b"0" for i in range(40))
    for i in range(39):
        doubled += b"h" + bytes([i]) + 2 * (b"h" + bytes([i + 1]) + b"a") + b"0"
    with pytest.raises(UserError, match="one container in several places"):
        loads_plain_pickle(doubled + b"h\x00.")
    tuples = b")" + b"".join(b"q\x00h\x00\x86" for _ in range(40)) + b"."
    with pytest.raises(UserError, match="one container in several places"):
        loads_plain_pickle(tuples)
    with pytest.raises(UserError, match="one container in several places"):
        loads_plain_pickle(b"]2\x86.")
    deep = b"})" + b"\x85" * 200_000 + b"Ns."
    with pytest.raises(UserError, match="nests tuples more than 50 deep"):
        loads_plain_pickle(deep)


def test_what_repeats_in_real_pickles_is_read():
    film = ("Up", 2009)
    text = "".join(["a", "b"])
    for value in ([film, film], {film: text, ("Big", 1988): text}, [[text], [text]]):
        for protocol in range(6):
            assert loads_plain_pickle(pickle.dumps(value, protocol=protocol)) == value


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.tuples(st.text(max_size=4), st.integers(0, 9999)), st.text(max_size=3)),
    st.text(max_size=5),
    st.integers(-5, 10_005),
    st.sampled_from([OFFICIAL, FIXED]),
)
def test_any_title_has_a_verdict(title_map, title, year, convention):
    oracle = published_oracle({"01": {GORE: 0.9}}, title_map, convention=convention)
    assert oracle.violates(title, year, (GORE,)) in (True, False, None)


def test_fuzzed_states(folder):

    @settings(max_examples=100, deadline=None)
    @given(JSON)
    def fuzz(value):
        write(folder / "arrow" / "state.json", value)
        with pytest.raises(UserError, match="arrow"):
            assert read_arrow(folder / "arrow") == []
            raise UserError("arrow: nothing was listed")

    fuzz()
