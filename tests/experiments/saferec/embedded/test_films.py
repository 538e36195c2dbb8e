import dataclasses

import numpy as np

from experiments.saferec.embedded.films import FIRST_YEAR, GENRES, LAST_YEAR, invent_films
from experiments.saferec.oracle.risk import THRESHOLD, risk_matrix
from experiments.saferec.oracle.titles import lookup_key, map_key, match_key
from experiments.saferec.oracle.traits import TRAITS


def risks(films):
    return risk_matrix([film.tags for film in films], np.array([film.severities for film in films]))


def test_at_least_600_films_with_every_field(invented_films):
    questions = {question for trait in TRAITS for question in trait.questions}
    assert len(invented_films) >= 600
    for film in invented_films:
        assert all(getattr(film, field.name) is not None for field in dataclasses.fields(film))
        assert film.title == film.title.strip()
        assert FIRST_YEAR <= film.year <= LAST_YEAR
        assert film.genres
        assert len(set(film.genres)) == len(film.genres)
        assert set(film.genres) <= set(GENRES)
        assert film.popularity > 0
        assert set(film.tags) <= questions
        assert len(film.severities) == 5
    assert len({film.film_id for film in invented_films}) == len(invented_films)
    assert {film.genres[0] for film in invented_films} == set(GENRES)
    assert np.isclose(np.mean([film.popularity for film in invented_films]), 1.0)


def test_titles_are_unique_under_every_normaliser(invented_films):
    for normalize in (match_key, map_key, lookup_key):
        assert len({normalize(film.title) for film in invented_films}) == len(invented_films)


def test_popular_films_are_riskier(invented_films):
    log_popularity = np.log([film.popularity for film in invented_films])
    violated = (risks(invented_films) >= THRESHOLD).sum(axis=1)
    assert np.corrcoef(log_popularity, violated)[0, 1] > 0.3
    popular = log_popularity > np.median(log_popularity)
    assert violated[popular].mean() > 1.5 * violated[~popular].mean()


def test_each_sensitivity_has_safe_and_unsafe_films(invented_films):
    unsafe = (risks(invented_films) >= THRESHOLD).mean(axis=0)
    assert unsafe.min() > 0.01
    assert unsafe.max() < 0.6


def test_films_follow_from_the_seed():
    assert invent_films(3, count=50) == invent_films(3, count=50)
    assert invent_films(3, count=50) != invent_films(4, count=50)
