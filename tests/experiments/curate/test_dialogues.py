"""Dialogues turn by turn: histories, failures, and what they have used."""

import dataclasses
import json

import pytest

from experiments.common.chats.cache import cached, open_store
from experiments.common.chats.model import Answer, Bill, Limits
from experiments.curate.dialogues import (
    LIMITS,
    Dialogue,
    dialogue_of,
    dialogue_row,
    hold,
    total_bills,
)
from experiments.curate.ways import Plain, Turn, guided
from gdpo_jax.errors import UserError
from tests.experiments.curate.dialogue_cases import Speaking, case

BILL = Bill(asked=1, cached=0, prompt_tokens=4, completion_tokens=2, cost=0.5, unpriced=0)


def test_each_turn_sees_the_turns_before_it():
    model = Speaking(lambda messages: f"to {messages[-1]['content'][:1]} {len(messages)}")
    cases = [case(0, turns=("a", "b", "c")), case(1, turns=("d",))]
    [long, short], paid = hold(model, cases, Plain())
    assert long.answers == ("to a 1", "to b 3", "to c 5")
    assert short.answers == ("to d 1",)
    # A turn of all dialogues is asked together.
    assert [len(asked) for asked in model.asked] == [1, 1, 3, 5]
    assert model.asked[3] == ["a (sc1, 0)", "to a 1", "b (sc1, 0)", "to b 3", "c (sc1, 0)"]
    assert long.bills == {"talker": dataclasses.replace(BILL, asked=3, prompt_tokens=12,
                                                        completion_tokens=6, cost=1.5)}  # fmt: skip
    assert (long.tokens, long.reason, long.failed) == (2, "stop", "")
    assert paid["talker"].asked == 4
    assert (long.judged.question, long.judged.answer) == ("c (sc1, 0)", "to c 5")


def test_a_dialogue_that_fails_is_listed_and_the_others_go_on():
    def say(messages):
        text = messages[-1]["content"]
        return UserError("status 500") if text == "b (sc1, 1)" else "" if "0)" in text else "yes"

    cases = [case(0, turns=("a", "b")), case(1, turns=("a", "b")), case(2, turns=("a", "b"))]
    model = Speaking(say)
    [silent, refused, fine], _ = hold(model, cases, Plain())
    assert "the answer is empty, twice" in silent.failed and silent.answers == ()
    assert refused.failed == "sc1/0001, turn 2: status 500" and refused.answers == ("yes",)
    assert fine.failed == "" and fine.answers == ("yes", "yes")
    # The silent one was asked twice, and not for its second turn.
    assert len(model.asked) == 3 + 1 + 2


class Odd:
    """A way whose first dialogue gets a blank answer, and whose thinker fails."""

    def start(self):
        return 0

    def turn(self, model, states, histories, limits, names):
        return [
            Turn(
                answer=Answer(text=" " if n == 0 else "x"),
                state=state + 1,
                error="the thinker failed",
                narrative=f"story {state}",
                calls=(("talker", Answer(text="x")), ("thinker", Answer(text="y", cost=2.0))),
                seconds={"talker": 1.5},
            )
            for n, state in enumerate(states)
        ]


def test_narratives_errors_and_components_of_a_way():
    [blank, fine], paid = hold(Speaking(), [case(0), case(1, turns=("a",))], Odd())
    assert (blank.failed, blank.answers, blank.narratives) == ("the answer is empty", (), ())
    assert (fine.failed, fine.answers, fine.narratives) == ("", ("x",), ("story 0",))
    assert fine.errors == ("the thinker failed",)
    assert fine.seconds == {"talker": 1.5}
    assert (paid["thinker"].asked, paid["thinker"].cost) == (2, 4.0)


def test_rows_and_sums(tmp_path):
    [dialogue], _ = hold(Speaking(), [case(0)], guided(), Limits(max_new_tokens=5))
    row = json.loads(json.dumps(dialogue_row(dialogue)))
    assert dialogue_of(row) == dialogue
    with pytest.raises(UserError, match="no dialogue of this project: KeyError"):
        dialogue_of({"case": row["case"]})
    two = total_bills([{"talker": BILL}, {"talker": BILL, "judge": BILL}])
    assert two == {"talker": Bill(**{k: 2 * v for k, v in vars(BILL).items()}), "judge": BILL}
    assert total_bills([]) == {}


def test_bills_are_in_full_and_paid_is_this_time(tmp_path):
    store = open_store(tmp_path / "answers.sqlite")
    model = cached(Speaking(), store)
    [first], paid = hold(model, [case(0)], Plain())
    [second], again = hold(model, [case(0)], Plain())
    store.close()
    assert (paid["talker"].asked, again["talker"].asked, again["talker"].cached) == (2, 0, 2)
    assert first.bills == second.bills and first.bills["talker"].cost == 1.0


def test_equal_ids_and_the_published_limit():
    with pytest.raises(UserError, match="same id"):
        hold(Speaking(), [case(0), case(0)], Plain())
    assert hold(Speaking(), [], Plain()) == ([], {})
    assert (LIMITS.max_new_tokens, LIMITS.temperature) == (100, 0.7)
    assert Dialogue(case=case(0), answers=()).failed == ""
