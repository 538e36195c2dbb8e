"""Item tables: one way to an oracle and a catalogue, whatever the items are."""

import itertools

import pytest

from experiments.saferec.oracle.catalogue import Catalogue, OracleOptions, film_oracle
from experiments.saferec.oracle.conventions import FIXED, OFFICIAL
from experiments.saferec.oracle.table import catalogue_of, film_table
from experiments.saferec.oracle.titles import map_key
from experiments.saferec.oracle.traits import TRAIT_KEYS
from experiments.saferec.published.tables import PublishedTable
from tests.experiments.saferec.films import ANIMALS, FILMS, GORE, HORROR


def published(films):
    """The same risks as published files: one id a film, titles under the published map key."""
    risks = film_table(films).risks
    return PublishedTable(
        catalogue=tuple((film.title, film.year) for film in films),
        title_map={(map_key(film.title), film.year): str(i) for i, film in enumerate(films)},
        sensitivity={
            str(i): dict(zip(TRAIT_KEYS, map(float, row), strict=True))
            for i, row in enumerate(risks)
        },
    )


@pytest.mark.parametrize("convention", [FIXED, OFFICIAL], ids=lambda each: each.name)
def test_three_ways_to_one_oracle(convention):
    oracles = [
        make(convention=convention)
        for make in (
            film_table(FILMS).oracle,
            published(FILMS).oracle,
            lambda **options: film_oracle(FILMS, **options),
        )
    ]
    names = [film.title for film in FILMS] + ["red mill", "Fox's Winter", "Nowhere"]
    traits = (GORE, ANIMALS, HORROR)
    for name, year, trait in itertools.product(names, range(1996, 2024), traits):
        verdicts = {oracle.violates(name, year, (trait,)) for oracle in oracles}
        assert len(verdicts) == 1
    # The faults of the published look-up are those of every table.
    hidden = oracles[0].violates("The Red Mill", 1999, (GORE,))
    assert hidden is (True if convention is FIXED else None)


def test_options_reach_the_oracle():
    for table in (film_table(FILMS), published(FILMS)):
        lax = table.oracle(options=OracleOptions(threshold=0.8))
        assert lax.violates("Red Mill", 1999, (GORE,)) is False
        strict = table.oracle(options=OracleOptions(trait_thresholds={GORE: 0.3}, year_tolerance=0))
        assert strict.violates("Cafe Lune", 2020, (GORE,)) is True
        assert strict.violates("Cafe Lune", 2021, (GORE,)) is None


def test_catalogues_of_tables():
    for table in (film_table(FILMS), published(FILMS)):
        for convention in (FIXED, OFFICIAL):
            ours = catalogue_of(table, convention=convention)
            theirs = Catalogue([(f.title, f.year) for f in FILMS], convention=convention)
            assert len(ours) == len(theirs)
            for film in (("red mill", 2001), ("Cafe Lune", 2020), ("Up", 2009)):
                assert (film in ours) is (film in theirs)
        assert table.noun == "films"
        assert table.trait_keys == TRAIT_KEYS
