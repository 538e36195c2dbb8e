"""Claims hold and fail where the numbers say so."""

import pytest

from experiments.dcr.claims import CLAIMS

HELD = {
    "base": {"complies": 0.95, "refuses": 0.1, "plain": 0.95, "follows": 0.9},
    "stl": {"complies": 0.6, "refuses": 0.9, "plain": 0.95, "follows": 0.9},
    "stl-aug": {"complies": 0.7, "refuses": 0.9},
    "gdpo": {"complies": 0.8, "refuses": 0.9},
    "dcr": {"complies": 0.85, "refuses": 0.89, "plain": 0.94, "follows": 0.9},
    "dcr-gdpo": {"complies": 0.9, "refuses": 0.95},
}


def verdicts(**changes):
    numbers = {arm: {**values, **changes.get(arm, {})} for arm, values in HELD.items()}
    return [claim.test(lambda arm, metric: numbers[arm][metric])[0] for claim in CLAIMS]


def test_all_hold_where_dcr_is_better_everywhere():
    assert verdicts() == [True] * 6


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"stl": {"complies": 0.96}}, [0, 1]),
        # Fewer refusals of toxic prompts are no better discerning.
        ({"dcr": {"refuses": 0.8}}, [1, 2]),
        ({"dcr-gdpo": {"complies": 0.8}}, [3, 4]),
        ({"dcr": {"follows": 0.5}}, [5]),
    ],
    ids=["no over-refusal", "fewer refusals", "GDPO", "capability"],
)
def test_each_fails_by_its_own_numbers(changes, failing):
    assert [n for n, held in enumerate(verdicts(**changes)) if not held] == failing
