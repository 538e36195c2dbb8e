"""Cases and examples as JSON rows and back."""

import copy
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.curate.data.cases import Case, from_record, to_record
from experiments.curate.data.examples import Example, conversation, example_of, example_record
from gdpo_jax.errors import UserError

TEXT = st.text(max_size=20)
CASES = st.builds(
    Case,
    id=TEXT,
    row=st.integers(0, 999),
    scenario=TEXT,
    category=TEXT,
    constraint=TEXT,
    turns=st.lists(TEXT, min_size=1, max_size=4).map(tuple),
    control=st.booleans(),
    drawn=st.dictionaries(TEXT, st.lists(TEXT, max_size=3).map(tuple), max_size=3),
)
CASE = Case(id="sc1/0", row=0, scenario="sc1", category="c", constraint="k", turns=("a", "b"))
EXAMPLE = Example(
    case=CASE,
    given=("x",),
    target="t",
    warning="t",
    careless="go",
    hazard="h",
    restated="your h",
    risky="r",
    cause="c",
    safe="s",
)


@settings(max_examples=30)
@given(CASES)
def test_cases_survive_json(case):
    assert from_record(json.loads(json.dumps(to_record(case)))) == case


def test_cases_can_be_copied_to_other_processes():
    assert copy.deepcopy(CASE) == CASE
    assert dataclasses.asdict(CASE)["drawn"] == {}


def test_fields_of_others_are_left_alone():
    assert from_record(to_record(CASE) | {"prompt": [], "answer": 1}) == CASE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": "0"}, "case sc1/0: row should be int, got '0'"),
        ({"row": True}, "row should be int"),
        ({"scenario": None}, "scenario should be str"),
        ({"control": 1}, "control should be bool"),
        ({"turns": "ab"}, "turns should be a list of texts"),
        ({"turns": []}, "turns is empty"),
        ({"drawn": []}, "drawn should be a table"),
        ({"drawn": {"fact": [1]}}, "drawn fact should be a list of texts"),
    ],
)
def test_damaged_rows(change, message):
    with pytest.raises(UserError, match=message):
        from_record(to_record(CASE) | change)


def test_examples():
    record = json.loads(json.dumps(example_record(EXAMPLE)))
    assert example_of(record) == EXAMPLE and from_record(record) == CASE
    assert conversation(EXAMPLE) == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "b"},
    ]
    with pytest.raises(UserError, match="expected 1 given answers"):
        example_of(record | {"given": []})
    with pytest.raises(UserError, match="sc1/0: safe is no text"):
        example_of(record | {"safe": 3})
