import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.saferec.oracle.risk import (
    THRESHOLD,
    Risk,
    film_risk,
    fuse,
    pg_risk,
    pg_risk_matrix,
    risk_matrix,
    severity_levels,
    trigger_matrix,
)
from experiments.saferec.oracle.traits import QUESTIONS, TRAITS, trait_named
from gdpo_jax.errors import UserError

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
    assert pg_risk((0, 3, 1, 0, 2), trait.weights) == WORKED_EXAMPLE.get(trait.slug, 0.0)


def test_moderate_everywhere_is_already_unsafe():
    risk = film_risk((), (2, 2, 2, 2, 2), "gore")
    assert risk == Risk(
        final=0.6667, unsafe=True, source="ParentGuide", ddd_trigger=0, pg_risk=0.6667
    )


@pytest.mark.parametrize(
    ("trigger", "guide", "unsafe", "source"),
    [
        (1, 0.0, True, "DDD"),
        (1, 0.1, True, "Both"),
        (1, 0.9, True, "Both"),
        (0, 0.66, True, "ParentGuide"),
        (0, 0.6599, False, "None"),
        (0, 0.0, False, "None"),
    ],
)
def test_fusion(trigger, guide, unsafe, source):
    risk = fuse(trigger, guide)
    assert (risk.unsafe, risk.source) == (unsafe, source)
    assert risk.final == max(trigger, guide)


def test_threshold_is_an_option():
    assert not fuse(0, 0.7, threshold=0.8).unsafe
    assert THRESHOLD == 0.66


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
        film_risk((), severities, "gore")


def test_bad_severity_table_shape():
    with pytest.raises(UserError, match=r"shape \(1, 4\)"):
        risk_matrix([()], np.zeros((1, 4), dtype=int))


def test_severity_names():
    assert severity_levels({"Violence & Gore": "Severe", "Profanity": "Mild"}) == (0, 3, 1, 0, 0)
    with pytest.raises(UserError, match="unknown category 'Gore'"):
        severity_levels({"Gore": "Severe"})
    with pytest.raises(UserError, match="None, Mild, Moderate, Severe"):
        severity_levels({"Profanity": "Extreme"})


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
