"""Many conversations asked at once: a failure is its own conversation's."""

import pytest

from experiments.common.chats.asking import ask_all
from experiments.common.chats.model import Answer, Limits
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, user


def test_failures_stand_in_their_places_and_others_are_asked_once():
    def say(messages):
        text = messages[-1]["content"]
        return UserError("status 500") if text in ("b", "d") else f"to {text}"

    model = Stub(say)
    # "1" is also the end of the other names: the one that is meant must be found.
    names = ["sc 1", "1", "x, sc 1", "d", "e"]
    results = ask_all(model, [[user(c)] for c in "abcde"], Limits(), names)
    texts = [r.text if isinstance(r, Answer) else str(r) for r in results]
    assert texts == [
        "to a",
        "endpoint nowhere, 1: status 500",
        "to c",
        "endpoint nowhere, d: status 500",
        "to e",
    ]
    answered = [m[-1]["content"] for _, m, _ in model.asked]
    assert sorted(set(answered)) == sorted("abcde") and len(answered) == 5


def test_what_no_conversation_gets_past_is_the_error_of_all_that_have_no_answer():
    class Refused(Stub):
        def answer(self, conversations, limits, *, names, on_answer, on_failure):
            super().answer(conversations[:1], limits, names=names[:1], on_answer=on_answer)
            raise UserError("the key is refused")

    model = Refused(lambda messages: "fine")
    first, *others = ask_all(model, [[user(c)] for c in "abc"], Limits(), list("abc"))
    assert first.text == "fine"
    assert [str(error) for error in others] == ["the key is refused"] * 2


def test_an_empty_answer_is_asked_again_as_another_draw_and_then_an_error():
    texts = {0: " \n", 1 << 20: "second"}

    class Draws(Stub):
        def answer(self, conversations, limits, **options):
            self.say = lambda messages: texts[limits.sample]
            return super().answer(conversations, limits, **options)

    [answer] = ask_all(Draws(), [[user("a")]], Limits(), ["a"])
    assert answer.text == "second"
    texts[1 << 20] = ""
    [error] = ask_all(Draws(), [[user("a")]], Limits(), ["a"])
    assert str(error) == "a: the answer is empty, twice"


def test_names_must_differ():
    with pytest.raises(UserError, match="different names"):
        ask_all(Stub(), [[user("a")], [user("b")]], Limits(), ["a", "a"])
