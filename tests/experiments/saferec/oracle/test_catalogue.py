import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.saferec.oracle.catalogue import (
    Catalogue,
    Oracle,
    OracleOptions,
    film_oracle,
    years_within,
)
from experiments.saferec.oracle.conventions import (
    CONVENTIONS,
    FIXED,
    OFFICIAL,
    convention_named,
)
from experiments.saferec.oracle.traits import QUESTIONS, TRAIT_KEYS, TRAITS
from experiments.saferec.published.revealed import record_oracle
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import ANIMALS, FILMS, GORE, HORROR, film, record
from tests.experiments.saferec.scalar_risk import film_risk


def test_film_is_checked():
    with pytest.raises(UserError, match="5 integers from 0"):
        film("Up", 2000, severities=(0, 0, 0, 0, 4))
    with pytest.raises(UserError, match="no title"):
        film(" ", 2000)


@pytest.mark.parametrize(
    ("title", "year", "trait", "verdict"),
    [
        ("The Red Mill", 1999, GORE, True),
        ("red mill", 2001, GORE, True),
        ("Red Mill, The", 1997, GORE, True),
        ("The Red Mill", 2002, GORE, None),
        ("The Red Mill", 1999, ANIMALS, False),
        ("A Fox\u2019s Winter", 2010, ANIMALS, True),
        ("Night and Bell", 2015, HORROR, True),
        ("Cafe Lune", 2020, GORE, False),
        ("No Such Film", 2000, GORE, None),
    ],
)
def test_verdicts(title, year, trait, verdict):
    assert film_oracle(FILMS).violates(title, year, (trait,)) is verdict


def test_any_active_trait_counts():
    oracle = film_oracle(FILMS)
    assert oracle.violates("The Red Mill", 1999, (ANIMALS, GORE)) is True
    assert oracle.violates("Quiet Harbour", 2004, (ANIMALS, GORE)) is False
    assert oracle.violates("Quiet Harbour", 2004, ()) is False
    assert oracle.judge([("Quiet Harbour", 2004, "more"), ("?", 1)], (GORE,)) == [False, None]


def test_unknown_trait():
    with pytest.raises(UserError, match="Did you mean 'Anti-gore / squeamish'"):
        film_oracle(FILMS).violates("Quiet Harbour", 2004, ("Anti-gore",))


def test_year_order_prefers_the_exact_then_the_later_year():
    unsafe = (0, 3, 0, 0, 0)
    oracle = film_oracle([film("Twin", 2001, severities=unsafe), film("Twin", 1999)])
    assert oracle.violates("Twin", 2001, (GORE,)) is True
    assert oracle.violates("Twin", 2000, (GORE,)) is True
    assert oracle.violates("Twin", 1998, (GORE,)) is False
    official = film_oracle(
        [film("Twin", 2001, severities=unsafe), film("Twin", 1999)], convention=OFFICIAL
    )
    assert official.violates("Twin", 2000, (GORE,)) is False


def test_year_tolerance():
    assert years_within(2) == (0, 1, -1, 2, -2)
    assert years_within(2, earlier_first=True) == (0, -1, 1, -2, 2)
    assert years_within(0) == (0,)
    for tolerance, far, verdict in ((0, 1, None), (1, 1, True), (1, 2, None), (3, 3, True)):
        oracle = film_oracle(FILMS, options=OracleOptions(year_tolerance=tolerance))
        assert oracle.violates("Red Mill", 1999, (GORE,)) is True
        assert oracle.violates("Red Mill", 1999 + far, (GORE,)) is verdict
        assert oracle.violates("Red Mill", 1999 - far, (GORE,)) is verdict
    with pytest.raises(UserError, match="year_tolerance=-1"):
        film_oracle(FILMS, options=OracleOptions(year_tolerance=-1))


def test_official_convention_has_the_published_faults():
    official = film_oracle(FILMS, convention=OFFICIAL)
    # An article or an apostrophe hides the film.
    assert official.violates("The Red Mill", 1999, (GORE,)) is None
    assert official.violates("A Fox's Winter", 2010, (ANIMALS,)) is None
    # A title alone is enough when no year fits.
    assert official.violates("Quiet Harbour", 1950, (GORE,)) is False
    assert film_oracle(FILMS).violates("Quiet Harbour", 1950, (GORE,)) is None


def test_films_that_share_a_key_are_judged_with_caution():
    safe, unsafe = film("Mother", 2017), film("Mother!", 2017, severities=(0, 3, 0, 0, 0))
    for films in ((safe, unsafe), (unsafe, safe), (safe, safe, unsafe)):
        assert film_oracle(films).violates("Mother", 2017, (GORE,)) is True


def test_risk_and_thresholds():
    oracle = film_oracle(FILMS)
    assert oracle.options.threshold == 0.66
    assert oracle.risk("Red Mill", 1999, GORE) == 0.7692
    assert oracle.risk("No Such Film", 1999, GORE) == 0.0
    assert oracle.risk("No Such Film", 1999, GORE, unknown=1.0) == 1.0
    laxer = film_oracle(FILMS, options=OracleOptions(threshold=0.8))
    assert laxer.violates("Red Mill", 1999, (GORE,)) is False
    stricter = film_oracle(FILMS, options=OracleOptions(trait_thresholds={GORE: 0.3}))
    assert stricter.violates("Cafe Lune", 2020, (GORE,)) is True
    assert stricter.violates("Cafe Lune", 2020, (HORROR,)) is False
    with pytest.raises(UserError, match="unknown trait"):
        film_oracle(FILMS, options=OracleOptions(trait_thresholds={"gory": 0.3}))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(QUESTIONS), max_size=3), st.tuples(*[st.integers(0, 3)] * 5)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_oracle_equals_the_risk_formula(contents):
    films = [film(f"Film {'x' * i}", 2000, *content) for i, content in enumerate(contents)]
    oracle = film_oracle(films)
    for entry in films:
        for trait in TRAITS:
            expected = film_risk(entry.tags, entry.severities, trait)
            assert oracle.violates(entry.title, 2000, (trait.key,)) is expected.unsafe
            assert oracle.risk(entry.title, 2000, trait.key) == expected.final


def test_partly_known_films():
    risks = np.full((1, 20), np.nan)
    risks[0, TRAIT_KEYS.index(GORE)] = 0.9
    risks[0, TRAIT_KEYS.index(ANIMALS)] = 0.1
    oracle = Oracle(risks=risks, index={("half known", 2000): 0})
    assert oracle.violates("Half Known", 2000, (GORE,)) is True
    assert oracle.violates("Half Known", 2000, (ANIMALS,)) is False
    assert oracle.violates("Half Known", 2000, (HORROR,)) is None
    assert oracle.violates("Half Known", 2000, (GORE, HORROR)) is True
    assert oracle.violates("Half Known", 2000, (ANIMALS, HORROR)) is None


def test_oracle_of_the_films_removed_from_records():
    removed = {"title": "The Red Mill", "year": "1999", "trait_info": {"final": 1.0}}
    shown = record(assigned_trait=GORE, removed_groundtruth=[removed])
    plain = record(assigned_trait=GORE, removed_groundtruth=[["Quiet Harbour", "2004"]])
    oracle = record_oracle([shown, plain])
    assert oracle.violates("Red Mill", 1999, (GORE,)) is True
    assert oracle.violates("Red Mill", 1999, (ANIMALS,)) is None
    assert oracle.violates("Quiet Harbour", 2004, (GORE,)) is None
    assert record_oracle([plain]).violates("Red Mill", 1999, (GORE,)) is None


@pytest.mark.parametrize(
    ("policy", "resolved"), [("safe", False), ("unsafe", True), ("excluded", None)]
)
def test_unknown_policies(policy, resolved):
    for name in CONVENTIONS:
        convention = convention_named(name, unknown=policy)
        assert convention.name == name
        assert convention.resolve(None) is resolved
        assert convention.resolve(True) is True
        assert convention.resolve(False) is False


def test_conventions_are_checked_at_the_door():
    assert convention_named("official") is not FIXED and convention_named("official") == OFFICIAL
    with pytest.raises(UserError, match="convention='both'; legal: fixed, official"):
        convention_named("both")
    with pytest.raises(UserError, match="legal: safe, unsafe, excluded"):
        convention_named("fixed", unknown="ignore")


def test_catalogue():
    titles = [(film.title, film.year) for film in FILMS]
    fixed = Catalogue(titles)
    assert len(fixed) == 5
    assert ("red mill", 2001) in fixed
    assert ("red mill", 1996) not in fixed
    assert ("Red Mill", "1999") in fixed
    official = Catalogue(titles, convention=OFFICIAL)
    assert ("the red mill", 2001) in official
    assert ("red mill", 1999) not in official
