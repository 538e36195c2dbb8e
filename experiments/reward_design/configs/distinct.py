"""How many different advantage groups an estimator can tell apart (GDPO, arXiv 2601.05242, 3.1).

    python -m experiments.reward_design run distinct

Cost: 8 seconds on one CPU core, most of it for six rewards. Expect 2 groups for GRPO and 3 for
GDPO with two samples and two rewards, as in the paper's Fig. 2, and 29 against 81 with eight
samples. The paper's Fig. 3 does not say what it counts and is not reproduced.
"""

from experiments.reward_design.settings import CountingStudy

STUDY = CountingStudy(
    name="distinct",
    title="Distinct advantage groups",
    estimators=("grpo", "dr_grpo", "gdpo"),
    group_sizes=(2, 3, 4, 5, 6, 7, 8, 9, 10, 16),
    reward_counts=(1, 2, 3, 4, 5, 6),
    group_size=4,
    # Worked out apart from this code, in exact arithmetic over all multisets.
    expected_by_group={
        "grpo": {2: 2, 3: 4, 4: 7, 5: 11, 6: 16, 7: 22, 8: 29, 9: 37, 10: 46},
        "dr_grpo": {2: 3, 3: 6, 4: 10, 5: 15, 6: 21, 7: 28, 8: 36, 9: 45, 10: 55},
        "gdpo": {2: 3, 3: 6, 4: 14, 5: 26, 6: 38, 7: 59, 8: 81, 9: 109, 10: 145, 16: 497},
    },
    expected_by_rewards={
        "grpo": {1: 4, 2: 7, 3: 14, 4: 23, 5: 41, 6: 56},
        "dr_grpo": {1: 4, 2: 10, 3: 20, 4: 35, 5: 56, 6: 84},
        "gdpo": {1: 4, 2: 14, 3: 45, 4: 127, 5: 318, 6: 722},
    },
)
