import io
import json
import math

import pytest
from rich.console import Console

from experiments.saferec.arms import ARM_NAMES
from experiments.saferec.catalogue import Catalogue, film_oracle
from experiments.saferec.results import (
    METRICS,
    ArmResult,
    Results,
    collect,
    print_table,
    print_verdicts,
    read_scores,
    seed_folders,
    verdicts,
    write_results,
)
from experiments.saferec.scoring import score_texts, summarize, write_json
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import FILMS, listed, record

SAFE, GORY = ("Quiet Harbour", 2004), ("The Red Mill", 1999)
RECORDS = [
    record(SAFE, sample_id="a", said_outright=True),
    record(SAFE, sample_id="b", said_outright=False, prompt="other"),
]


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
    return ArmResult(name=name, seeds=seeds, values=values)


def results_of(tmp_path, *arms):
    return Results(run_dir=tmp_path, arms=arms)


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
    results = collect(tmp_path)
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
    sft = collect(tmp_path).arm("sft")
    assert math.isnan(sft.values["svr@10"][0])
    assert sft.mean("svr@10") == 0.5
    assert math.isnan(sft.spread("svr@10"))


def test_nothing_to_collect_is_one_clear_error(tmp_path):
    (tmp_path / "seed-0" / "sft").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no scored arm.*reproduce --run-dir"):
        collect(tmp_path)
    with pytest.raises(UserError, match="holds no scored arm"):
        read_scores(tmp_path / "absent")
    assert seed_folders(tmp_path / "absent") == []


def test_damaged_scores_name_the_place(tmp_path):
    path = tmp_path / "seed-0" / "sft" / "scores.json"
    score(path.parent, [SAFE], [GORY])
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"scores\.json"):
        collect(tmp_path)
    path.write_text(json.dumps({"metrics": {}, "splits": {}}))
    with pytest.raises(UserError, match=r"seed 0, arm sft: scores\.json has no recall@5"):
        collect(tmp_path)


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
def test_the_table_fits_eighty_columns(tmp_path, seeds):
    arms = [arm(name, seeds=seeds, sdcg_at_10=1.2345) for name in ARM_NAMES]
    console = Console(file=io.StringIO(), width=80)
    results = results_of(tmp_path, *arms)
    print_table(results, console)
    print_verdicts(results, console)
    text = console.file.getvalue()
    assert "…" not in text
    for found in arms:
        assert found.title.split()[0] in text
    assert text.count("1.2345") == len(ARM_NAMES)
    assert ("±0.0000" in text) == (len(seeds) > 1)
    assert "1. Relevance-only RL raises SVR@10 above its SFT start: fails" in text
    assert "4. Safe-GDPO's Recall@10 and NDCG@10 are no lower than Safe-SFT's: holds" in text


def test_results_as_json(tmp_path):
    results = published(tmp_path, change=arm("sft", svr_at_10=math.nan))
    write_results(results, tmp_path / "results.json")
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["seeds"] == [0]
    assert stored["arms"]["sft"]["metrics"]["svr@10"] == {
        "mean": None,
        "standard_deviation": None,
        "by_seed": [None],
    }
    assert stored["arms"]["safe-gdpo"]["metrics"]["list_length"]["mean"] == 10.0
    assert [verdict["holds"] for verdict in stored["verdicts"]] == [None, None, True, True, True]
