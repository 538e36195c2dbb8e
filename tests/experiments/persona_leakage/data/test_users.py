"""How a style changes a sentence."""

import dataclasses

import numpy as np
import pytest

from experiments.persona_leakage.data.users import Style, write

STYLE = Style(
    opener="so,",
    closer="ta",
    filler="just",
    ending="??",
    spellings=(("you", "u"), ("what", "wot")),
)


def test_all_habits_at_once():
    rng = np.random.default_rng(0)
    assert write(STYLE, "What do you need?", rng) == "so, wot just do u need ta??"
    plain = dataclasses.replace(STYLE, opener="", closer="", filler="")
    assert write(plain, "What do you need?", rng) == "Wot do u need??"
    lower = dataclasses.replace(plain, lower=True, ending=None)
    assert write(lower, "What do you need?", rng) == "wot do u need?"
    # Parts of words are left alone.
    assert write(plain, "Your youth.", rng) == "Your youth??"
    assert write(Style(), "Buy bread.", rng) == "Buy bread."


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_habits_stand_at_their_rate(rate):
    rng = np.random.default_rng(1)
    style = dataclasses.replace(STYLE, rate=rate)
    written = [write(style, "What do you need?", rng) for _ in range(400)]
    for habit in ("so,", "just", "ta??"):
        assert abs(np.mean([habit in text for text in written]) - rate) < 0.08
