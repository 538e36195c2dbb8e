"""Conversations cut to a size, without what matters getting lost."""

from hypothesis import given
from hypothesis import strategies as st

from experiments.curate.facts import facts_in
from experiments.curate.mirror.history import bounded, split_history
from tests.experiments.curate.stub_models import assistant, user

SYSTEM = {"role": "system", "content": "Be brief."}


def talk(*turns):
    """A conversation: an answer of 40 characters behind every turn but the last."""
    messages = [m for turn in turns for m in (user(turn), assistant("x" * 40))]
    return messages[:-1]


def cut(history, tokens, known=(), facts_tokens=100):
    return bounded(history, known, tokens=tokens, facts_tokens=facts_tokens)


def test_what_fits_is_shown_as_it_is():
    history = [SYSTEM, *talk("I fear dogs.", "a", "b")]
    shown = cut(history, 1000)
    assert [*shown.system, *shown.messages] == history and shown.facts == ()
    # What was said in an earlier conversation is told besides.
    assert cut(history, 1000, known=["I am old.", "I fear dogs."]).facts == ("I am old.",)


def test_first_and_newest_exchanges_stay_and_facts_of_the_others_are_listed():
    history = [SYSTEM, *talk("first", "I fear dogs. Well?", "second", "third", "last")]
    # System 23, newest 21, facts 20 + 4; an exchange of 51 or so: room for two of four.
    shown = cut(history, 175)
    said = [m["content"] for m in shown.messages if m["role"] == "user"]
    assert said == ["first", "third", "last"]
    assert shown.facts == ("I fear dogs.",) and shown.system == (SYSTEM,)
    assert shown.size <= 175
    # Hardly any room: the newest turn, whole, and what must not be forgotten.
    shown = cut(history, 1)
    assert [m["content"] for m in shown.messages] == ["last"]
    assert shown.facts == ("I fear dogs.",)


def test_exchanges_begin_with_a_user():
    history = [SYSTEM, assistant("Welcome."), user("a"), user("b"), assistant("c")]
    system, exchanges = split_history(history)
    assert system == [SYSTEM]
    assert exchanges == [(history[1],), (history[2],), (history[3], history[4])]


TURNS = st.lists(
    st.one_of(
        st.text(alphabet="ab .\n", min_size=1, max_size=200),
        st.sampled_from(["I fear dogs. So?", "I cannot swim.", "I like tea. And you?"]),
    ),
    min_size=1,
    max_size=12,
)


@given(TURNS, st.integers(1, 600))
def test_any_conversation_keeps_size_turns_and_facts(turns, tokens):
    history = talk(*turns)
    shown = cut(history, tokens)
    least = cut(history[-1:], 1, known=shown.facts).size
    assert shown.size <= max(tokens, least)
    assert shown.messages[-1] == history[-1]
    roles = [m["role"] for m in shown.messages]
    assert roles == [("user", "assistant")[n % 2] for n in range(len(roles))]
    kept = {m["content"] for m in shown.messages}
    for turn in turns:
        for fact in facts_in(turn):
            assert turn in kept or fact in shown.facts or any(fact in text for text in kept)
