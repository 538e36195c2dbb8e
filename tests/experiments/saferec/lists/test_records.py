import pytest

from experiments.saferec.lists.records import active_traits, groundtruth, seen_titles
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import ANIMALS, GORE


def test_active_traits():
    assert active_traits({"constraints": {GORE: True, ANIMALS: None}}) == (GORE,)
    assert active_traits({"constraints": {GORE: False}}) == ()
    assert active_traits({"constraints": {}, "assigned_trait": GORE}) == ()
    assert active_traits({"assigned_trait": GORE}) == (GORE,)
    assert active_traits({}) == ()


def test_malformed_constraints():
    with pytest.raises(UserError, match="record 's1', field 'constraints': 'gore' is not a table"):
        active_traits({"sample_id": "s1", "constraints": "gore"})
    with pytest.raises(UserError, match="unknown trait"):
        active_traits({"constraints": {"Gory": True}})


def test_years_are_numbers():
    record = {"groundtruth_with_release_year": [["Up", "2009"], ("Big", 1988)]}
    assert groundtruth(record) == [("Up", 2009), ("Big", 1988)]


@pytest.mark.parametrize("films", [[["Up"]], [["Up", None]], [3], [["Up", "x"]]])
def test_malformed_ground_truth(films):
    with pytest.raises(UserError, match="'s1', field 'groundtruth_with_release_year'"):
        groundtruth({"id": "s1", "groundtruth_with_release_year": films})


def test_missing_ground_truth():
    with pytest.raises(UserError, match=r"it has \['sample_id'\]"):
        groundtruth({"sample_id": "s1"})


def test_seen_titles():
    assert seen_titles({"seen_titles": ["Up"]}) == ["Up"]
    assert seen_titles({"seen_titles": None}) == []
    assert seen_titles({}) == []
    for value in (3, [["Up", 2009]]):
        with pytest.raises(UserError, match="give a list of titles"):
            seen_titles({"seen_titles": value})
