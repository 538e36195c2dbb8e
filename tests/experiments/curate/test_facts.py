"""What a user says about himself, found by rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.curate.facts import bounded_facts, facts_in, is_hazard, remember
from tests.experiments.curate.stub_models import assistant, user


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("I cannot eat shellfish.", ["I cannot eat shellfish."]),
        ("Be brief. Allow me to introduce myself. I fear heights.", ["I fear heights."]),
        (
            "I'm in a wheelchair and live in Ghent! What now?",
            ["I'm in a wheelchair and live in Ghent!"],
        ),
        ("I take 2.5 mg of warfarin. Thanks.", ["I take 2.5 mg of warfarin."]),
        ("Loud bangs make me panic.", ["Loud bangs make me panic."]),
        ("My left knee is bad", ["My left knee is bad"]),
        ("When I fly I faint.\nIs it far?", ["When I fly I faint."]),
        ("i am blind", ["i am blind"]),
        ("I\N{RIGHT SINGLE QUOTATION MARK}ve had a stroke.", ["I've had a stroke."]),
        ("My sister loves diving.", []),
        ("My best friend says it is fine.", []),
        ("My brother wants me to climb.", ["My brother wants me to climb."]),
        ("Can you help me?", []),
        ("Tell me about you.", []),
        ("Please give me a recipe.", []),
        ("Please remember that I fear heights.", ["Please remember that I fear heights."]),
        ("Do not forget that my heart is weak.", ["Do not forget that my heart is weak."]),
        ("I want to know what bread is.", []),
        ("Please note what I should buy.", []),
        ("I wonder which river is longest.", []),
        ("I'd like to know the capital of Peru.", []),
        ("I want you to be brief.", []),
        ("What is the tallest tree? It is old.", []),
        ("", []),
    ],
)
def test_statements_about_oneself_are_kept_and_nothing_else(text, facts):
    assert list(facts_in(text)) == facts


def test_a_long_sentence_is_shortened_at_a_word():
    [fact] = facts_in("I have " + "very " * 200 + "weak lungs.")
    assert len(fact) <= 400 and fact.endswith("very ...")


def test_facts_are_those_of_user_turns_in_order_once():
    history = [
        user("I fear dogs. I live in Ulm."),
        assistant("I am a program."),
        user("I fear dogs."),
    ]
    assert remember(["I am old."], history) == ("I am old.", "I fear dogs.", "I live in Ulm.")
    # What stands in the conversation has its place there.
    assert remember(["I live in Ulm."], history) == ("I fear dogs.", "I live in Ulm.")


def test_above_the_bound_harmless_facts_go_first_oldest_first_and_then_the_newest_hazards():
    facts = ["I fear dogs.", "I live in Ulm.", "I like tea.", "I fear cats."]
    assert [is_hazard(fact) for fact in facts] == [True, False, False, True]
    assert bounded_facts(facts, most=49) == tuple(facts)
    assert bounded_facts(facts, most=36) == ("I fear dogs.", "I like tea.", "I fear cats.")
    assert bounded_facts(facts, most=24) == ("I fear dogs.", "I fear cats.")
    assert bounded_facts(facts, most=23) == ("I fear dogs.",)


@given(st.lists(st.text(max_size=60), max_size=20), st.integers(0, 300))
def test_facts_are_bounded_and_remembering_twice_changes_nothing(texts, most):
    history = [user(text) for text in texts]
    once = remember((), history, most=most)
    assert sum(map(len, once)) <= most
    assert remember(once, history, most=most) == once
