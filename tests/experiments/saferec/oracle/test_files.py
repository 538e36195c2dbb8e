"""Item tables of one's own."""

import pytest

from experiments.saferec.oracle.files import read_items
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import GORE
from tests.experiments.saferec.plain_corpus import film_rows
from tests.experiments.saferec.published_files import write


def test_item_files(tmp_path):
    table = read_items(write(tmp_path / "films.json", film_rows()))
    assert table.oracle().violates("Red Mill", 1999, (GORE,)) is True
    games = [{"title": "Slots", "year": 2015, "rating": "T", "descriptors": ["Real Gambling"]}]
    table = read_items(write(tmp_path / "games.json", games))
    assert table.oracle().violates("Slots", 2015, ("Gambling recovery",)) is True
    for change, message in (
        ({"title": None}, "row 0: field 'title'"),
        ({"year": "soon"}, "row 0: field 'year': 'soon' is no year"),
        ({"popularity": 0}, "field 'popularity': 0 is not a positive number"),
        ({"genres": "Drama"}, "field 'genres': expected a list"),
        ({"tags": ["spiders"]}, "field 'tags': 'spiders' is none of the questions"),
        ({"severities": [1]}, "severities"),
        ({"severities": None}, "field 'severities'"),
    ):
        rows = film_rows()
        rows[0] |= change
        with pytest.raises(UserError, match=message):
            read_items(write(tmp_path / "films.json", rows))
    with pytest.raises(UserError, match="holds no items"):
        read_items(write(tmp_path / "films.json", []))
