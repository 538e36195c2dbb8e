"""The number of different advantage groups, against the counts worked out by hand."""

import pytest

from experiments.reward_design.advantage_groups import distinct_advantage_groups
from gdpo_jax.advantages import (
    chain,
    combine,
    dr_grpo,
    grpo,
    mo_grpo,
    weigh,
)
from gdpo_jax.errors import UserError

DECOUPLED, SUMMED, CENTRED = mo_grpo(), grpo(), dr_grpo()
BY_GROUP_SIZE = {  # two rewards
    DECOUPLED: {2: 3, 3: 6, 4: 14, 5: 26, 6: 38, 7: 59, 8: 81, 9: 109, 10: 145, 16: 497},
    SUMMED: {2: 2, 3: 4, 4: 7, 5: 11, 6: 16, 7: 22, 8: 29, 9: 37, 10: 46},
    CENTRED: {2: 3, 3: 6, 4: 10, 5: 15, 6: 21, 7: 28, 8: 36, 9: 45, 10: 55},
}
BY_REWARDS = {  # four samples
    DECOUPLED: {1: 4, 2: 14, 3: 45, 4: 127, 5: 318},
    SUMMED: {1: 4, 2: 7, 3: 14, 4: 23, 5: 41},
    CENTRED: {1: 4, 2: 10, 3: 20, 4: 35, 5: 56},
}


@pytest.mark.parametrize("transform", [DECOUPLED, SUMMED, CENTRED], ids=["gdpo", "grpo", "dr_grpo"])
def test_counts(transform):
    for size, expected in BY_GROUP_SIZE[transform].items():
        found = distinct_advantage_groups(transform, group_size=size, num_rewards=2)
        assert found == expected, f"{size} samples"
    for rewards, expected in BY_REWARDS[transform].items():
        found = distinct_advantage_groups(transform, group_size=4, num_rewards=rewards)
        assert found == expected, f"{rewards} rewards"


@pytest.mark.slow
def test_gdpo_of_six_rewards():
    assert distinct_advantage_groups(DECOUPLED, group_size=4, num_rewards=6) == 722


def test_sizes_out_of_range():
    with pytest.raises(UserError, match="group_size=17"):
        distinct_advantage_groups(chain(weigh(), combine()), group_size=17, num_rewards=2)
    with pytest.raises(UserError, match="num_rewards=0"):
        distinct_advantage_groups(chain(weigh(), combine()), group_size=2, num_rewards=0)
