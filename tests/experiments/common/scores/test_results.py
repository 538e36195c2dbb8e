"""Results of a run folder that was written by hand: a quiz with right answers and their length."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments.common.scores.claims import Verdict
from experiments.common.scores.metric import Metric
from experiments.common.scores.results import collect, read_scores, seed_folders
from experiments.common.scores.results_file import write_results
from experiments.common.scores.summaries import summarize, write_json
from experiments.common.scores.table import Table
from gdpo_jax.errors import UserError

ARMS = (("plain", "plain answers"), ("guided", "guided answers"), ("tuned", "tuned"))
METRICS = (
    Metric("right", "right answers", "more", panel="answers", beside="read", parts=("kind",)),
    Metric("read", "read", panel="answers"),
    Metric("words", "words", "less", panel="length"),
    Metric("never", "never measured", panel="length"),
)


def score(folder, right, *, words=(1.0, 2.0), ids="ab"):
    table = Table(
        ids=tuple(ids),
        values={
            "right": np.array(right),
            "read": np.array([1.0, 0.5]),
            "words": np.array(words),
        },
        groups={"kind": ("easy", "hard")},
        clusters=tuple(ids),
    )
    write_json(folder / "scores.json", summarize(table, samples=2))


def collected(folder, **options):
    return collect(folder, arms=ARMS, metrics=METRICS, **{"bootstrap": 100, **options})


def test_every_seed_is_read_in_the_order_of_arms(tmp_path):
    score(tmp_path / "seed-0" / "plain", [0.5, 0.0])
    score(tmp_path / "seed-10" / "plain", [1.0, 1.0])
    score(tmp_path / "seed-2" / "plain", [0.0, 0.0])
    score(tmp_path / "seed-0" / "guided", [1.0, 0.0])
    (tmp_path / "seed-x").mkdir()
    results = collected(tmp_path)
    assert [found.name for found in results.arms] == ["plain", "guided"]
    assert results.seeds == (0, 2, 10)
    plain = results.arm("plain")
    assert plain.title == "plain answers"
    assert plain.seeds == (0, 2, 10)
    assert plain.values["right"] == (0.25, 0.0, 1.0)
    assert plain.values["right/easy"] == (0.5, 0.0, 1.0)
    assert plain.values["read/hard"] == (0.5, 0.5, 0.5)
    assert "words/easy" not in plain.values
    assert plain.mean("right") == pytest.approx(1.25 / 3)
    # Deviations -5/12, -2/12 ... of 0.25, 0, 1: squares add to 0.5417, halved 0.2708, root 0.5204.
    assert plain.spread("right") == pytest.approx(0.520416, abs=1e-6)
    assert math.isnan(results.arm("guided").spread("right"))
    assert results.arm("tuned") is None
    assert results.titles["tuned"] == "tuned"


def test_a_metric_that_does_not_apply_is_nan_and_left_out_of_the_mean(tmp_path):
    score(tmp_path / "seed-0" / "plain", [math.nan, math.nan])
    score(tmp_path / "seed-1" / "plain", [1.0, 0.0])
    plain = collected(tmp_path).arm("plain")
    assert math.isnan(plain.values["right"][0])
    assert plain.mean("right") == 0.5
    assert math.isnan(plain.spread("right"))
    assert math.isnan(plain.mean("never"))


def test_panels_leave_out_what_no_arm_has_and_what_stands_beside(tmp_path):
    score(tmp_path / "seed-0" / "plain", [1.0, 0.0])
    results = collected(tmp_path)
    shown = {panel: [m.name for m in found] for panel, found in results.panels.items()}
    assert shown == {"answers": ["right"], "length": ["words"]}
    assert results.metric("read").label == "read"
    with pytest.raises(UserError, match="no metric 'left'; legal: right, read, words, never"):
        results.metric("left")


def test_nothing_to_collect_is_one_clear_error(tmp_path):
    (tmp_path / "seed-0" / "plain").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no scored arm.*reproduce --run-dir"):
        collected(tmp_path)
    score(tmp_path / "seed-0" / "foreign", [1.0, 0.0])
    with pytest.raises(UserError, match="holds no scored arm"):
        read_scores(tmp_path, ["plain"])
    assert seed_folders(tmp_path / "absent") == []


def test_damaged_scores_name_the_place(tmp_path):
    path = tmp_path / "seed-0" / "plain" / "scores.json"
    score(path.parent, [1.0, 0.0])
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"scores\.json, line .* is truncated"):
        collected(tmp_path)
    path.write_text(json.dumps({"metrics": {}, "splits": {}}))
    with pytest.raises(UserError, match=r"scores\.json is no metrics file of this project"):
        collected(tmp_path)
    path.write_text(text)
    score(tmp_path / "seed-1" / "plain", [1.0, 0.0], ids="az")
    with pytest.raises(UserError, match="arm plain: seed 1 and seed 0 were scored on different it"):
        collected(tmp_path)


def test_arms_are_compared_with_the_baseline_in_pairs(tmp_path):
    """By hand: 0.5 and 1 for plain, 0 and 0 guided, 1 and 1 tuned."""
    score(tmp_path / "seed-0" / "plain", [0.5, 1.0])
    score(tmp_path / "seed-0" / "guided", [0.0, 0.0])
    score(tmp_path / "seed-0" / "tuned", [1.0, 1.0])
    score(tmp_path / "seed-1" / "guided", [1.0, 1.0])
    results = collected(tmp_path)
    assert results.baseline == "plain"
    assert results.arm("plain").against == {}
    guided = results.arm("guided")
    # Seed 1 has no partner in the baseline: seed 0 alone is compared, both make the mean.
    assert guided.mean("right") == guided.intervals["right"].mean == 0.5
    assert guided.against["right"].difference == -0.75
    assert guided.against["right"].count == guided.against["right"].systems == 2
    assert guided.against["right/easy"].difference == -0.5
    assert guided.against["right/easy"].count == 1
    assert results.arm("tuned").against["right"].difference == 0.25
    assert (results.items, results.clusters) == (2, 2)
    assert results.groups == {"kind": ("easy", "hard")}
    assert results.basis == "95% intervals from 100 bootstrap resamples of 2 items"
    assert results.test == (
        "p: two-sided paired bootstrap against plain answers, Holm-corrected per metric over "
        "2 comparisons"
    )
    named = collected(tmp_path, baseline="guided")
    assert named.arm("plain").against["right"].difference == 0.75
    assert named.arm("guided").against == {}
    with pytest.raises(UserError, match="no scored arm 'other'; legal: plain, guided, tuned"):
        collected(tmp_path, baseline="other")


def test_the_basis_tells_of_clusters_and_exact_statistics(tmp_path):
    score(tmp_path / "seed-0" / "plain", [1.0, 0.0])
    exact = (dataclasses.replace(METRICS[0], interval="wilson"), *METRICS[1:])
    results = collect(tmp_path, arms=ARMS, metrics=exact, bootstrap=9)
    assert results.basis.endswith("of 2 items, but Wilson's and exact p for right answers")
    assert results.arm("plain").intervals["right"].high == pytest.approx(0.905469, abs=1e-6)
    clustered = dataclasses.replace(results, clusters=1)
    assert clustered.basis.endswith("of 2 items in 1 clusters")


def test_arms_without_a_seed_in_common_are_not_compared(tmp_path):
    score(tmp_path / "seed-0" / "plain", [1.0, 0.0])
    score(tmp_path / "seed-1" / "guided", [1.0, 0.0])
    results = collected(tmp_path)
    assert [found.against for found in results.arms] == [{}, {}]
    assert results.test == ""


def test_results_as_json(tmp_path):
    score(tmp_path / "seed-0" / "plain", [math.nan, math.nan])
    score(tmp_path / "seed-0" / "guided", [0.0, 0.0], words=(2.0, 3.0))
    verdicts = [Verdict("guides make long answers", True, "2.50 against 1.50")]
    write_results(collected(tmp_path), tmp_path / "results.json", verdicts=verdicts)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert (stored["seeds"], stored["conversations"], stored["baseline"]) == ([0], 2, "plain")
    assert (stored["bootstrap"], stored["level"]) == (100, 0.95)
    nothing = stored["arms"]["plain"]["metrics"]["right"]
    assert (nothing["mean"], nothing["standard_deviation"], nothing["by_seed"]) == (
        None,
        None,
        [None],
    )
    entry = stored["arms"]["guided"]["metrics"]["right"]
    assert entry["interval"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "count": 2}
    words = stored["arms"]["guided"]["metrics"]["words"]["against_baseline"]
    assert words["difference"] == 1.0
    assert words["p_holm"] == words["p_value"]
    assert "against_baseline" not in stored["arms"]["plain"]["metrics"]["words"]
    assert stored["verdicts"] == [
        {"claim": "guides make long answers", "holds": True, "numbers": "2.50 against 1.50"}
    ]
