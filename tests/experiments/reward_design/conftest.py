"""Programs compile at the lowest level: the tests compile many and run each for a moment."""

import pytest

from experiments.reward_design import learning


@pytest.fixture(autouse=True, scope="session")
def quick_compilation():
    before, learning.COMPILER_LEVEL = learning.COMPILER_LEVEL, 0
    yield
    learning.COMPILER_LEVEL = before
