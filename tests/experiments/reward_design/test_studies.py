"""What the studies claim, at a small size and with margins far from noise; the page; the words."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments.common.report.charts import Style, Trail, trail_chart
from experiments.reward_design import __main__ as command_line
from experiments.reward_design import learning
from experiments.reward_design.__main__ import main
from experiments.reward_design.configs import STUDIES
from experiments.reward_design.fronts import dominated_area
from experiments.reward_design.results import Cell
from experiments.reward_design.studies import run_study
from gdpo_jax.errors import UserError

# Counts of six rewards take ten seconds, and tests/advantages has them.
SMALL_COUNT = dataclasses.replace(
    STUDIES["distinct"], group_sizes=(2, 4, 7), reward_counts=(1, 2, 3)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`all` as a user types it, with few seeds."""
    out = tmp_path_factory.mktemp("runs") / "reward_design"
    with pytest.MonkeyPatch.context() as patch:
        # With so few learners and steps they cost more to compile than to run.
        patch.setattr(learning, "COMPILER_LEVEL", 0)
        patch.setitem(STUDIES, "distinct", SMALL_COUNT)
        assert main(["all", "--seeds", "4", "--steps", "160", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def results(folder):
    return json.loads((folder / "results.json").read_text())


def rows(results, study, table=0):
    return results[study]["tables"][table]["rows"]


def by_seed(results, study, case, estimator, column):
    [row] = [row for row in rows(results, study) if row[:2] == [case, estimator]]
    columns = results[study]["tables"][0]["columns"]
    return np.array(row[columns.index(column)]["by_seed"])


def test_every_claim_holds(results):
    claims = {(name, c["text"]): c["holds"] for name, r in results.items() for c in r["claims"]}
    assert set(results) == set(STUDIES)
    assert len(claims) == 12
    assert [claim for claim, holds in claims.items() if holds is not True] == []


def test_grpo_drowns_the_quiet_reward_and_gdpo_does_not(results):
    for case in ("loud x10", "loud x100"):
        drowned = by_seed(results, "collapse", case, "grpo", "quiet")
        heard = by_seed(results, "collapse", case, "gdpo", "quiet")
        assert len(heard) == 4
        assert drowned.max() < 0.6
        assert heard.min() > 0.95
    calm = by_seed(results, "collapse", "loud x1", "grpo", "quiet")
    assert calm.min() > 0.85
    # Normalised one by one, a reward a hundred times as loud is the same reward.
    for column in ("loud", "quiet"):
        np.testing.assert_allclose(
            by_seed(results, "collapse", "loud x100", "gdpo", column),
            by_seed(results, "collapse", "loud x1", "gdpo", column),
            atol=0.02,
        )


def test_cancellation_moves_nothing_and_the_ways_out_do(results):
    for estimator in ("grpo", "gdpo"):
        np.testing.assert_array_equal(
            by_seed(results, "cancel", "weights 1, 1", estimator, "change"), 0
        )
        for way_out in ("weights 1, 0.5", "r2 conditioned on r1"):
            assert by_seed(results, "cancel", way_out, estimator, "change").min() > 0.01
            assert by_seed(results, "cancel", way_out, estimator, "r1").min() > 0.95


def test_a_condition_keeps_the_hard_reward(results):
    for estimator in ("grpo", "gdpo"):
        heavy = by_seed(results, "conditioning", f"{estimator}, plain", "1", "correct @160")
        gated = by_seed(results, "conditioning", f"{estimator}, gated", "1", "correct @160")
        assert heavy.max() + 0.15 < gated.min()


def test_a_sweep_of_gdpo_reaches_both_ends(results):
    _, fronts, _, loud_fronts = results["pareto"]["tables"]
    ends = {}
    for table in (fronts, loud_fronts):
        for estimator in ("grpo", "gdpo"):
            helped = [row[2]["mean"] for row in table["rows"] if row[0] == estimator]
            assert helped == sorted(helped, reverse=True)
            ends[table["title"][:8], estimator] = helped[0]
    assert ends["safe x10", "gdpo"] > 0.97
    assert ends["safe x1:", "grpo"] > 0.97
    assert ends["safe x10", "grpo"] < 0.87


def test_counts_are_those_of_the_table(results):
    columns = {row[0]: row[1:] for row in rows(results, "distinct")}
    assert columns == {
        "grpo": [2, 7, 22],
        "dr_grpo (grpo without sd)": [3, 10, 28],
        "gdpo before eq. 6": [3, 14, 59],
    }
    by_rewards = {row[0]: row[1:] for row in rows(results, "distinct", 1)}
    assert by_rewards["gdpo before eq. 6"] == [4, 14, 45]
    assert by_rewards["grpo"] == [4, 7, 14]


def test_a_wrong_count_is_named():
    wrong = dataclasses.replace(
        SMALL_COUNT, group_sizes=(2,), reward_counts=(1,), expected_by_group={"grpo": {2: 5}}
    )
    claims = run_study(wrong).claims
    assert [claim.holds for claim in claims] == [False, True]
    assert "grpo at 2: 2, expected 5" in claims[0].numbers


def test_only_estimators_of_single_groups_are_counted():
    names = ("rloo", "saw", "reinforce_pp", "papo")
    study = dataclasses.replace(
        SMALL_COUNT, estimators=names, group_sizes=(3,), reward_counts=(2,), group_size=3
    )
    found = run_study(study)
    assert [row[:2] for row in found.tables[0].rows] == [("rloo", 6)]
    assert "beyond one group: saw, reinforce_pp, papo" in found.tables[0].title
    assert [claim.holds for claim in found.claims] == [None, None]


def test_the_page_is_whole_and_fetches_nothing(folder):
    page = (folder / "report.html").read_text()
    assert re.findall(r'(?:src|href|action)="(?!#|data:,)[^"]*"', page) == []
    assert re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<iframe|<object", page) == []
    for study in STUDIES.values():
        assert f">{study.title}</h2>" in page
        assert f"python -m experiments.reward_design run {study.name}" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower().split()
    assert 'd="Mnan' not in page
    # Five figures of diagnostics and at least one of its own for each study that trains.
    assert page.count("<figure") == 2 + (6 + 5) + (3 + 5) + (4 + 5) + 2 * (1 + 5)

    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.ids = [], []

        def handle_starttag(self, tag, attrs):
            self.ids += [value for name, value in attrs if name == "id"]
            if tag not in ("meta", "link", "br"):
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open.pop() == tag, self.getpos()

    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert page.count("<h2 id=") == len(STUDIES)


def test_results_tell_seeds_and_spread(results):
    for name, found in results.items():
        assert found["seeds"] == ([] if name == "distinct" else [0, 1, 2, 3])
    cell = rows(results, "collapse")[0][2]
    np.testing.assert_allclose(cell["mean"], np.mean(cell["by_seed"]))
    np.testing.assert_allclose(cell["standard_deviation"], np.std(cell["by_seed"], ddof=1))
    assert str(Cell((1.0, 2.0, 3.0))) == "2.000 ±1.000"
    assert str(Cell((1.0,))) == "1.000"


def test_the_area_under_a_front():
    # Two rectangles: 0.9 x 0.2, and above it 0.5 x (0.8 - 0.2); the third point is inside.
    assert dominated_area(np.array([[0.5, 0.8], [0.9, 0.2], [0.4, 0.3]])) == pytest.approx(0.48)
    assert dominated_area(np.array([[0.5, 0.5]])) == 0.25


def test_a_trail_keeps_its_own_order():
    points = [(1.0, 0.0, "last"), (0.0, 1.0, "w 1")]
    trail = Trail("k", "A<", Style(0, variant=1), points)
    chart = trail_chart("t", [trail], x_label="x", y_label="y")
    [path] = re.findall(
        r'<g class="s0 d2" data-series="k"><path class="line" d="M([\d.]+) [\d.]+L([\d.]+) ', chart
    )
    assert float(path[0]) > float(path[1])
    assert "A&lt;, w 1: x 0, y 1" in chart
    assert trail_chart("t", [Trail("k", "A", Style(0), [])], x_label="x", y_label="y") == ""


def test_no_seeds_is_an_error():
    with pytest.raises(UserError, match="seeds=0 must be at least 1"):
        run_study(dataclasses.replace(STUDIES["cancel"], seeds=0))


def test_help_and_names(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("run", "all", "estimators"))
    assert main(["estimators"]) == 0
    assert "gdpo  GDPO (arXiv 2601.05242, eq. 4-7)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--estimators", "gpdo"], "unknown estimator 'gpdo'; legal: gdpo, grpo"),
        (["--estimators", "absent.py:f"], "there is no file absent.py"),
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--steps", "-3"], "steps=-3 must be positive"),
    ],
)
@pytest.mark.parametrize("command", [["run", "cancel"], ["all"]])
def test_mistakes_are_one_message_before_anything_runs(
    command, options, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "run_study", lambda study: pytest.fail("it ran"))
    assert main([*command, *options]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_study_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "colapse"])
    assert stopped.value.code == 2
    assert "distinct" in capsys.readouterr().err


def test_the_readme_s_own_estimator_runs(tmp_path, monkeypatch, capsys):
    readme = Path(command_line.__file__).with_name("README.md").read_text(encoding="utf-8")
    [snippet] = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len([line for line in snippet.splitlines() if line]) <= 10
    [command] = re.findall(r"^python -m experiments\.reward_design (.*mine\.py:.*)$", readme, re.M)
    (tmp_path / "mine.py").write_text(snippet)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning, "COMPILER_LEVEL", 0)
    options = ["--steps", "3", "--seeds", "2", "--policy", "network", "--out", "out"]
    assert main([*command.split(), *options]) == 0
    shown = capsys.readouterr().out
    assert "my_estimator" in shown
    saved = json.loads(Path("out/results.json").read_text())
    assert "my_estimator" in {row[1] for row in saved["collapse"]["tables"][0]["rows"]}
    assert Path("out/report.html").exists()
