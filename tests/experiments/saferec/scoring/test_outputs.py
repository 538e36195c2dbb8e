import pytest

from experiments.saferec.lists.records import output_text
from experiments.saferec.scoring.outputs import join_outputs
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import record

RECORDS = [record(sample_id="a"), record(sample_id="b", prompt="other")]
ROWS = [{"sample_id": "a", "text": "first"}, {"sample_id": "b", "text": "none"}]


def test_join_by_id():
    assert join_outputs(ROWS[::-1], RECORDS) == ["first", "none"]
    assert join_outputs([{"id": "a", "completion": "x"}, {"id": "b", "text": "y"}], RECORDS) == [
        "x",
        "y",
    ]


def test_join_by_prompt():
    """One generation may serve every record of its context."""
    records = [*RECORDS, record(sample_id="c")]
    rows = [{"prompt": [{"content": "what next?"}], "text": "x"}, {"prompt": "other", "text": "y"}]
    assert join_outputs(rows, records) == ["x", "y", "x"]


def test_prompts_agree_but_for_white_space():
    rows = [{"prompt": " what\r\nnext?\n", "text": "x"}, {"prompt": "other", "text": "y"}]
    assert join_outputs(rows, RECORDS) == ["x", "y"]


def test_ids_of_another_system_fall_back_on_the_prompt():
    rows = [
        {"id": "run-7", "prompt": "other", "text": "y"},
        {"id": "run-8", "prompt": "what next?", "text": "x"},
    ]
    assert join_outputs(rows, RECORDS) == ["x", "y"]
    mixed = [{"sample_id": "b", "text": "y"}, {"prompt": "what next?", "text": "x"}]
    assert join_outputs(mixed, RECORDS) == ["x", "y"]
    # The model may have seen more than the record's prompt: a known id is enough.
    longer = [{**ROWS[0], "prompt": "<s>what next?"}, ROWS[1]]
    assert join_outputs(longer, RECORDS) == ["first", "none"]


def test_partial():
    assert join_outputs(ROWS[:1], RECORDS, partial=True) == ["first", None]
    strange = [*ROWS, {"sample_id": "z", "text": ""}]
    assert join_outputs(strange, RECORDS, partial=True) == ["first", "none"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "out.jsonl holds no rows"),
        ([ROWS[0], ROWS[0]], "row 1: a second output for 'a', the first is row 0"),
        (ROWS[:1], "no output for 1 of 2 records, the first is 'b'; .*--partial"),
        ([*ROWS, {"sample_id": "z", "text": ""}], "row 2: no record 'z'"),
        ([{"id": "y", "text": ""}], "none of 1 outputs matches a record. .* 'y', records with 'a'"),
        ([ROWS[0], {"text": "x"}], "row 1: neither sample_id nor id nor prompt"),
        ([{"text": "x", "prompt": 3}], "row 0, field 'prompt': expected text or chat .*found 3"),
        ([{"text": "x", "prompt": ["hi"]}], "row 0, field 'prompt': expected text or chat"),
        ([{"text": "x"}], "row 0: neither sample_id nor id nor prompt"),
        ([{"sample_id": "a"}], "row 0: no field 'text' or 'completion'; it has .'sample_id'."),
        ([{"sample_id": "a", "text": 3}], "row 0, field 'text': expected text, found 3"),
        ([{"sample_id": None, "text": ""}], "row 0, field 'sample_id': expected text or a whole"),
        ([{"id": [1], "text": ""}], r"row 0, field 'id': .* found \[1\]"),
        ([{"id": True, "text": ""}], "row 0, field 'id': .* found true"),
        ([ROWS[0], {"prompt": "what next?", "text": "y"}], "row 1: a second output for 'a'"),
        ([{"id": "a", "prompt": "other", "text": ""}], "row 0, field 'prompt': it is not that of"),
    ],
)
def test_bad_outputs(rows, message):
    with pytest.raises(UserError, match=message):
        join_outputs(rows, RECORDS, source="out.jsonl")


def test_answers_may_be_chat_messages():
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert output_text({"completion": messages}, "row") == "a"
    for value in ([], [{}], {"content": "a"}):
        with pytest.raises(UserError, match="field 'completion': expected text"):
            output_text({"completion": value}, "row")
