"""Agreement by hand, at the edges, and on the published labels of people."""

import math

import numpy as np
import pytest

from experiments.common.files.sheets import read_sheet
from experiments.common.judges.agreement import agreement
from experiments.common.judges.verdict import Verdict, unread
from gdpo_jax.errors import UserError


def test_by_hand():
    # Cohen's textbook case: of 50, both say yes 20 times, both no 15, yes-no 5 and no-yes 10.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    result = agreement([Verdict(label) for label in first], second, labels=("yes", "no"))
    np.testing.assert_array_equal(result.confusion, [[20, 5], [10, 15]])
    assert result.accuracy == 0.7
    assert result.kappa == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    # (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2/4)) / (n + z^2) with k = 35, n = 50, z = 1.96
    assert result.interval == pytest.approx((0.562496, 0.808964), abs=2e-6)


def test_unread_verdicts_are_counted_apart():
    result = agreement([Verdict(0), unread("?"), Verdict(2)], [0, 2, 0], labels=(0, 1, 2))
    assert (result.cases, result.unread, result.accuracy) == (2, 1, 0.5)
    assert result.confusion.sum() == 2


def test_edges():
    one = agreement([1, 1], [1, 1], labels=(0, 1))
    assert one.accuracy == 1.0 and math.isnan(one.kappa)
    none = agreement([], [], labels=(0, 1))
    assert math.isnan(none.accuracy) and math.isnan(none.kappa) and math.isnan(none.interval[0])
    assert agreement([0, 1], [1, 0], labels=(0, 1)).kappa == -1.0
    low, high = agreement([0] * 10, [1] * 10, labels=(0, 1)).interval
    assert low == 0.0 and high == pytest.approx(0.27753, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([0], [0, 1]), {"labels": (0, 1)}, "1 verdicts and 2"),
        (([0], [2]), {"labels": (0, 1)}, r"case 0: label 2 is none of \[0, 1\]"),
        (([0], [None]), {"labels": (0, 1)}, "case 0: label None is none"),
        (([0], [0]), {"labels": (0,)}, "give at least two"),
        (([0], [0]), {"labels": (0, 1, 1)}, "each once"),
        (([0], [0]), {"labels": (0, 1), "level": 1.0}, "level=1.0"),
    ],
)
def test_mistakes(arguments, options, message):
    with pytest.raises(UserError, match=message):
        agreement(*arguments, **options)


@pytest.mark.parametrize(
    ("first", "second", "accuracy", "kappa"),
    [
        ("Model Eval Rating", "Human 1 Eval Rating", 0.88, 0.771),
        ("Model Eval Rating", "Human 2 Eval Rating", 0.92, 0.847),
        ("Human 1 Eval Rating", "Human 2 Eval Rating", 0.92, 0.851),
    ],
)
def test_published_ratings(reference_file, first, second, accuracy, kappa):
    rows = read_sheet(reference_file("curate/judge_human_labels_dev.csv"))
    given = ([int(row[name]) for row in rows] for name in (first, second))
    result = agreement(*given, labels=(0, 1, 2))
    assert (result.cases, result.accuracy) == (50, accuracy)
    assert result.kappa == pytest.approx(kappa, abs=5e-4)
