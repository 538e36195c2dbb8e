"""What the papers claim, held against numbers; and how the arms' tables look in a terminal."""

import dataclasses
import io
import math

import pytest
from rich.console import Console

from experiments.common.scores.claims import hold
from experiments.common.scores.comparisons import Comparison
from experiments.common.scores.intervals import Interval
from experiments.common.scores.results import ArmResult, Results
from experiments.common.scores.results_tables import print_table, print_verdicts
from experiments.saferec.arms import ARMS
from experiments.saferec.claims import CLAIMS
from experiments.saferec.metrics import METRICS

TITLES = {arm.name: arm.title for arm in ARMS if not arm.base}
NAMES = tuple(metric.name for metric in METRICS if metric.panel != "@20")


def arm(name, *, seeds=(0,), **metrics):
    """An arm whose metrics are given as one number or one per seed; the others are one."""
    values = {metric: (1.0,) * len(seeds) for metric in NAMES}
    for field, numbers in metrics.items():
        metric = field if field in NAMES else field.replace("_at_", "@")
        values[metric] = numbers if isinstance(numbers, tuple) else (numbers,) * len(seeds)
    return ArmResult(name=name, title=TITLES[name], seeds=seeds, values=values)


def results_of(tmp_path, *arms):
    return Results(
        source=str(tmp_path),
        arms=arms,
        metrics=METRICS,
        titles=TITLES,
    )


def published(tmp_path, **changes):
    """Numbers for which all five claims hold, unless `changes` replaces an arm."""
    arms = {
        "sft": arm("sft", svr_at_10=0.3),
        "relevance-rl": arm("relevance-rl", svr_at_10=0.4),
        "safe-sft": arm("safe-sft", svr_at_10=0.1, list_length=8.0),
        "safe-gdpo-no-count": arm("safe-gdpo-no-count", list_length=5.0),
        "safe-gdpo": arm("safe-gdpo", svr_at_10=0.01, list_length=10.0),
    }
    arms |= {value.name: value for value in changes.values()}
    return results_of(tmp_path, *arms.values())


def test_all_claims_hold(tmp_path):
    found = hold(CLAIMS, published(tmp_path))
    assert [verdict.holds for verdict in found] == [True] * 5
    assert found[2].numbers == "SVR@10 0.0100 against 0.4000, 97.5% lower"
    assert found[4].numbers == "5.00 titles without, 8.00 at the start, 10.00 with it"


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (arm("relevance-rl", svr_at_10=0.3), 0),  # equal is not raised
        (arm("sft", svr_at_10=0.1), 1),
        (arm("safe-gdpo", svr_at_10=0.0141, list_length=10.0), 2),  # 96.475% below
        (arm("safe-gdpo", svr_at_10=0.01, list_length=10.0, recall_at_10=0.99), 3),
        (arm("safe-gdpo", svr_at_10=0.01, list_length=10.0, ndcg_at_10=0.99), 3),
        (arm("safe-gdpo-no-count", list_length=8.0), 4),
        (arm("safe-gdpo", svr_at_10=0.01, list_length=4.0), 4),
    ],
)
def test_each_claim_can_fail(tmp_path, change, failing):
    found = hold(CLAIMS, published(tmp_path, change=change))
    assert [verdict.holds for verdict in found] == [place != failing for place in range(5)]


def test_a_claim_about_an_arm_without_numbers_is_open(tmp_path):
    results = results_of(tmp_path, arm("sft", svr_at_10=0.3), arm("safe-sft", svr_at_10=math.nan))
    found = hold(CLAIMS, results)
    assert [verdict.holds for verdict in found] == [None] * 5
    assert found[0].numbers == "relevance-only RL was not scored"
    assert found[1].numbers == "Safe-SFT has no SVR@10"


def test_verdicts_count_the_seeds_that_agree(tmp_path):
    results = results_of(
        tmp_path,
        arm("sft", seeds=(0, 1, 2), svr_at_10=(0.2, 0.2, 0.2)),
        arm("relevance-rl", seeds=(0, 1, 2), svr_at_10=(0.1, 0.4, 0.4)),
        arm("safe-sft", seeds=(0, 1), svr_at_10=(0.1, 0.1)),
    )
    first, second = hold(CLAIMS, results)[:2]
    assert first.holds
    assert first.numbers == "SVR@10 0.3000 after, 0.2000 before; holds in 2 of 3 seeds"
    assert second.numbers.endswith("holds in 2 of 2 seeds")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_tables_fit_eighty_columns(tmp_path, seeds):
    interval = Interval(mean=1.0, low=0.98765, high=1.01234, count=400)
    comparison = Comparison(
        difference=-0.54321, low=-1, high=0, p_value=0.01, p_holm=0.02, systems=5, count=400
    )
    arms = []
    for name in TITLES:
        plain = arm(name, seeds=seeds, ndcg_at_10=0.12345)
        plain.values.update(
            {f"{metric}/{part}": plain.values[metric] for metric in ("recall@10", "svr@10")
             for part in ("hinted", "said outright")}
        )  # fmt: skip
        filled = dataclasses.replace(
            plain,
            intervals=dict.fromkeys(plain.values, interval),
            against=dict.fromkeys(plain.values, comparison) if name != "sft" else {},
        )
        arms.append(filled)
    console = Console(file=io.StringIO(), width=80)
    results = dataclasses.replace(
        results_of(tmp_path, *arms),
        baseline="sft",
        groups={"disclosure": ("hinted", "said outright")},
    )
    print_table(results, console)
    assert console.file.getvalue().count("0.1235") == len(TITLES)
    print_verdicts(hold(CLAIMS, results), console)
    text = console.file.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for found in arms:
        assert found.title.split()[0] in text
    assert "0.988-1.012" in text
    assert ("±0.000" in text) == (len(seeds) > 1)
    assert "difference from SFT without safety" in text
    assert text.count("-0.5432") == text.count("p 0.0200 *") == 5 * 5
    flowed = " ".join(text.split())
    assert "Holm-corrected per metric over 5 comparisons; * below 0.05" in flowed
    assert "1. Relevance-only RL raises SVR@10 above its SFT start: fails" in text
    assert "4. Safe-GDPO's Recall@10 and NDCG@10 are no lower than Safe-SFT's: holds" in text
