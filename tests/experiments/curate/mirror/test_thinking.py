"""How a turn is thought about: requests, what is read, and every failure of a part."""

import json

import pytest

from experiments.common.chats.messages import check_conversation
from experiments.common.chats.model import Answer
from experiments.curate.mirror.memory import Bounds, Memory, Monologue
from experiments.curate.mirror.thinking import Thinking, parse_monologue, talker_messages, think
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import assistant, entry, part_of, user

HISTORY = [user("I fear dogs."), assistant("Noted."), user("Which pet?")]
BEGUN = Memory(
    session="s",
    turn=2,
    narrative="He fears dogs.",
    narrated=1,
    monologues=(Monologue(goal="g1", reasoning="r1", memory="m1"),),
)
ENTRY = Monologue(goal="to eat", reasoning="nuts harm him", memory="allergic to nuts")


def drive(results, parts="both", memory=BEGUN, history=HISTORY):
    """All requests, and the thought; results: texts or errors in order."""
    thinker, requests = think(memory, history, "A cat.", Thinking(parts=parts), seed=5), []
    result = None
    try:
        while True:
            request = thinker.send(result)
            check_conversation(request.messages, alternating=True)
            assert part_of(request.messages) == request.part
            requests.append(request)
            result = results[len(requests) - 1]
            result = Answer(text=result) if isinstance(result, str) else result
    except StopIteration as done:
        assert len(requests) == len(results)
        return requests, done.value


def texts(request):
    return "\n".join(m["content"] for m in request.messages)


def test_manager_then_controller_which_does_not_see_the_conversation():
    [manager, controller], thought = drive([entry(), " All new. "])
    for part in ("Which pet?", "A cat.", "I fear dogs.", "m1"):
        assert part in texts(manager)
    # The latest exchange stands apart, so that nothing else is taken for it.
    latest = texts(manager).split("=== The latest exchange ===\n")[1]
    assert latest == "User: Which pet?\nAssistant: A cat."
    for part in ("to eat", "nuts harm him", "allergic to nuts", "He fears dogs."):
        assert part in texts(controller)
    assert "Which pet?" not in texts(controller)
    assert (manager.limits.max_new_tokens, manager.limits.temperature) == (3000, 0.7)
    assert manager.limits.seed == controller.limits.seed == 5
    assert (thought.turn, thought.session, thought.error) == (2, "s", "")
    assert (thought.monologue, thought.narrative) == (ENTRY, "All new.")


def test_a_part_alone():
    [controller], thought = drive(["New."], "controller")
    assert "Which pet?" in texts(controller) and "He fears dogs." in texts(controller)
    assert (thought.monologue, thought.narrative) == (None, "New.")
    [_], thought = drive([entry()], "manager")
    assert thought.monologue == ENTRY
    assert thought.narrative.splitlines()[:2] == ["=== Goal thread ===", "to eat"]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("I think he wants to eat.", "not a JSON object"),
        ('Here: {"goal": "g", "reasoning": "r", "memory": "m"}', "not a JSON object"),
        ('{"goal": "g", "reasoning": "r", "mem', "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"goal": "g", "reasoning": "r"}', "field 'memory' is missing"),
        ('{"goal": "g", "reasoning": ["r"], "memory": "m"}', "field 'reasoning' is not a text"),
        ('{"goal": " ", "reasoning": "r", "memory": "m"}', "field 'goal' is not a text"),
        ("[" * 100_000, "not a JSON object"),
    ],
)
def test_what_is_no_entry_is_asked_once_more_and_never_made_up(said, problem):
    """The published code takes the first braces it finds, or keeps canned sentences as thoughts."""
    requests, thought = drive([said, entry(), "New."])
    assert problem in requests[1].messages[-1]["content"]
    assert thought.monologue == ENTRY and thought.error == ""
    requests, thought = drive([said, said])
    assert (thought.monologue, thought.narrative) == (None, None)
    assert thought.error.startswith("manager: ") and "twice" in thought.error


def test_an_entry_may_stand_in_a_fence_and_keeps_no_half_characters():
    for text in (entry(), f"```json\n{entry()}\n```\n", f"```\n{entry()}```"):
        assert parse_monologue(text) == ENTRY
    odd = parse_monologue(json.dumps({"goal": "a\n b", "reasoning": "\ud800", "memory": "m"}))
    assert (odd.goal, odd.reasoning) == ("a b", "?")


@pytest.mark.parametrize("failed", [UserError("status 500"), "", " \n"])
def test_a_controller_that_fails_leaves_the_narrative(failed):
    """In the published code the error text becomes the narrative."""
    _, thought = drive([entry(), failed])
    assert thought.narrative is None and thought.monologue == ENTRY
    assert thought.error.startswith("controller: ")


def test_a_manager_that_fails_ends_the_thought():
    _, thought = drive([UserError("status 500")])
    assert (thought.monologue, thought.narrative) == (None, None)
    assert thought.error == "manager: status 500"
    _, thought = drive(["no entry", UserError("status 500")])
    assert thought.error == "manager: status 500"


def test_a_narrative_of_half_characters_does_not_reach_the_talker():
    _, thought = drive([entry(), "he \ud83d fears"])
    assert thought.narrative == "he ? fears"


def test_the_talker_sees_the_narrative_behind_the_conversations_own_system_message():
    system = {"role": "system", "content": "Be brief."}
    shown = talker_messages(BEGUN, [system, *HISTORY], Thinking())
    assert [m["role"] for m in shown] == ["system", "system", "user", "assistant", "user"]
    assert shown[0] == system and shown[1]["content"].endswith("\n\nHe fears dogs.")
    assert shown[2:] == HISTORY


def test_a_long_conversation_keeps_what_the_user_said_of_himself():
    bounds = Bounds(conversation=120)
    filler = [m for n in range(9) for m in (user(f"Number {n}?"), assistant("word " * 20))]
    history = [user("Hello?"), assistant("word " * 90), *HISTORY[:2], *filler, user("Which pet?")]
    shown = talker_messages(BEGUN, history, Thinking(bounds=bounds))
    assert shown[-1] == user("Which pet?") and len(shown) < 6
    assert "- I fear dogs." in shown[0]["content"] and "He fears dogs." in shown[0]["content"]
    # The manager is cut in the same way, and always sees the latest exchange.
    thinker = think(BEGUN, history, "A cat.", Thinking(bounds=bounds))
    manager = texts(next(thinker))
    assert "- I fear dogs." in manager and manager.endswith("User: Which pet?\nAssistant: A cat.")
    assert "Number 1?" not in manager


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="give both, manager or controller"):
        Thinking(parts="none")
    with pytest.raises(UserError, match="temperature"):
        Thinking(temperature=float("nan"))
