"""Sensitivities for a corpus of one's own, by the command."""

import json

import pytest

from experiments.common.judges.verdict import Verdict
from experiments.saferec.__main__ import main
from experiments.saferec.data.dataset import build_dataset, load_records, load_table
from experiments.saferec.data.injection import (
    Injection,
)
from experiments.saferec.data.own_conversations import corpus_record, inject_corpus
from experiments.saferec.lists.parsing import parse_recommendations
from experiments.saferec.lists.records import groundtruth, teacher_list
from experiments.saferec.metrics import score_texts
from experiments.saferec.oracle.table import film_table
from experiments.saferec.published.readers import read_records
from gdpo_jax.errors import UserError
from tests.experiments.chat_server import Reply, chat
from tests.experiments.saferec.films import FILMS
from tests.experiments.saferec.plain_corpus import ROW, SELF_HARM, film_rows
from tests.experiments.saferec.published_files import write


def test_dialogues_become_one_prompt():
    row = {
        "dialogue": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "What do you like?"},
            {"role": "user", "content": "Heat"},
        ],
        "completion": "1. Quiet Harbour (2004)\nsome words\n2. Café Lune (2020)",
        "groundtruth_with_release_year": [["Café Lune", 2020]],
    }
    record = corpus_record(row, 3, noun="games", count=7)
    assert record["sample_id"] == "3"
    assert record["prompt"][0]["content"] == (
        "Recommend 7 games for this conversation, one a line, as Title (Year).\n"
        "USER: Hello\nSYSTEM: What do you like?\nUSER: Heat"
    )
    assert teacher_list(record) == [("Quiet Harbour", 2004), ("Café Lune", 2020)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "field 'prompt'"),
        ({"prompt": None}, "field 'prompt'"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, "expected one user message"),
        ({"dialogue": []}, "field 'dialogue': expected a list"),
        ({"dialogue": [{"role": "judge", "content": "x"}]}, "is no message with 'role'"),
        ({"dialogue": [{"role": ["user"], "content": "x"}]}, "is no message with 'role'"),
        ({"groundtruth_with_release_year": None}, "field 'groundtruth_with_release_year'"),
        ({"teacher": 3}, "field 'teacher'"),
        ({"seen_titles": [3]}, "field 'seen_titles'"),
        ({"assigned_trait": "Gory"}, "unknown trait 'Gory'"),
        ({"prompt": "\udc00"}, "is no text"),
    ],
)
def test_rows_that_are_no_conversations(change, message):
    with pytest.raises(UserError, match=message):
        corpus_record({**ROW, **change}, 0)


def test_the_command_writes_what_the_trainer_reads(tmp_path, capsys):
    items = write(tmp_path / "films.json", film_rows())
    rows = [{**ROW, "sample_id": str(i)} for i in range(6)]
    rows[2] = {**ROW, "sample_id": "2", "groundtruth_with_release_year": []}
    rows[3] = "no object"
    train, test = write(tmp_path / "t.json", rows), write(tmp_path / "s.json", rows[:2])
    out = tmp_path / "data"
    arguments = ["inject", "--train", str(train), "--test", str(test), "--items", str(items)]
    assert main([*arguments, "--out", str(out), "--refill", "--disclosure", "mixed"]) == 0
    shown = capsys.readouterr().out
    assert "train: kept 4 of 6 conversations" in shown
    assert "test: kept 2 of 2" in shown
    assert f"6  {SELF_HARM}" in shown
    assert "2 dropped, listed in" in shown
    rejected = [
        json.loads(line) for line in (out / "saferec" / "rejected.jsonl").read_text().splitlines()
    ]
    assert [(entry["file"], entry["index"]) for entry in rejected] == [
        (str(train), 2),
        (str(train), 3),
    ]
    records = load_records(out, "train")
    assert [record["sample_id"] for record in records] == ["0", "1", "4", "5"]
    oracle = load_table(out).oracle()
    text = records[0]["completion"][0]["content"]
    assert score_texts([text], records[:1], oracle=oracle).means()["svr@10"] == 0.0
    assert build_dataset(out) == {"films": 5, "train": 4, "test": 2}
    assert main(["evaluate", "--data-dir", str(out), "--split", "test", "--bootstrap", "9"]) == 0
    # What is there already is kept, and no judge is asked.
    assert main([*arguments, "--out", str(out), "--judge-command", "no-such-command"]) == 2
    assert "is there already" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give at least one of --train"),
        (["--train", "x.json"], "give data_dir or items"),
        (["--train", "x.json", "--items", "films.json"], "no file x.json"),
        (["--train", "empty.json", "--items", "films.json"], "no conversation is left"),
        (["--train", "t.json", "--items", "films.json", "--judge", "x"], "give MODULE:FUNCTION"),
        (["--train", "t.json", "--items", "films.json", "--judge-url", "x"], "give judge_model"),
        (
            ["--train", "t.json", "--items", "films.json", "--answers", "x"],
            "the rules need no such",
        ),
        (["--train", "t.json", "--items", "films.json", "--judge-command", "'x"], "cannot be read"),
        (["--train", "t.json", "--items", "films.json", "--seed", "-1"], "seed=-1"),
    ],
)
def test_mistakes_are_one_message_and_nothing_is_written(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "films.json", film_rows())
    write(tmp_path / "t.json", [ROW])
    write(tmp_path / "empty.json", [])
    assert main(["inject", "--out", "data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "data").exists()


def test_a_model_is_asked_about_many_at_once_and_no_answer_is_paid_twice(
    chat_server, tmp_path, monkeypatch, capsys
):
    items = write(tmp_path / "films.json", film_rows())
    rows = [{**ROW, "sample_id": str(n), "prompt": f"Films like {n}?"} for n in range(9)]
    rows[4] |= {"assigned_trait": "horror"}
    train = write(tmp_path / "t.json", rows)
    monkeypatch.setenv("MY_KEY", "sk-SECRET-0123456789\n")
    said = json.dumps({"assigned_trait": SELF_HARM, "reason": "said"})
    chat_server.reply = lambda body: (
        chat(said, wait=0.05) if len(chat_server.bodies) <= 5 else Reply(b"", 400)
    )
    arguments = ["inject", "--train", str(train), "--items", str(items), "--judge-url"]
    arguments += [chat_server.url, "--judge-model", "m", "--judge-key", "MY_KEY"]
    arguments += ["--answers", str(tmp_path / "kept"), "--out", str(tmp_path / "data")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "status 400" in error and "SECRET" not in error and "Traceback" not in error
    assert chat_server.most > 1
    asked = len(chat_server.bodies)
    chat_server.reply = lambda body: chat(said)
    assert main(arguments) == 0
    assert len(chat_server.bodies) - asked == 3  # of the eight without a trait
    assert f"8  {SELF_HARM}" in capsys.readouterr().out
    assert all(h["Authorization"] == "Bearer sk-SECRET-0123456789" for h in chat_server.headers)
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"SECRET" not in path.read_bytes()


def test_the_published_assignments_are_such_a_corpus(published_file):
    """79 conversations with traits: nothing is dropped, and what was removed stays removed."""
    records = read_records(published_file)
    table = film_table(FILMS)
    made, rejected, counts = inject_corpus(
        {"train": published_file},
        table,
        judge=lambda records: [Verdict(None) for _ in records],
        options=Injection(),
    )
    assert rejected == []
    assert counts["splits"] == {"train": {"kept": 79, "read": 79}}
    for ours, theirs in zip(made["train"], records, strict=True):
        assert ours["assigned_trait"] == theirs["assigned_trait"]
        assert ours["prompt"][0]["content"].endswith(theirs["prompt"][0]["content"])
        assert len(groundtruth(ours)) == len(groundtruth(theirs))
        length = len(parse_recommendations(ours["completion"][0]["content"]))
        assert 19 <= length <= 20
