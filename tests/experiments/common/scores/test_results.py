import dataclasses
import io
import json
import math

import pytest
from rich.console import Console

from experiments.common.scores.intervals import Comparison, Interval
from experiments.common.scores.results import (
    ArmResult,
    Results,
    collect,
    read_scores,
    seed_folders,
    write_results,
)
from experiments.common.scores.results_tables import print_table, print_verdicts
from experiments.common.scores.verdicts import verdicts
from experiments.saferec.arms import ARM_NAMES, arm_named
from experiments.saferec.evaluation.scoring import score_texts, summarize, write_json
from experiments.saferec.evaluation.summaries import LIST_LABELS, METRIC_LABELS
from experiments.saferec.oracle.catalogue import Catalogue, film_oracle
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, listed, record

SAFE, GORY = ("Quiet Harbour", 2004), ("The Red Mill", 1999)
RECORDS = [
    record(SAFE, sample_id="a", said_outright=True),
    record(SAFE, sample_id="b", said_outright=False, prompt="other"),
]


METRICS = (*(f"{name}@{k}" for name in METRIC_LABELS for k in (5, 10)), *LIST_LABELS)
FAST = {"bootstrap": 100}


def score(folder, *lists):
    table = score_texts(
        [listed(*films) for films in lists],
        RECORDS,
        oracle=film_oracle(FILMS),
        catalogue=Catalogue.of_films(FILMS),
        ks=(5, 10),
    )
    write_json(folder / "scores.json", summarize(table, samples=2))


def arm(name, *, seeds=(0,), **metrics):
    """An arm whose metrics are given as one number or one per seed; the others are one."""
    values = {metric: (1.0,) * len(seeds) for metric in METRICS}
    for field, numbers in metrics.items():
        metric = field if field in METRICS else field.replace("_at_", "@")
        values[metric] = numbers if isinstance(numbers, tuple) else (numbers,) * len(seeds)
    return ArmResult(name=name, title=arm_named(name).title, seeds=seeds, values=values)


def results_of(tmp_path, *arms):
    return Results(source=str(tmp_path), arms=arms)


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


def test_collect_reads_every_seed_in_the_order_of_arms(tmp_path):
    score(tmp_path / "seed-0" / "sft", [SAFE, GORY], [SAFE])
    score(tmp_path / "seed-10" / "sft", [GORY], [GORY])
    score(tmp_path / "seed-2" / "sft", [SAFE], [SAFE])
    score(tmp_path / "seed-0" / "relevance-rl", [SAFE], [GORY])
    (tmp_path / "seed-x").mkdir()
    results = collect(tmp_path, **FAST)
    assert [found.name for found in results.arms] == ["sft", "relevance-rl"]
    assert results.seeds == (0, 2, 10)
    sft = results.arm("sft")
    assert sft.seeds == (0, 2, 10)
    assert sft.values["svr@10"] == (0.25, 0.0, 1.0)
    assert sft.values["recall@10"] == (1.0, 1.0, 0.0)
    assert sft.values["svr@10/said outright"] == (0.5, 0.0, 1.0)
    assert sft.values["svr@10/hinted"] == (0.0, 0.0, 1.0)
    assert sft.values["list_length"] == (1.5, 1.0, 1.0)
    assert sft.values["catalogue"] == (1.0, 1.0, 1.0)
    assert sft.mean("svr@10") == pytest.approx(1.25 / 3)
    # Deviations -5/12, -2/12 ... of 0.25, 0, 1: squares add to 0.5417, halved 0.2708, root 0.5204.
    assert sft.spread("svr@10") == pytest.approx(0.520416, abs=1e-6)
    assert math.isnan(results.arm("relevance-rl").spread("svr@10"))
    assert results.arm("safe-sft") is None


def test_metrics_that_do_not_apply_are_nan_and_left_out_of_the_mean(tmp_path):
    score(tmp_path / "seed-0" / "sft", [], [])
    score(tmp_path / "seed-1" / "sft", [GORY], [SAFE])
    sft = collect(tmp_path, **FAST).arm("sft")
    assert math.isnan(sft.values["svr@10"][0])
    assert sft.mean("svr@10") == 0.5
    assert math.isnan(sft.spread("svr@10"))


def test_nothing_to_collect_is_one_clear_error(tmp_path):
    (tmp_path / "seed-0" / "sft").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no scored arm.*reproduce --run-dir"):
        collect(tmp_path, **FAST)
    with pytest.raises(UserError, match="holds no scored arm"):
        read_scores(tmp_path / "absent")
    assert seed_folders(tmp_path / "absent") == []


def test_damaged_scores_name_the_place(tmp_path):
    path = tmp_path / "seed-0" / "sft" / "scores.json"
    score(path.parent, [SAFE], [GORY])
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"scores\.json, line .* is truncated"):
        collect(tmp_path, **FAST)
    path.write_text(json.dumps({"metrics": {}, "splits": {}}))
    with pytest.raises(UserError, match=r"scores\.json is no metrics file of this project"):
        collect(tmp_path, **FAST)
    path.write_text(text)
    other = json.loads(text)
    other["conversations"]["sample_id"] = ["a", "z"]
    write_json(tmp_path / "seed-1" / "sft" / "scores.json", other)
    with pytest.raises(UserError, match="arm sft: seed 1 and seed 0 were scored on different"):
        collect(tmp_path, **FAST)


def test_arms_are_compared_with_the_baseline_in_pairs(tmp_path):
    """By hand: SVR@10 0.5 and 1 for SFT, 0 and 0 for Safe-SFT, 1 and 1 for relevance-only RL."""
    for arm_name, *lists in (
        ("sft", [SAFE, GORY], [GORY]),
        ("relevance-rl", [GORY], [GORY]),
        ("safe-sft", [SAFE], [SAFE]),
    ):
        score(tmp_path / "seed-0" / arm_name, *lists)
    score(tmp_path / "seed-1" / "safe-sft", [GORY], [GORY])
    results = collect(tmp_path, **FAST)
    assert results.baseline == "sft"
    assert results.arm("sft").against == {}
    safe = results.arm("safe-sft")
    # Seed 1 has no partner in SFT: seed 0 alone is compared, both seeds make the mean.
    assert safe.mean("svr@10") == 0.5
    assert safe.against["svr@10"].difference == -0.75
    assert safe.against["svr@10"].count == safe.against["svr@10"].systems == 2
    assert safe.against["svr@10/said outright"].difference == -0.5
    assert safe.against["svr@10/said outright"].count == 1
    assert results.arm("relevance-rl").against["svr@10"].difference == 0.25
    assert safe.intervals["svr@10"].mean == 0.5
    assert results.conversations == 2
    assert results.groups["disclosure"] == ("hinted", "said outright")
    assert results.basis == "95% intervals from 100 bootstrap resamples of 2 conversations"
    assert results.test == (
        "p: two-sided paired bootstrap against SFT without safety, Holm-corrected per metric over "
        "2 comparisons"
    )
    named = collect(tmp_path, baseline="safe-sft", **FAST)
    assert named.arm("sft").against["svr@10"].difference == 0.75
    assert named.arm("safe-sft").against == {}
    with pytest.raises(UserError, match="no scored arm 'safe-gdpo'; legal: sft, relevance-rl, saf"):
        collect(tmp_path, baseline="safe-gdpo", **FAST)


def test_arms_without_a_seed_in_common_are_not_compared(tmp_path):
    score(tmp_path / "seed-0" / "sft", [SAFE], [GORY])
    score(tmp_path / "seed-1" / "safe-sft", [SAFE], [SAFE])
    results = collect(tmp_path, **FAST)
    assert [found.against for found in results.arms] == [{}, {}]
    assert results.test == ""


def test_all_claims_hold(tmp_path):
    found = verdicts(published(tmp_path))
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
    found = verdicts(published(tmp_path, change=change))
    assert [verdict.holds for verdict in found] == [place != failing for place in range(5)]


def test_a_claim_about_an_arm_without_numbers_is_open(tmp_path):
    results = results_of(tmp_path, arm("sft", svr_at_10=0.3), arm("safe-sft", svr_at_10=math.nan))
    found = verdicts(results)
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
    first, second = verdicts(results)[:2]
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
    for name in ARM_NAMES:
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
    assert console.file.getvalue().count("0.1235") == len(ARM_NAMES)
    print_verdicts(results, console)
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


def test_results_as_json(tmp_path):
    results = published(tmp_path, change=arm("sft", svr_at_10=math.nan))
    write_results(results, tmp_path / "results.json", verdicts=verdicts(results))
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["seeds"] == [0]
    assert stored["arms"]["sft"]["metrics"]["svr@10"] == {
        "mean": None,
        "standard_deviation": None,
        "by_seed": [None],
    }
    assert stored["arms"]["safe-gdpo"]["metrics"]["list_length"]["mean"] == 10.0
    assert [verdict["holds"] for verdict in stored["verdicts"]] == [None, None, True, True, True]


def test_results_as_json_have_intervals_and_significance(tmp_path):
    score(tmp_path / "seed-0" / "sft", [SAFE, GORY], [GORY])
    score(tmp_path / "seed-0" / "safe-sft", [SAFE], [SAFE])
    write_results(collect(tmp_path, **FAST), tmp_path / "results.json")
    stored = json.loads((tmp_path / "results.json").read_text())
    assert (stored["baseline"], stored["bootstrap"], stored["level"]) == ("sft", 100, 0.95)
    entry = stored["arms"]["safe-sft"]["metrics"]["svr@10"]
    assert entry["interval"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "count": 2}
    assert entry["against_baseline"]["difference"] == -0.75
    assert entry["against_baseline"]["p_holm"] == entry["against_baseline"]["p_value"]
    assert "against_baseline" not in stored["arms"]["sft"]["metrics"]["svr@10"]
