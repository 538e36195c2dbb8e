import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.saferec.oracle.risk import (
    THRESHOLD,
    check_severities,
    pg_risk_matrix,
    risk_matrix,
    trigger_matrix,
)
from experiments.saferec.oracle.traits import QUESTIONS, TRAITS, trait_named
from gdpo_jax.errors import UserError
from tests.experiments.saferec.scalar_risk import film_risk, fuse, pg_risk

# severities (0, 3, 1, 0, 2): no sex, severe violence, mild profanity, no drugs, moderate fright
WORKED_EXAMPLE = {
    "gore": 0.9231,
    "torture": 0.8889,
    "sexual-violence": 0.2889,
    "child-harm": 0.8205,
    "domestic-abuse": 0.8333,
    "substances": 0.0606,
    "self-harm": 0.8333,
    "medical-trauma": 0.8667,
    "claustrophobia": 0.6667,
    "photosensitivity": 0.6667,
    "hate-speech": 0.3333,
    "disasters": 0.8788,
    "horror": 0.7436,
}


@pytest.mark.parametrize("trait", TRAITS, ids=lambda trait: trait.slug)
def test_worked_example(trait):
    expected = WORKED_EXAMPLE.get(trait.slug, 0.0)
    assert pg_risk_matrix(np.array([[0, 3, 1, 0, 2]]), [trait]).tolist() == [[expected]]


def test_moderate_everywhere_is_already_unsafe():
    risks = risk_matrix([()], np.array([[2, 2, 2, 2, 2]]), [trait_named("gore")])
    assert risks.tolist() == [[0.6667]]
    assert risks[0, 0] >= THRESHOLD == 0.66


def test_array_form_equals_scalar_form_for_every_severity():
    every = np.array(list(itertools.product(range(4), repeat=5)))
    matrix = pg_risk_matrix(every)
    scalar = [[pg_risk(tuple(row), trait.weights) for trait in TRAITS] for row in every.tolist()]
    np.testing.assert_array_equal(matrix, np.array(scalar))


def test_trigger_matrix_by_hand():
    triggers = trigger_matrix([("Is there a hospital scene", "not a question"), ()])
    assert triggers.shape == (2, 20)
    assert [TRAITS[i].slug for i in np.flatnonzero(triggers[0])] == ["medical-trauma", "needles"]
    assert not triggers[1].any()


@given(
    st.lists(st.sampled_from(QUESTIONS), max_size=6),
    st.tuples(*[st.integers(0, 3)] * 5),
)
def test_matrix_agrees_with_single_entries(tags, severities):
    matrix = risk_matrix([tags], np.array([severities]))
    singles = [film_risk(tags, severities, trait).final for trait in TRAITS]
    assert matrix.tolist() == [singles]


@pytest.mark.parametrize("severities", [(0, 1, 2), (0, 1, 2, 3, 4), (0, 0, 0, 0, -1)])
def test_bad_severities(severities):
    with pytest.raises(UserError, match=r"5 integers from 0 \(None\) to 3 \(Severe\)"):
        check_severities(severities)


def test_bad_severity_table_shape():
    with pytest.raises(UserError, match=r"shape \(1, 4\)"):
        risk_matrix([()], np.zeros((1, 4), dtype=int))


def test_published_entries_follow_the_formula(published_records):
    entries = [
        (record["assigned_trait"], removed["trait_info"])
        for record in published_records
        for removed in record["removed_groundtruth"]
    ]
    assert len(entries) == 220
    for key, entry in entries:
        trait_named(key)
        risk = fuse(entry["ddd_trigger"], entry["pg_risk"])
        assert (risk.final, risk.unsafe, risk.source) == (
            entry["final"],
            entry["unsafe"],
            entry["source"],
        )


def test_published_guide_risks_are_reachable(published_records):
    """Every released pg_risk is a value that the trait's weights can give."""
    every = list(itertools.product(range(4), repeat=5))
    reachable = {
        trait.key: {pg_risk(severities, trait.weights) for severities in every} for trait in TRAITS
    }
    for record in published_records:
        for removed in record["removed_groundtruth"]:
            assert removed["trait_info"]["pg_risk"] in reachable[record["assigned_trait"]]
