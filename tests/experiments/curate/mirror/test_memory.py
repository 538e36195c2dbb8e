"""A memory within its bounds, and thoughts that come in any order."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.chats.model import Limits
from experiments.curate.mirror.memory import (
    Bounds,
    Memory,
    Monologue,
    Thought,
    apply_thought,
    begin_turn,
    cut_text,
    finish_turn,
    from_record,
    narrative_age,
    to_record,
    tokens_in,
    trim_monologues,
)
from experiments.curate.mirror.thinking import Thinking, talker_messages
from experiments.curate.mirror.way import Mirror
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, assistant, entry, said_by, user

BOUNDS = Bounds(conversation=300, monologues=100, monologue=60, narrative=20, facts=40)
ENTRY = Monologue(goal="a" * 8, reasoning="b" * 8, memory="c" * 8)  # 4 + 3 * 2 tokens


def thought(turn, *, narrative=None, monologue=None, session=""):
    return Thought(session=session, turn=turn, narrative=narrative, monologue=monologue)


def test_a_text_is_cut_behind_a_sentence_in_its_second_half():
    assert (tokens_in(""), tokens_in("abcd"), tokens_in("abcde")) == (0, 1, 2)
    assert cut_text(" One. Two. ", 5) == "One. Two."
    assert cut_text("One is. Two is long.", 3) == "One is."
    assert cut_text("One. Two is rather long.", 4) == "One. Two is rath"


def test_entries_are_dropped_down_to_eight_tenths_once_above_nine():
    entries = [dataclasses.replace(ENTRY, goal=f"number {n}"[:8]) for n in range(10)]
    assert trim_monologues(entries[:9], 100) == tuple(entries[:9])  # 90 tokens: not above
    assert trim_monologues(entries, 100) == tuple(entries[2:])
    assert trim_monologues([], 100) == ()


def test_a_thought_changes_what_it_has_and_no_older_one_follows():
    memory = begin_turn(begin_turn(Memory(narrative="before", narrated=1, thought=1)))
    second = apply_thought(memory, thought(2, narrative="second", monologue=ENTRY), BOUNDS)
    assert (second.narrative, second.narrated, second.thought) == ("second", 2, 2)
    assert second.monologues == (ENTRY,)
    # Late results: the first turn's, the same turn's again, and one of another session.
    for late in (thought(1, narrative="late"), thought(2, narrative="late", monologue=ENTRY)):
        assert apply_thought(second, late, BOUNDS) is second
    other = thought(3, narrative="other", session="cleared")
    assert apply_thought(second, other, BOUNDS) is second
    # A controller that failed leaves the narrative, one without any result leaves everything.
    third = apply_thought(second, thought(3, monologue=ENTRY), BOUNDS)
    assert (third.narrative, third.narrated, len(third.monologues)) == ("second", 2, 2)
    assert apply_thought(second, thought(3), BOUNDS) is second


def test_the_age_counts_answered_turns_that_the_narrative_does_not_know():
    memory = begin_turn(Memory())
    assert narrative_age(memory) is None
    memory = apply_thought(memory, thought(1, narrative="n"), BOUNDS)
    ages = []
    for _ in range(3):
        memory = begin_turn(memory)
        ages.append(narrative_age(memory))
    assert ages == [0, 1, 2]


def check_bounds(memory, bounds):
    assert tokens_in(memory.narrative) <= bounds.narrative
    sizes = (4 + sum(map(tokens_in, vars(m).values())) for m in memory.monologues)
    assert sum(sizes) <= 0.9 * bounds.monologues
    assert sum(map(len, memory.facts)) <= 4 * bounds.facts


def test_a_thousand_turns_stay_within_the_bounds_and_keep_the_hazard():
    """The published code bounds the thinker alone: what the talker sees grows with the dialogue."""
    long = "word " * 50
    model = Stub(said_by(talker=long, manager=entry(memory=long), controller=f"Avoid nuts. {long}"))
    way = Mirror(Thinking(bounds=BOUNDS))
    state, history, largest = way.start(), [], 0
    for n in range(1000):
        said = f"I like number {n}. {long}" if n % 10 else f"What is {n}? {long}"
        said = said if n else "I am allergic to nuts. What is new?"
        history = [*history, user(said)]
        model.asked.clear()
        [turn] = way.turn(model, [state], [history], Limits(), ["d"])
        state = turn.state
        history = [*history, assistant(turn.answer.text)]
        check_bounds(state, BOUNDS)
        for part, messages, _ in model.asked:
            size = sum(tokens_in(m["content"]) + 20 for m in messages)
            # Beside the conversation: prompts, entries and narrative, which are bounded as well.
            largest = max(largest, size)
            if part == "talker":
                assert "allergic to nuts" in " ".join(m["content"] for m in messages), n
    assert state.turn == 1000 and "I am allergic to nuts." in state.facts
    assert largest < 1000


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.none() | st.text(), st.none() | st.text(max_size=900)),
        max_size=12,
    ),
    st.lists(st.text(max_size=500), max_size=6),
)
def test_any_thoughts_in_any_order_keep_bounds_and_turn_order(thoughts, said):
    memory, newest = Memory(), 0
    for text in said:
        memory = finish_turn(begin_turn(memory), [user(text)], BOUNDS)
    for turn, narrative, text in thoughts:
        monologue = None if text is None else Monologue(goal=text, reasoning=text, memory=text)
        changed = apply_thought(
            memory, thought(turn, narrative=narrative, monologue=monologue), BOUNDS
        )
        if changed is not memory:
            assert turn > newest
            newest = turn
        memory = changed
        assert memory.thought == newest and memory.narrated <= newest
        check_bounds(memory, BOUNDS)
    stored = json.loads(json.dumps(to_record(memory)))
    assert from_record(stored, BOUNDS) == memory
    # Read with narrower bounds, it keeps them.
    narrow = Bounds(conversation=9, monologues=30, monologue=10, narrative=3, facts=2)
    check_bounds(from_record(stored, narrow), narrow)


@pytest.mark.parametrize(
    "change",
    [
        {"turn": -1},
        {"turn": "1"},
        {"narrative": 3},
        {"facts": [1]},
        {"monologues": [{"goal": "g"}]},
    ],
)
def test_a_record_that_is_none_is_refused(change):
    with pytest.raises((ValueError, TypeError, KeyError)):
        from_record({**to_record(Memory()), **change}, BOUNDS)


def test_bounds_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match="bound of narrative: 0"):
        Bounds(narrative=0)
    with pytest.raises(UserError, match="give at most 76"):
        Bounds(monologues=100, monologue=77)


def test_the_first_turn_is_the_plain_conversation():
    history = [user("I fear dogs. Which pet?")]
    assert talker_messages(Memory(), history, Thinking()) == history
