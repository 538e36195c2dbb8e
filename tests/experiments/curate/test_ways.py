"""What models are shown by each way, and what becomes of failures."""

import pytest

from experiments.common.chats.model import Limits
from experiments.curate.ways import Facts, Plain, guided, reminder
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, assistant, user

HISTORY = [user("I fear dogs. Who are you?"), assistant("A program."), user("Which pet?")]


def shown(way, state=None):
    return way.messages(way.start() if state is None else state, HISTORY)


def test_what_the_model_is_shown():
    assert shown(Plain()) == HISTORY
    assert shown(guided("Mind me.")) == [*HISTORY[:2], user("Mind me.\nWhich pet?")]
    assert shown(reminder("Mind me.")) == [*HISTORY[:2], user("Which pet?\nMind me.")]
    note, *rest = shown(Facts())
    assert rest == HISTORY and note["role"] == "system"
    assert note["content"].splitlines()[1:] == ["- I fear dogs."]
    # Behind the conversation's own system message, and none where there is nothing to tell.
    system = {"role": "system", "content": "Be brief."}
    with_system = Facts().messages((), [system, *HISTORY])
    assert [m["role"] for m in with_system] == ["system", "system", "user", "assistant", "user"]
    assert with_system[0] == system
    assert Facts().messages((), HISTORY[-1:]) == HISTORY[-1:]


@pytest.mark.parametrize("way", [Plain(), guided(), reminder(), Facts()])
def test_turns_are_one_batch_and_a_failure_is_its_own(way):
    fails = [user("fail")]
    model = Stub(lambda m: UserError("status 500") if "fail" in m[-1]["content"] else "an answer")
    states = [way.start()] * 3
    turns = way.turn(model, states, [HISTORY, fails, HISTORY], Limits(), ["a", "b", "c"])
    assert [t.answer and t.answer.text for t in turns] == ["an answer", None, "an answer"]
    assert turns[1].error == "endpoint nowhere, b: status 500" and turns[1].state == states[1]
    assert turns[0].error == "" and turns[0].calls == (("talker", turns[0].answer),)
    assert model.batches == [("talker", 3)]


def test_facts_are_the_state_and_bounded():
    way = Facts(most_characters=30)
    [turn] = way.turn(Stub(), [("I am old.",)], [HISTORY], Limits(), ["a"])
    assert turn.state == ("I am old.", "I fear dogs.")
    later = [*HISTORY, assistant("A fish."), user("I fear fish as well. So?")]
    [turn] = way.turn(Stub(), [turn.state], [later], Limits(), ["a"])
    assert turn.state == ("I fear dogs.",)  # the oldest hazard stays
