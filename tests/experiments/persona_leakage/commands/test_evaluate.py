"""The command `evaluate` with models behind a small server of this process."""

import csv
import json

import pytest

from experiments.common.scores.summaries import read_summary
from experiments.persona_leakage.__main__ import main
from tests.experiments.chat_server import Reply, chat
from tests.experiments.persona_leakage.published_files import (
    persist_folder,
    profile_file,
    safe_folder,
)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def says(body):
    """A model that talks, votes and judges."""
    text = body["messages"][0]["content"]
    if "Score:" in text:
        return chat(f"Reasoning: so.\nScore: {3 if 'cross_domain' in text else 1}")
    if '"share"' in text:
        return chat('{"share": [2], "private": [3]}')
    if "<known>" in text:
        return chat('{"2": "It itches."}')
    return chat("Yes" if "<request>" in text else "It itches.")


def evaluating_of(server, source, out, *more):
    model = ["--model", "m", "--url", server.url, "--retries", "0", "--bootstrap", "20"]
    arguments = ["evaluate", "--source", str(source), "--out", str(out), *model, *more]
    return main(arguments)


def judged_by(server):
    judge = ["--judge.by", "rubric", "--judge.url", server.url, "--judge.model", "j"]
    return [*judge, "--judge.retries", "0"]


def test_persistbench_is_judged_labelled_and_compared(chat_server, tmp_path, capsys):
    chat_server.reply, out = says, tmp_path / "out"
    source, judge = persist_folder(tmp_path / "data", rows=1), judged_by(chat_server)
    assert evaluating_of(chat_server, source, out, *judge, "--sheet", "4") == 0
    told = capsys.readouterr().out
    assert "model: 3 requests, asked" in told and "4 rows to label" in told
    means = read_summary(out / "seed-0" / "model" / "scores.json").means()
    assert (means["leaks"], means["flatters"], means["misses"]) == (1, 0, 1)
    with (out / "seed-0" / "model" / "sheet.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = tmp_path / "own.csv"
    lines = [f"{row['id']},{row['part']},1" for row in rows if row["part"] == "benefit"]
    own.write_text("\n".join(["id,part,own label", *lines]) + "\n")
    # Another model scored otherwise stands in no table with the first.
    more = [*judge, "--name", "other", "--own-labels", str(own)]
    assert evaluating_of(chat_server, source, out, *more, "--benefit-passes", "2") == 0
    told = capsys.readouterr().out
    assert "benefit: the judge agrees with 1.000" in told
    assert "model was asked, judged or scored otherwise" in told
    assert list(json.loads((out / "results.json").read_text())["arms"]) == ["other"]
    asked = len(chat_server.bodies)
    assert evaluating_of(chat_server, source, out, *judge, "--name", "other") == 0
    assert list(json.loads((out / "results.json").read_text())["arms"]) == ["model", "other"]
    assert "Persona leakage" in (out / "report.html").read_text()
    assert len(chat_server.bodies) == asked


def test_cimemories_by_rules_and_by_votes(chat_server, tmp_path, capsys):
    chat_server.reply = says
    path = profile_file(tmp_path)
    assert evaluating_of(chat_server, path, tmp_path / "a", "--samples", "2") == 0
    table = read_summary(tmp_path / "a" / "seed-0" / "model" / "scores.json")
    assert len(table) == 1 and table.means()["violation"] == 0 and len(chat_server.bodies) == 4
    capsys.readouterr()
    votes = ["--labels", "votes", "--votes", "1", "--samples", "2", *judged_by(chat_server)]
    assert evaluating_of(chat_server, path, tmp_path / "b", *votes) == 0
    # 9 votes on three contexts, 3 tasks by 2 answers, and one verdict, as answers are all alike.
    models = [body["model"] for body in chat_server.bodies[4:]]
    assert models.count("m") == 6 and models.count("j") == 9 + 1
    table = read_summary(tmp_path / "b" / "seed-0" / "model" / "scores.json")
    # Sorted by key the mortgage is 1 and the ailment 2, which is private and said each time.
    assert (table.means()["violation"], table.means()["completeness"]) == (1, 0)
    asked = len(chat_server.bodies)
    assert evaluating_of(chat_server, path, tmp_path / "b", *votes) == 0
    assert len(chat_server.bodies) == asked


def test_a_server_that_breaks_loses_nothing(chat_server, tmp_path, capsys):
    source, out = safe_folder(tmp_path / "data"), tmp_path / "out"
    # What is no chat completion is asked for once more, so it comes twice.
    broken = {2: Reply(b"", 500), 3: Reply(b"<html>"), 4: Reply(b"{}")}
    chat_server.reply = lambda body: broken.get(len(chat_server.bodies), chat("It is so."))
    assert evaluating_of(chat_server, source, out, "--together", "1") == 0
    assert "2 without an answer or a verdict" in capsys.readouterr().out
    asked = len(chat_server.bodies)
    assert evaluating_of(chat_server, source, out, "--together", "1") == 0
    told = capsys.readouterr().out
    assert len(chat_server.bodies) == asked + 2 and "without an answer" not in told
    assert read_summary(out / "seed-0" / "model" / "scores.json").means()["failed"] == 0


@pytest.mark.parametrize(
    ("source", "arguments", "says"),
    [
        ("persist", [], "no rules judge"),
        ("persist", ["--judge.by", "rubric"], "give --judge.url"),
        ("persist", ["--key-filter", "none"], "--key-filter belongs to CIMemories"),
        ("persist", ["--cluster", "user"], "--cluster belongs to U-SafeBench"),
        ("safe", ["--benefit-over", "maximum"], "belong to PersistBench"),
        ("safe", ["--benefit-passes", "9"], "passes from 9"),
        ("safe", ["--judge.url", "http://localhost:1"], "give --judge.by rubric"),
        ("safe", ["--samples", "2"], "2 answers at temperature 0"),
        ("safe", ["--limit", "0"], "--limit 0"),
        ("safe", ["--name", "a/b"], "--name 'a/b'"),
        ("safe", ["--own-labels", "no.csv"], "no.csv"),
        ("memories", ["--labels", "votes"], "give --judge.by rubric"),
        ("memories", ["--votes", "3"], "--votes belongs to --labels votes"),
    ],
)
def test_mistakes_are_named_before_anything_is_asked(
    chat_server, tmp_path, capsys, source, arguments, says
):
    make = {"persist": persist_folder, "safe": safe_folder, "memories": profile_file}[source]
    (tmp_path / "data").mkdir()
    path = make(tmp_path / "data")
    assert evaluating_of(chat_server, path, tmp_path / "out", *arguments) == 2
    assert says in capsys.readouterr().err
    assert chat_server.bodies == [] and not (tmp_path / "out").exists()
