import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.saferec.lists.records import active_traits, groundtruth, seen_titles
from experiments.saferec.oracle.traits import TRAITS
from experiments.saferec.published.readers import (
    read_catalogue,
    read_records,
    read_sensitivity,
    read_title_map,
    read_traits,
)
from gdpo_jax.data.arrow_rows import read_arrow
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import ANIMALS, GORE
from tests.experiments.saferec.published_files import save_arrow, trait_rows, write


@pytest.fixture
def arrow_folder(tmp_path):
    """A function that writes rows as a `save_to_disk` folder of two Arrow streams."""
    return lambda rows, name="test": save_arrow(rows, tmp_path / name)


def arrow_row(number, trait):
    return {
        "prompt": [{"role": "user", "content": f"prompt {number}"}],
        "seen_titles": ["Up"],
        "groundtruth_with_release_year": [["Big", "1988"], ["Heat", "1995"]],
        "constraints": {trait: True},
        "assigned_trait": trait,
    }


def test_arrow_folder(arrow_folder):
    """Arrow stores constraints as a struct with every key: absent ones come back as null."""
    rows = [arrow_row(i, GORE if i % 2 else ANIMALS) for i in range(5)]
    records = read_records(arrow_folder(rows))
    assert [record["sample_id"] for record in records] == ["0", "1", "2", "3", "4"]
    assert records[0]["constraints"] == {ANIMALS: True, GORE: None}
    assert [active_traits(record) for record in records[:2]] == [(ANIMALS,), (GORE,)]
    assert groundtruth(records[3]) == [("Big", 1988), ("Heat", 1995)]
    assert seen_titles(records[4]) == ["Up"]
    assert [record["prompt"][0]["content"] for record in records] == [
        f"prompt {i}" for i in range(5)
    ]


def test_arrow_folder_of_splits_is_explained(arrow_folder):
    folder = arrow_folder([arrow_row(0, GORE)])
    with pytest.raises(UserError, match=r"no state\.json\); give one of its splits: test"):
        read_arrow(folder.parent)


def test_damaged_arrow_folders(arrow_folder):
    folder = arrow_folder([arrow_row(i, GORE) for i in range(4)])
    file = folder / "data-00001-of-00002.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"data-00001-of-00002\.arrow is truncated or no Arrow"):
        read_arrow(folder)
    file.write_bytes(b"not arrow")
    with pytest.raises(UserError, match="data-00001"):
        read_arrow(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"though state\.json lists it"):
        read_arrow(folder)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "field '_data_files': expected a list"),
        ([], "field '_data_files': expected a list"),
        ({"_data_files": ["x.arrow"]}, "names no file beside it"),
        ({"_data_files": [{"filename": "../x.arrow"}]}, "names no file beside it"),
        ({"_data_files": [], "_indices_files": [{"filename": "i"}]}, "selects rows by an index"),
        ({"_data_files": []}, "holds no records"),
    ],
)
def test_bad_state(tmp_path, state, message):
    write(tmp_path / "state.json", state)
    with pytest.raises(UserError, match=message):
        read_records(tmp_path)


def test_fuzzed_arrow_streams(arrow_folder):
    folder = arrow_folder([arrow_row(i, GORE) for i in range(3)])
    file = folder / "data-00000-of-00002.arrow"
    whole = file.read_bytes()

    @settings(max_examples=150, deadline=None)
    @given(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=4))
    def damage(place, patch):
        file.write_bytes(whole[:place] + patch + whole[place + len(patch) :])
        try:
            rows = read_arrow(folder)
        except UserError as error:
            assert str(file) in str(error)
        else:
            assert len(rows) <= len(whole)

    damage()


def test_record_files(tmp_path):
    rows = [{"sample_id": "a"}, {"id": 7}, {}]
    records = read_records(write(tmp_path / "r.json", rows))
    assert [record["sample_id"] for record in records] == ["a", "7", "2"]
    with pytest.raises(UserError, match="row 1, field 'sample_id': 'a' is also the id of row 0"):
        read_records(write(tmp_path / "r.json", [{"sample_id": "a"}, {"sample_id": "a"}]))
    with pytest.raises(UserError, match="holds no records"):
        read_records(write(tmp_path / "r.json", []))


def test_catalogue_as_pickle_and_json(tmp_path):
    path = tmp_path / "gt_catalog.pkl"
    path.write_bytes(pickle.dumps([("Up", 2009), ("Big", 1988)]))
    assert read_catalogue(path) == [("Up", 2009), ("Big", 1988)]
    assert read_catalogue(write(tmp_path / "c.json", [["Up", "2009"]])) == [("Up", 2009)]
    for value, message in (
        ({"Up": 2009}, "expected a list of .title, year., found dict"),
        ([["Up", 2009], ["Big"]], "row 1: .'Big'. is not a pair"),
        ([["Up", "soon"]], "row 0"),
        ([[3, 2009]], "row 0"),
    ):
        with pytest.raises(UserError, match=message):
            read_catalogue(write(tmp_path / "c.json", value))


def test_title_map_as_pickle_and_json(tmp_path):
    titles = {("up", 2009): "1049413", ("big", 1988): "0094737"}
    path = tmp_path / "title_to_imdb.pkl"
    path.write_bytes(pickle.dumps(titles))
    assert read_title_map(path) == titles
    assert list(read_title_map(path)) == [("up", 2009), ("big", 1988)]
    rows = [["up", 2009, "1"], ["up", 2009, "2"]]
    assert read_title_map(write(tmp_path / "t.json", rows)) == {("up", 2009): "1"}
    for value, message in (
        ("x", "expected a table of titles, found str"),
        ([["up", 2009]], "row 0"),
        ([["up", 2009, 3]], "row 0"),
        ({"up": "1"}, "row 0: 'up'"),
    ):
        with pytest.raises(UserError, match=message):
            read_title_map(write(tmp_path / "t.json", value))


def test_sensitivity(tmp_path):
    def film(final, key=GORE):
        return [{"imdbId": "1", "traits": {key: {"final": final, "unsafe": True}}}]

    path = tmp_path / "s.json"
    assert read_sensitivity(write(path, film(0.7))) == {"1": {GORE: 0.7}}
    for value, message in (
        ({}, "expected a list of films"),
        ([{"traits": {}}], "row 0: expected fields 'imdbId' and 'traits'"),
        (film("high"), f"row 0: trait {GORE!r}: no number"),
        (film(True), "no number"),
        (film(float("nan")), "final is nan"),
        (film(1.5), "final is 1.5, not between 0 and 1"),
        (film(0.7, "Gory"), "row 0: unknown trait 'Gory'"),
    ):
        with pytest.raises(UserError, match=message):
            read_sensitivity(write(path, value))


def test_repeated_rows_are_passed_over(tmp_path):
    """Of an id given twice the last counts, of a title the first; `reject` hears of the other."""
    heard = []

    def reject(path, row, reason):
        heard.append((path.name, row, reason))

    films = [{"imdbId": "1", "traits": {GORE: {"final": final}}} for final in (0.1, 0.2, 0.3)]
    path = write(tmp_path / "s.json", films)
    for options in ({}, {"reject": reject}):
        assert read_sensitivity(path, **options) == {"1": {GORE: 0.3}}
    path = write(tmp_path / "t.json", [["up", 2009, "1"], ["up", 2009, "2"]])
    assert read_title_map(path, reject=reject) == {("up", 2009): "1"}
    assert heard == [
        ("s.json", 0, "imdbId '1' comes again in row 1; the last counts"),
        ("s.json", 1, "imdbId '1' comes again in row 2; the last counts"),
        ("t.json", 1, "('up', 2009) is there already; the first counts"),
    ]


def test_traits_file(tmp_path):
    path = tmp_path / "traits.json"
    assert read_traits(write(path, {"traits": trait_rows()})) == TRAITS
    with pytest.raises(UserError, match="expected an object with a list 'traits'"):
        read_traits(write(path, []))
    with pytest.raises(UserError, match="lacks the trait 'Animal lover"):
        read_traits(write(path, {"traits": trait_rows()[1:]}))
    rows = trait_rows()
    del rows[2]["imdb_parent_guide"]["weights"]["Profanity"]
    with pytest.raises(UserError, match="row 2: missing or malformed field 'Profanity'"):
        read_traits(write(path, {"traits": rows}))
    rows = trait_rows()
    rows[3]["trait"] = "Gory"
    with pytest.raises(UserError, match="row 3: unknown trait"):
        read_traits(write(path, {"traits": rows}))


def test_published_files(reference_file, published_file):
    table = reference_file("saferec/traits_with_imdb_parentguide_weights.json")
    assert read_traits(table) == TRAITS
    records = read_records(published_file)
    assert len(records) == 79
    assert records[0]["sample_id"] == "train_2"
    catalogue = set(read_catalogue(reference_file("saferec/gt_catalog_complete.json")))
    liked = [film for record in records for film in groundtruth(record)]
    assert len(liked) == 178
    assert catalogue.issuperset(liked)
