"""The commands as a user types them: one clear error each, and the whole pipeline at smoke size."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments.common.runs.folder import open_workspace
from experiments.saferec.__main__ import EXPERIMENT, main
from experiments.saferec.data.store import write_dataset
from experiments.saferec.embedded.conversations import generate_conversations
from experiments.saferec.oracle.table import film_table
from experiments.saferec.presets import PRESETS
from gdpo_jax.training import read_metrics
from tests.experiments.saferec.run_folder import SECTIONS, write_run

ROOT = Path(__file__).parents[3]
SIZES = {"train": 480, "validation": 40, "test": 80}
IN_ONE = """
import json, sys
from experiments.saferec.__main__ import main
sys.exit(max(main(arguments) for arguments in json.loads(sys.argv[1])))
"""


def run(*arguments: str, then: Sequence[str] = ()) -> subprocess.CompletedProcess:
    """One command in a fresh Python with one device, and another one in the same, if given."""
    program = ["-m", "experiments.saferec", *arguments]
    if then:
        program = ["-c", IN_ONE, json.dumps([arguments, then])]
    done = subprocess.run(
        [sys.executable, *program],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_help_lists_every_stage(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for command in ("data", "sft", "rl", "evaluate", "reproduce", "report"):
        assert command in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["rl", "--preset", "maxi"],
        ["sft", "--arm", "safe-gdpo"],
        ["rl", "--seed", "first"],
        ["retrain"],
    ],
)
def test_wrong_options_are_refused_before_anything_starts(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--seeds", "--bootstrap"])
def test_none_at_all_is_an_error(option, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", option, "0"]) == 2
    assert f"{option} must be at least 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_report_of_nothing_is_an_error(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error.replace("\n", "") and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, invented_films) -> Path:
    """A whole run, in a folder that has its data set already: a tenth of the embedded one."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    table = film_table(invented_films)
    records = {
        split: list(generate_conversations(table, split=split, count=count, seed=0))
        for split, count in SIZES.items()
    }
    write_dataset(folder / "data", table, records, counts={})
    done = run("reproduce", "--preset", "smoke", "--run-dir", str(folder), "--bootstrap", "200")
    assert "Safe-GDPO" in done.stdout
    return folder


@pytest.mark.slow
def test_reproduce_leaves_scores_of_all_arms_and_a_report(finished):
    for arm in (arm.name for arm in EXPERIMENT.compared):
        scores = json.loads((finished / "seed-0" / arm / "scores.json").read_text())
        assert scores["num_conversations"] == SIZES["test"]
        outputs = (finished / "seed-0" / arm / "outputs.jsonl").read_text().splitlines()
        assert len(outputs) == SIZES["test"]
    assert (finished / "results.json").is_file()
    page = (finished / "report.html").read_text()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert (finished / "seed-0" / "safe-gdpo" / "samples.jsonl").is_file()


@pytest.mark.slow
def test_the_report_of_a_run_opens_in_a_browser(finished, open_page):
    page = open_page(finished / "report.html")
    assert page.messages == []
    assert page.requests == [(finished / "report.html").as_uri()]
    seconds = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    print(f"report of a run loaded in {seconds:.2f} s")
    sections = set(page.locator("main > section h2").all_inner_texts())
    # A smoke run's policy may name no known film, and then nothing was violated.
    assert set(SECTIONS) - sections <= {"Trade-off", "Sensitivities"}


@pytest.mark.slow
def test_a_finished_arm_is_loaded_and_not_trained_again(finished, capsys):
    files = [finished / "seed-0" / "safe-gdpo" / name for name in ("metrics.jsonl", "scores.json")]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    arguments = ["rl", "--arm", "safe-gdpo", "--preset", "smoke", "--run-dir", str(finished)]
    assert main(arguments) == 0
    assert "seed 0, Safe-GDPO: scored before" in capsys.readouterr().out
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before


@pytest.mark.slow
@pytest.mark.parametrize("other", [["mini"], ["smoke", "--level", "sequence"]])
def test_a_run_folder_of_another_preset_is_refused_and_kept(finished, capsys, other):
    before = (finished / "preset.json").read_text()
    assert main(["rl", "--preset", *other, "--run-dir", str(finished)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "made with another preset" in error and "Traceback" not in error
    assert (finished / "preset.json").read_text() == before


@pytest.mark.slow
def test_outputs_of_an_arm_score_the_same_through_evaluate(finished, tmp_path):
    outputs = finished / "seed-0" / "safe-gdpo" / "outputs.jsonl"
    arguments = ["evaluate", "--outputs", str(outputs), "--data-dir", str(finished / "data")]
    arguments += ["--split", "test", "--k", "5", "10", "--out", str(tmp_path / "scores.json")]
    assert main(arguments) == 0
    again = json.loads((tmp_path / "scores.json").read_text())["metrics"]
    first = json.loads((finished / "seed-0" / "safe-gdpo" / "scores.json").read_text())["metrics"]
    for name in ("recall@10", "ndcg@10", "svr@10", "list_length"):
        assert again[name]["mean"] == pytest.approx(first[name]["mean"], nan_ok=True)


@pytest.mark.slow
def test_the_scores_of_an_arm_are_a_baseline_for_evaluate(finished, tmp_path):
    arms = finished / "seed-0"
    arguments = ["evaluate", "--data-dir", str(finished / "data"), "--bootstrap", "20"]
    arguments += ["--outputs", str(arms / "safe-gdpo" / "outputs.jsonl")]
    arguments += ["--baseline", str(arms / "sft" / "scores.json")]
    assert main([*arguments, "--out", str(tmp_path / "out.json")]) == 0
    stored = json.loads((tmp_path / "out.json").read_text())
    means = {
        arm: json.loads((arms / arm / "scores.json").read_text())["metrics"]["list_length"]["mean"]
        for arm in ("sft", "safe-gdpo")
    }
    difference = stored["comparison"]["list_length"]["difference"]
    assert difference == pytest.approx(means["safe-gdpo"] - means["sft"])


@pytest.mark.slow
def test_a_killed_arm_started_again_ends_like_one_left_alone(finished, tmp_path):
    """`rl` where its start is trained already; SIGKILL once the policy has taken a step."""
    alone, killed = (folder / "seed-0" / "safe-gdpo" for folder in (finished, tmp_path / "run"))
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("safe-gdpo"))
    folder = ["--run-dir", str(tmp_path / "run")]
    arguments = ["rl", "--preset", "smoke", "--arm", "safe-gdpo", *folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.saferec", *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    rows = killed / "metrics.jsonl"
    while process.poll() is None and not (rows.is_file() and rows.stat().st_size):
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "scores.json").exists()
    run(*arguments)
    for name in ("outputs.jsonl", "scores.json"):
        assert (killed / name).read_bytes() == (alone / name).read_bytes()
    timed = ("time/", "tokens_per_second")
    pairs = zip(read_metrics(rows), read_metrics(alone / "metrics.jsonl"), strict=True)
    for one, other in pairs:
        assert one.keys() == other.keys()
        assert all(one[k] == other[k] for k in one if not k.startswith(timed))


@pytest.mark.slow
def test_a_supervised_arm_runs_alone_and_one_at_the_level_of_answers_starts_from_it(
    finished, tmp_path
):
    same = ["--preset", "smoke", "--level", "sequence", "--data-dir", str(finished / "data")]
    same += ["--run-dir", str(tmp_path / "run")]
    arms = tmp_path / "run" / "seed-0"
    done = run("sft", "--arm", "safe-sft", *same, then=["rl", "--arm", "safe-gdpo", *same])
    first, second = done.stdout.split("outputs and scores are in", 1)
    assert "seed 0, Safe-SFT: answered and scored" in first
    assert "seed 0, Safe-GDPO: answered and scored" in second
    assert (arms / "safe-sft" / "scores.json").is_file() and not (arms / "sft").exists()
    # The policy starts from the stored arm, which takes its steps in the first command alone.
    assert "Safe-SFT, seed 0 step 6/6" in first and "Safe-SFT, seed 0 step" not in second
    assert len(read_metrics(arms / "safe-gdpo" / "metrics.jsonl")) == 3
    scores = json.loads((arms / "safe-gdpo" / "scores.json").read_text())
    assert scores["num_conversations"] == SIZES["test"]


def test_a_data_folder_without_data_is_refused_and_not_filled(tmp_path, capsys):
    arguments = ["rl", "--preset", "smoke", "--run-dir", str(tmp_path / "run")]
    assert main([*arguments, "--data-dir", str(tmp_path / "typo")]) == 2
    assert "no SafeRec data in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_data_folder_makes_its_own_data_set(data_dir, tmp_path, monkeypatch):
    made = []

    def make(folder):
        made.append(folder)
        shutil.copytree(data_dir, folder)

    monkeypatch.setattr("experiments.saferec.__main__.build_dataset", make)
    space = open_workspace(EXPERIMENT, tmp_path / "run", PRESETS["smoke"])
    assert made == [tmp_path / "run" / "data"]
    assert len(space.data.records["test"]) == 400


def test_a_damaged_preset_file_is_one_error(data_dir, tmp_path, capsys):
    for text in ("{", "[]"):
        (tmp_path / "preset.json").write_text(text)
        arguments = ["rl", "--preset", "smoke", "--run-dir", str(tmp_path)]
        assert main([*arguments, "--data-dir", str(data_dir)]) == 2
        error = capsys.readouterr().err
        assert "preset.json" in error.replace("\n", "") and "Traceback" not in error
        assert (tmp_path / "preset.json").read_text() == text


@pytest.mark.slow
def test_truncated_data_is_one_error_and_nothing_is_overwritten(finished, tmp_path, capsys):
    shutil.copytree(finished / "data", tmp_path / "data")
    shard = next((tmp_path / "data").rglob("*train*array_record*"))
    damaged = shard.read_bytes()[: shard.stat().st_size // 2]
    shard.write_bytes(damaged)
    arguments = ["rl", "--preset", "smoke", "--run-dir", str(tmp_path / "run")]
    assert main([*arguments, "--data-dir", str(tmp_path / "data")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "damaged or truncated" in error and "Traceback" not in error
    assert shard.read_bytes() == damaged


def test_a_finished_folder_of_the_first_kind_gives_its_report_and_goes_on_with_nothing(
    tmp_path, conversations, invented_films, capsys
):
    """Before run.json, and with stages as fields of preset.json."""
    run = write_run(tmp_path / "mini", conversations["test"][:40], invented_films)
    old = {"name": "mini", "level": "rank", "official": None, "oracle": {"year_tolerance": 2}}
    text = json.dumps({**old, "sft": {"run": {"steps": 1000}}, "relevance_weight": 1.5})
    (run / "preset.json").write_text(text)
    assert main(["report", str(run), "--bootstrap", "50"]) == 0
    assert "Samples" in (run / "report.html").read_text()
    assert main(["reproduce", "--preset", "mini", "--run-dir", str(run)]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "was made with another preset; choose another --run-dir" in error
    assert (run / "preset.json").read_text() == text and not (run / "data").exists()
