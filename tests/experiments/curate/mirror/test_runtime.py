"""Thinking in the background: what is late, fails or hangs never reaches anybody."""

import asyncio
import contextlib
import threading

import pytest

from experiments.common.chats.model import Limits
from experiments.curate.mirror.costs import add_calls, event_row
from experiments.curate.mirror.memory import Bounds
from experiments.curate.mirror.runtime import Busy, Late, Pace, Runtime
from experiments.curate.mirror.store import open_memories
from experiments.curate.mirror.thinking import Thinking
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, entry, said_by, user

ASK = [user("I fear dogs. Which pet?")]
LIMITS = Limits(max_new_tokens=9)


@pytest.fixture
def memories(tmp_path):
    with contextlib.closing(open_memories(tmp_path / "memories", Bounds())) as opened:
        yield opened


def run(say, memories, scenario, pace=None, thinking=Thinking()):
    """Runs `scenario(runtime)`; returns what it returns, the events and the model."""
    events, model = [], Stub(say)

    async def main():
        runtime = Runtime(model, memories, thinking, pace or Pace(), events.append)
        try:
            return await scenario(runtime)
        finally:
            await runtime.close()

    return asyncio.run(main()), events, model


def told(events):
    return [event.what for event in events]


class Gate:
    """A reply that waits until it is let through, a fraction of a second at most in the end."""

    def __init__(self, text):
        self.text, self.reached, self.opened = text, threading.Event(), threading.Event()

    def __call__(self, messages):
        self.reached.set()
        self.opened.wait(30)
        return self.text


async def reached(gate):
    await asyncio.to_thread(gate.reached.wait, 30)


def test_the_answer_is_there_before_the_thought(memories):
    gate = Gate(entry())

    async def scenario(runtime):
        first = await runtime.reply("ann", ASK, LIMITS)
        await reached(gate)
        second = await runtime.reply("ann", ASK, LIMITS)  # does not wait: no narrative yet
        gate.opened.set()
        await runtime.settle(30)
        return first, second, await runtime.reply("ann", ASK, LIMITS)

    (first, second, third), events, _ = run(said_by(manager=gate), memories, scenario)
    assert [(r.turn, r.narrative, r.age) for r in (first, second)] == [(1, "", None), (2, "", None)]
    assert (third.turn, third.narrative, third.age) == (3, "he must not eat nuts", 0)
    assert [e.age for e in events if e.what == "answered"] == [None, None, 0]


def test_a_turn_waits_for_the_thought_where_that_is_asked_for(memories):
    async def scenario(runtime):
        return [await runtime.reply("ann", ASK, LIMITS) for _ in range(3)]

    replies, events, _ = run(said_by(), memories, scenario, Pace(wait=30))
    assert [r.age for r in replies] == [None, 0, 0]
    assert told(events)[:4] == ["answered", "thought", "answered", "thought"]


def test_an_older_thought_does_not_overwrite_a_newer_one(memories):
    """The published code shares one list between both, and the older may write last."""
    gate, count = Gate("old"), [0]

    def control(messages):
        count[0] += 1
        return gate(messages) if count[0] == 1 else "new"

    async def scenario(runtime):
        await runtime.reply("ann", ASK, LIMITS)
        await reached(gate)
        await runtime.reply("ann", ASK, LIMITS)
        while memories.load("ann").narrative != "new":
            await asyncio.sleep(0.001)
        gate.opened.set()
        await runtime.settle(30)

    _, events, _ = run(said_by(controller=control), memories, scenario)
    memory = memories.load("ann")
    assert (memory.narrative, memory.narrated, len(memory.monologues)) == ("new", 2, 1)
    assert [(e.what, e.turn) for e in events if e.what != "answered"] == [
        ("thought", 2),
        ("late", 1),
    ]


def test_a_thought_about_the_time_before_a_memory_was_cleared_is_dropped(memories):
    """In the published variant late threads of an old conversation write into the new one."""
    gate = Gate("old")
    replies = [gate, "new"]

    async def scenario(runtime):
        await runtime.reply("ann", ASK, LIMITS)
        await reached(gate)
        memories.clear("ann")
        gate.opened.set()
        await runtime.settle(30)
        assert memories.load("ann") is None
        await runtime.reply("ann", [user("I like tea.")], LIMITS)
        await runtime.settle(30)

    say = said_by(controller=lambda m: replies.pop(0)(m) if len(replies) > 1 else "new")
    _, events, _ = run(say, memories, scenario)
    memory = memories.load("ann")
    assert (memory.turn, memory.narrative, memory.facts) == (1, "new", ("I like tea.",))
    assert told(events) == ["answered", "late", "answered", "thought"]


def test_thinking_that_hangs_keeps_the_narrative_and_fails_no_talker(memories):
    """In the published code the narrative becomes a message about the time-out."""
    gate = Gate("too late")

    async def once(runtime):
        reply = await runtime.reply("ann", ASK, LIMITS)
        await runtime.settle(30)
        return reply

    async def scenario(runtime):
        replies = [await once(runtime), await once(runtime)]  # both thoughts hang
        gate.opened.set()
        return replies

    run(said_by(controller="he fears dogs"), memories, once)
    pace = Pace(thinking_timeout=0.1, concurrency=1)
    replies, events, _ = run(said_by(controller=gate), memories, scenario, pace)
    assert [(r.answer.text, r.narrative, r.age) for r in replies] == [
        ("hello", "he fears dogs", 0),
        ("hello", "he fears dogs", 1),
    ]
    late = [e for e in events if e.what == "kept"]
    assert [(e.turn, e.error) for e in late] == [(n, "no thought within 0.1 s") for n in (2, 3)]
    memory = memories.load("ann")
    assert (memory.narrative, memory.turn, memory.narrated) == ("he fears dogs", 3, 1)


@pytest.mark.parametrize(
    "broken",
    [
        {"manager": UserError("status 500")},
        {"manager": "no entry"},
        {"controller": UserError("status 500")},
        {"controller": " "},
        {"manager": RuntimeError("a defect")},
    ],
)
def test_a_thinker_that_fails_is_told_and_keeps_the_narrative(memories, broken):
    async def scenario(runtime):
        replies = [await runtime.reply("ann", ASK, LIMITS)]
        await runtime.settle(30)
        return replies

    run(said_by(controller="he fears dogs"), memories, scenario)
    [reply], events, _ = run(said_by(**broken), memories, scenario)
    assert reply.answer.text == "hello" and reply.narrative == "he fears dogs"
    memory = memories.load("ann")
    assert (memory.narrative, memory.narrated, memory.turn) == ("he fears dogs", 1, 2)
    assert told(events) == ["answered", "kept"] and events[1].error
    for word in ("status 500", "no entry", "defect"):
        assert word not in str(memory)


def test_a_talker_that_fails_is_an_error_and_never_a_text(memories):
    async def scenario(runtime):
        with pytest.raises(UserError, match="status 500"):
            await runtime.reply("ann", ASK, LIMITS)
        await runtime.settle(30)

    _, events, model = run(said_by(talker=UserError("status 500")), memories, scenario)
    assert told(events) == ["failed"] and model.parts() == ["talker"]
    memory = memories.load("ann")
    assert (memory.narrative, memory.monologues, memory.facts) == ("", (), ())


def test_a_talker_that_hangs_is_late(memories):
    gate = Gate("hello")

    async def scenario(runtime):
        with pytest.raises(Late, match=r"within 0\.05 s"):
            await runtime.reply("ann", ASK, LIMITS)
        gate.opened.set()

    _, events, _ = run(said_by(talker=gate), memories, scenario, Pace(talker_timeout=0.05))
    assert told(events) == ["failed"]


def test_turns_and_thoughts_under_way_are_bounded(memories):
    """The published variant has such a bound, and nothing enforces it."""
    gate = Gate(entry())

    async def scenario(runtime):
        for name in ("ann", "bob", "cid"):
            await runtime.reply(name, ASK, LIMITS)
        gate.opened.set()
        await runtime.settle(30)

    _, events, model = run(said_by(manager=gate), memories, scenario, Pace(most_thinking=2))
    assert told(events).count("skipped") == 1 and told(events).count("thought") == 2
    assert model.parts().count("manager") == 2
    assert memories.load("cid").facts == ("I fear dogs.",)  # what was said is known all the same

    talker = Gate("hello")

    async def crowd(runtime):
        first = asyncio.create_task(runtime.reply(None, ASK, LIMITS))
        await reached(talker)
        with pytest.raises(Busy, match="1 turns are under way"):
            await runtime.reply(None, ASK, LIMITS)
        talker.opened.set()
        return await first

    reply, _, _ = run(said_by(talker=talker), memories, crowd, Pace(most_waiting=1))
    assert reply.answer.text == "hello"


def test_without_a_user_or_without_thinking_nothing_is_kept(memories):
    async def scenario(runtime):
        return await runtime.reply(None, ASK, LIMITS), await runtime.reply("ann", ASK, LIMITS)

    replies, events, model = run(said_by(), memories, scenario, thinking=None)
    assert [(r.turn, r.age) for r in replies] == [(0, None)] * 2
    assert memories.users() == [] and model.parts() == ["talker"] * 2
    assert told(events) == ["answered"] * 2
    with pytest.raises(UserError, match="memories"):
        Runtime(model, None, Thinking(), Pace(), events.append)


def test_memories_that_cannot_be_used_fail_no_talker(memories):
    async def scenario(runtime):
        await runtime.reply("ann", ASK, LIMITS)
        await runtime.settle(30)
        memories.connection.execute("UPDATE memories SET memory = '{'")
        return await runtime.reply("ann", ASK, LIMITS)

    reply, events, _ = run(said_by(), memories, scenario)
    assert (reply.answer.text, reply.turn, reply.narrative) == ("hello", 0, "")
    assert told(events) == ["answered", "thought", "forgotten", "answered"]
    assert "damaged" in events[2].error


def test_costs_are_summed_by_part_and_rows_hold_no_word_of_anybody(memories):
    async def scenario(runtime):
        await runtime.reply("ann", ASK, LIMITS)
        await runtime.settle(30)

    _, events, _ = run(said_by(manager="no entry"), memories, scenario)
    costs = add_calls({}, [call for event in events for call in event.calls])
    assert {part: (c.calls, c.failed, c.cost) for part, c in costs.items()} == {
        "talker": (1, 0, 0.5),
        "manager": (2, 0, 1.0),
    }
    assert costs["manager"].completion_tokens == 6 and costs["manager"].prompt_tokens == 14
    assert 0 <= costs["manager"].slowest <= costs["manager"].seconds
    row = event_row(events[0], now=1.5)
    assert (row["what"], row["user"], row["turn"], row["time"]) == ("answered", "ann", 1, 1.5)
    [call] = row["calls"]
    assert (call["part"], call["cost"], call["completion_tokens"]) == ("talker", 0.5, 3)
    for event in events:
        for word in ("hello", "dogs", "no entry"):
            assert word not in str(event_row(event, now=0.0))


@pytest.mark.parametrize(
    "change", [{"wait": -1}, {"talker_timeout": 0}, {"concurrency": 0}, {"most_thinking": 0}]
)
def test_a_pace_that_means_nothing_is_refused(change):
    with pytest.raises(UserError, match=next(iter(change))):
        Pace(**change)
