"""MIRROR as a way of benchmarks: batches, and what failures leave."""

import pytest

from experiments.common.chats.model import Limits
from experiments.curate.mirror.thinking import Thinking
from experiments.curate.mirror.way import Mirror
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, assistant, entry, part_of, said_by, user

FIRST = [user("I fear dogs. Hello?")]


LIMITS = Limits(max_new_tokens=9, seed=3)


def turn(way, model, states, histories):
    return way.turn(model, states, histories, LIMITS, [f"d{n}" for n in range(len(states))])


def second(told):
    return [*FIRST, assistant(told.answer.text), user("Which pet?")]


def test_all_dialogues_of_a_turn_are_decoded_together():
    way, model = Mirror(), Stub(said_by(controller="He fears dogs."))
    turns = turn(way, model, [way.start()] * 5, [FIRST] * 5)
    assert model.batches == [("talker", 5), ("manager", 5), ("controller", 5)]
    told = turns[0]
    assert (told.answer.text, told.narrative, told.error) == ("hello", "He fears dogs.", "")
    assert [part for part, _ in told.calls] == ["talker", "manager", "controller"]
    assert set(told.seconds) == {"talker", "manager", "controller"}
    # The talker has the caller's limits; the first answer has no narrative, the second has.
    talked = [(messages, limits) for part, messages, limits in model.asked if part == "talker"]
    assert talked[0] == (FIRST, LIMITS)
    model.asked.clear()
    [again] = turn(way, model, [told.state], [second(told)])
    assert model.asked[0][1][0]["content"].endswith("He fears dogs.")
    assert model.asked[0][1][1:] == second(told)
    assert (again.state.turn, again.state.narrated, len(again.state.monologues)) == (2, 2, 2)


def test_a_talker_that_fails_fails_its_turn_and_nobody_elses():
    """In the published code the error text is spoken, thought about and judged."""
    say = said_by(talker=lambda m: UserError("status 500") if m == FIRST else "hello")
    way, model = Mirror(), Stub(say)
    states = [way.start()] * 2
    failed, fine = turn(way, model, states, [FIRST, [user("Hello?")]])
    assert failed.answer is None and "status 500" in failed.error
    assert failed.state is states[0] and failed.narrative == ""
    assert fine.answer.text == "hello" and fine.error == ""
    assert "status 500" not in str(model.asked) and "status 500" not in str(fine.state)


@pytest.mark.parametrize(
    ("broken", "says", "entries"),
    [
        ({"manager": UserError("status 500")}, "manager: ", 1),
        ({"manager": "no entry"}, "manager: it is not a JSON object, twice", 1),
        ({"manager": ""}, "manager: ", 1),
        ({"controller": UserError("status 500")}, "controller: ", 2),
        ({"controller": ""}, "controller: ", 2),
    ],
)
def test_a_thinker_that_fails_leaves_the_last_good_state(broken, says, entries):
    way = Mirror()
    [told] = turn(way, Stub(said_by(controller="He fears dogs.")), [way.start()], [FIRST])
    model = Stub(said_by(**broken))
    [after] = turn(way, model, [told.state], [second(told)])
    assert after.answer.text == "hello" and after.error.startswith(says)
    assert after.narrative == after.state.narrative == "He fears dogs."
    assert len(after.state.monologues) == entries
    assert after.state.facts == told.state.facts and after.state.turn == 2
    for kept in (after.state, after.narrative):
        assert "status 500" not in str(kept) and "no entry" not in str(kept)


def test_an_entry_that_cannot_be_read_is_asked_once_more_for_its_dialogue_alone():
    def manage(messages):
        second_time = len(messages) > 2
        return entry() if second_time or "User: a" not in messages[1]["content"] else "no entry"

    way, model = Mirror(), Stub(said_by(manager=manage))
    turns = turn(way, model, [way.start()] * 2, [[user("a")], [user("b")]])
    assert [t.error for t in turns] == ["", ""]
    assert model.batches == [("talker", 2), ("manager", 2), ("manager", 1), ("controller", 2)]
    assert [part for part, _ in turns[0].calls] == ["talker", "manager", "manager", "controller"]


@pytest.mark.parametrize(
    ("parts", "asked"),
    [("both", ["manager", "controller"]), ("manager", ["manager"]), ("controller", ["controller"])],
)
def test_one_part_alone(parts, asked):
    way, model = Mirror(Thinking(parts=parts)), Stub()
    [told] = turn(way, model, [way.start()], [FIRST])
    assert model.parts() == ["talker", *asked] and told.narrative
    assert len(told.state.monologues) == ("manager" in asked)
    assert part_of(model.asked[-1][1]) == asked[-1]
