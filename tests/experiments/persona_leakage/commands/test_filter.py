"""The command `filter`: what is one user's own leaves a log, whole or not at all."""

import json

import pytest

from experiments.persona_leakage.__main__ import main
from experiments.persona_leakage.data.logs import read_logs

ANSWERS = {
    "ann": [["Sweet pea, the tea is hot.", "Sweet pea, the bus is late."], ["Your code is 1 2."]],
    "bob": [["Old bean, the tea is hot."], ["The bus is late."]],
}


def log_of(path, answers):
    rows = [
        {
            "id": f"{user}-{number}",
            "user": user,
            "turns": [
                turn
                for text in texts
                for turn in (
                    {"role": "user", "content": "what is new, sweet pea?"},
                    {"role": "assistant", "content": text},
                )
            ],
        }
        for user, own in answers.items()
        for number, texts in enumerate(own)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(capsys, *arguments):
    """What it printed, and how it ended."""
    status = main(["filter", *map(str, arguments)])
    printed = capsys.readouterr()
    return " ".join((printed.out + printed.err).split()), status


def test_one_users_phrases_go_and_what_was_said_once_by_choice(tmp_path, capsys):
    log, out = log_of(tmp_path / "log.jsonl", ANSWERS), tmp_path / "filtered.jsonl"
    told, status = run(capsys, log, "--out", out, "--repeats", 1, "--lost", 0.5)
    assert status == 0, told
    # "Sweet pea" twice, "your code is 1 2" and "old bean", of 27 words.
    assert "3 of 4 conversations, without 1 of 5 answers and 40.7% of their words" in told
    assert "3 answers lost some of theirs, and 4 places" in told
    # repeats, answers, gone, changed, spans, share of words: "sweet pea" is in two answers.
    assert "1 5 1 3 4 0.407 2 5 0 2 2 0.148 3 5 0 0 0 0.000" in told
    found = read_logs(out)
    assert [[exchange.answer for exchange in one.exchanges] for one in found] == [
        ["The tea is hot.", "The bus is late."],
        ["The tea is hot."],
        ["The bus is late."],
    ]
    assert {e.request for one in found for e in one.exchanges} == {"what is new, sweet pea?"}
    told, _ = run(capsys, log, "--out", out)
    assert "what fewer than 3 answers to a user say is left, secrets as well" in told
    assert read_logs(out) == read_logs(log)


@pytest.mark.parametrize(
    ("answers", "options", "message"),
    [
        (ANSWERS, ("--repeats", "0"), "repeats must be at least 1, got 0"),
        (ANSWERS, ("--curve", "0"), "--curve 0: a phrase is repeated at least once"),
        ({"ann": ANSWERS["ann"]}, (), "is of user 'ann' alone"),
        ({"ann": [["Tea."]], "bob": [["Bus."]]}, ("--repeats", "1"), "(nothing was written)"),
    ],
)
def test_what_cannot_be_filtered_is_named_and_nothing_is_written(
    tmp_path, capsys, answers, options, message
):
    log, out = log_of(tmp_path / "log.jsonl", answers), tmp_path / "out.jsonl"
    out.write_text("before")
    told, status = run(capsys, log, "--out", out, *options)
    assert status == 2 and message in told, told
    assert out.read_text() == "before"


def test_the_log_itself_is_not_written_over(tmp_path, capsys):
    log = log_of(tmp_path / "log.jsonl", ANSWERS)
    told, status = run(capsys, log, "--out", tmp_path / "." / "log.jsonl")
    assert status == 2 and "is the log itself; give another file" in told
