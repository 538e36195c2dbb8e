import io

import pytest
from rich.console import Console

from experiments.common.scores.claims import Verdict
from experiments.common.scores.comparisons import Comparison
from experiments.common.scores.intervals import Interval
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import ArmResult, Results
from experiments.common.scores.results_tables import print_table, print_verdicts

METRICS = (
    Metric("right@5", "Right@5", "more", 4, "read@5", "@5", short="Right", parts=("kind",)),
    Metric("read@5", "read titles", panel="@5", short="read"),
    Metric("words", "words", panel="lengths", digits=1),
)


def results_of(seeds=(0,), labels=("easy", "hard")):
    columns = ("right@5", "read@5", *(f"{n}/{k}" for n in ("right@5", "read@5") for k in labels))
    values = {**dict.fromkeys(columns, (0.25,) * len(seeds)), "words": (12.34,) * len(seeds)}
    interval = Interval(mean=0.25, low=0.11111, high=0.33333, count=9)
    gap = Comparison(-0.54321, low=-1, high=0, p_value=0.01, p_holm=0.02, systems=1, count=9)
    arms = [
        ArmResult(name, f"the {name} arm", seeds, values, dict.fromkeys(values, interval), against)
        for name, against in (("plain", {}), ("guided", dict.fromkeys(values, gap)))
    ]
    groups = {"kind": labels}
    return Results("run", tuple(arms), METRICS, {}, groups, 9, 9, "plain", bootstrap=50)


def printed(show, *values, width=80):
    console = Console(file=io.StringIO(), width=width)
    show(*values, console)
    return console.file.getvalue()


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_every_panel_and_part_has_its_table(seeds):
    text = printed(print_table, results_of(seeds))
    assert "95% intervals from 50 bootstrap resamples of 9 items" in text
    assert max(map(len, text.splitlines())) <= 80
    titles = [line.strip() for line in text.splitlines()]
    assert [titles.count(title) for title in ("@5", "lengths", "by kind")] == [1, 1, 1]
    assert "@5, difference from the plain arm" in " ".join(text.split())
    # Both arms in the main table and in two parts each, what stands beside in the same cells.
    assert text.count("0.111-0.333") == text.count("read 0.250") == 6
    assert text.count("-0.5432") == text.count("p 0.0200 *") == 1
    assert text.count("12.3") == 2
    assert ("±0.000" in text) == (len(seeds) > 1)
    assert "* below 0.05" in text


def test_a_group_of_many_labels_is_left_to_the_page():
    assert "by kind" not in printed(print_table, results_of(labels=tuple("abcdefg")))


def test_verdicts():
    verdicts = [Verdict("a [b] c", True, "1 [x]"), Verdict("d", False, "2"), Verdict("e", None, "")]
    lines = printed(print_verdicts, verdicts).splitlines()
    assert lines[:2] == ["1. a [b] c: holds", "   1 [x]"]
    assert lines[2::2] == ["2. d: fails", "3. e: not run"]
