"""Logs of conversations: what is written is read back, and what is wrong is named."""

import json

import pytest

from experiments.persona_leakage.data.conversations import conversations
from experiments.persona_leakage.data.logs import read_logs, write_logs
from experiments.persona_leakage.data.population import population
from gdpo_jax.errors import UserError

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ROW = {"id": "c", "user": "u", "turns": TURNS}


def test_what_is_written_is_read_back(tmp_path):
    said = conversations(population(0)[:2], ordinary=3)
    write_logs(tmp_path / "log.jsonl", said)
    read = read_logs(tmp_path / "log.jsonl")
    assert [(one.id, one.user) for one in read] == [(one.id, one.user) for one in said]
    texts = [[(e.request, e.answer) for e in one.exchanges] for one in read]
    assert texts == [[(e.request, e.answer) for e in one.exchanges] for one in said]
    row = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert list(row) == ["id", "user", "turns"] and row["turns"][1]["role"] == "assistant"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**ROW, "time": 1}], "row 1: unknown field 'time'; there are id, user, turns"),
        ([{"id": "c", "turns": TURNS}], "row 1: no field 'user'"),
        ([ROW, {**ROW, "id": "d", "user": 7}], "row 2, field 'user': expected text, found 7"),
        ([ROW, ROW], "row 2, field 'id': 'c' stands in row 1 already"),
        ([{**ROW, "turns": []}], "row 1, field 'turns': expected a list of messages"),
        ([{**ROW, "turns": TURNS[1:]}], "message 0, field 'role': 'assistant'; expected 'user'"),
        ([{**ROW, "turns": TURNS[:1]}], "the last message must be the assistant's"),
        ([{**ROW, "turns": [{"role": "user", "content": " "}]}], "field 'content': expected text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, rows, message):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError) as error:
        read_logs(path)
    assert str(path) in str(error.value) and message in str(error.value)
