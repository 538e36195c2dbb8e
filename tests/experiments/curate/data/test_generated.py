"""Generated dialogues: splits without leakage, twins that differ in the question alone, lengths."""

from collections import Counter

import pytest

from experiments.curate.data.examples import conversation
from experiments.curate.data.generated import SPLITS, generate_examples, hazards, instances
from experiments.curate.data.own import own_rows
from experiments.curate.data.tables import CATEGORIES
from gdpo_jax.errors import UserError


@pytest.fixture(scope="module")
def examples():
    return {split: generate_examples(split, 150, seed=1) for split in SPLITS}


def everything(examples):
    return [example for part in examples.values() for example in part]


def test_the_inventory():
    assert len(hazards()) >= 25 and {h.category for h in hazards()} == set(CATEGORIES)
    assert len({h.term for h in hazards()}) == len(hazards())
    assert sum(len(found) for found in instances("train").values()) > 900
    for split in SPLITS:
        found = instances(split)
        assert sum(bool(asked) for asked in found.values()) >= len(hazards()) - 3


def test_no_instance_is_in_two_splits(examples):
    by_split = [
        {(term, text) for term, found in instances(split).items() for text in found}
        for split in SPLITS
    ]
    assert not (by_split[0] & by_split[1] | by_split[0] & by_split[2] | by_split[1] & by_split[2])
    for split, part in examples.items():
        asked = {text for found in instances(split).values() for text in found}
        assert {example.risky for example in part} - {""} <= asked


def test_things_and_settings_of_the_test_are_seen_in_training():
    """Only their combination is new."""
    train = " ".join(text for found in instances("train").values() for text in found)
    for hazard in hazards():
        assert all(thing in train for thing in hazard.things)


def test_several_thousand_distinct_dialogues():
    part = generate_examples("train", 1500)
    assert len({example.case.turns for example in part}) == len(part) == 3000
    assert len({example.case.id for example in part}) == len(part)


def test_lengths(examples):
    for example in everything(examples):
        words = sum(len(message["content"].split()) for message in conversation(example))
        assert words <= 110
        assert 2 <= len(example.case.turns) <= 6
        assert len(example.given) == len(example.case.turns) - 1
        assert all(example.given) and all(example.case.turns)


def test_twins(examples):
    for part in examples.values():
        for danger, control in zip(part[::2], part[1::2], strict=True):
            assert not danger.case.control and control.case.control
            assert danger.case.row == control.case.row
            assert danger.case.turns[0] == control.case.turns[0]
            assert danger.case.constraint == control.case.constraint
            assert danger.case.drawn == control.case.drawn
            assert danger.case.turns[-1] != control.case.turns[-1]
            assert (danger.hazard, danger.restated) == (control.hazard, control.restated)


def test_a_control_never_asks_for_what_is_dangerous_for_this_user(examples):
    domains = {h.term: h.domains for h in hazards()}
    about = {
        text: h.term for h in hazards() for split in SPLITS for text in instances(split)[h.term]
    }
    kinds = Counter()
    for example in everything(examples):
        if not example.case.control:
            assert about[example.risky] == example.hazard
            continue
        kinds["thing" if example.risky else "plain"] += 1
        if example.risky:
            assert domains[example.hazard].isdisjoint(domains[about[example.risky]])
    assert 0.1 < kinds["plain"] / kinds.total() < 0.3


def test_answers(examples):
    for example in everything(examples):
        assert example.target == (example.careless if example.case.control else example.warning)
        assert example.restated.removeprefix("your ") in example.warning
        assert example.safe.lower() in example.warning.lower()
        assert example.warning != example.careless
        assert example.restated.removeprefix("your ") not in example.careless
        for text in (example.warning, example.careless):
            assert "{" not in text and text[0].isupper() and text[-1] in ".?!"
        if example.risky:
            assert example.risky in example.warning.replace("Have", "have")
            assert example.risky.lower() in example.careless.lower()
            assert example.risky.lower() in example.case.turns[-1].lower()


def test_the_question_alone_does_not_decide(examples):
    """What is dangerous for one user is asked by others too, to whom it is harmless."""
    about = {text: h.term for h in hazards() for text in instances("train")[h.term]}
    kinds = {False: Counter(), True: Counter()}
    for example in examples["train"]:
        if example.risky:
            kinds[example.case.control][about[example.risky]] += 1
    assert len(set(kinds[False]) & set(kinds[True])) >= 25


def test_seeds():
    assert generate_examples("test", 5, seed=2) == generate_examples("test", 9, seed=2)[:10]
    assert generate_examples("test", 5, seed=2) != generate_examples("test", 5, seed=3)


def test_a_few_hazards_of_each_category_are_the_first_ones():
    first = {}
    for hazard in hazards():
        first.setdefault(hazard.category, []).append(hazard.term)
    wanted = {term for terms in first.values() for term in terms[:2]}
    for split in SPLITS:
        found = generate_examples(split, 60, per_category=2)
        assert {example.hazard for example in found} <= wanted
        assert {example.cause for example in found if example.risky} <= {
            hazard.name for hazard in hazards() if hazard.term in wanted
        }
    with pytest.raises(UserError, match="0 hazards of each category"):
        generate_examples("train", 1, per_category=0)


def test_nothing_of_the_own_rows_is_learnt(examples):
    """They are a test of their own: their questions and constraints are worded otherwise."""
    turns = " ".join(turn for example in everything(examples) for turn in example.case.turns)
    for own in own_rows():
        assert own.row.constraint not in turns and own.row.control_question not in turns


@pytest.mark.parametrize(
    ("split", "count", "message"),
    [("dev", 1, "no split 'dev'; there are train"), ("test", -1, "count -1")],
)
def test_bad_requests(split, count, message):
    with pytest.raises(UserError, match=message):
        generate_examples(split, count)
