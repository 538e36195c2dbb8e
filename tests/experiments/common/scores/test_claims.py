import math

import pytest

from experiments.common.scores.claims import Claim, hold
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import ArmResult, Results

CLAIM = Claim(
    "guidance helps",
    lambda value: (
        value("guided", "right") > value("plain", "right"),
        f"{value('guided', 'right'):.2f} against {value('plain', 'right'):.2f}",
    ),
)


def held(**arms):
    """The claim's verdict on arms of given values by seed."""
    found = tuple(
        ArmResult(name, f"the {name} arm", tuple(by_seed), {"right": tuple(by_seed.values())})
        for name, by_seed in arms.items()
    )
    titles = {"plain": "the plain arm", "guided": "the guided arm"}
    metrics = (Metric("right", "right answers"),)
    (verdict,) = hold([CLAIM], Results("run", found, metrics, titles=titles))
    return verdict


@pytest.mark.parametrize(("value", "holds"), [(0.5, True), (0.25, False), (0.1, False)])
def test_a_claim_holds_or_fails_by_the_numbers(value, holds):
    verdict = held(plain={0: 0.25}, guided={0: value})
    assert (verdict.text, verdict.holds) == ("guidance helps", holds)
    assert verdict.numbers == f"{value:.2f} against 0.25"


def test_the_seeds_that_agree_are_counted():
    """Means 0.3 against 0.2; seed 0 disagrees, seed 3 has one arm only."""
    plain, guided = {0: 0.2, 1: 0.2, 2: 0.2}, {0: 0.1, 1: 0.4, 2: 0.4, 3: 0.3}
    verdict = held(plain=plain, guided=guided)
    assert verdict.holds is True
    assert verdict.numbers == "0.30 against 0.20; holds in 2 of 3 seeds"


def test_a_claim_about_an_arm_without_numbers_is_open():
    assert held(plain={0: 1.0}).holds is None
    assert held(plain={0: 1.0}).numbers == "the guided arm was not scored"
    nothing = held(plain={0: 1.0}, guided={0: math.nan})
    assert (nothing.holds, nothing.numbers) == (None, "the guided arm has no right answers")


def test_a_verdict_is_of_plain_values():
    """A test may answer with a NumPy bool, which JSON does not take."""
    import numpy as np

    claim = Claim("x", lambda value: (np.bool_(True), ""))
    (verdict,) = hold([claim], Results("run", (), ()))
    assert verdict.holds is True
