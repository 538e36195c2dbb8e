"""Two users' memories never mix, whatever comes in whatever order."""

import asyncio
import dataclasses
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.common.chats.model import Answer, Limits
from experiments.curate.mirror.memory import Bounds, apply_thought, begin_turn, finish_turn
from experiments.curate.mirror.memory import Memory as Kept
from experiments.curate.mirror.runtime import Pace, Runtime
from experiments.curate.mirror.store import open_memories
from experiments.curate.mirror.thinking import Thinking, talker_messages, think
from gdpo_jax.errors import UserError
from tests.experiments.curate.stub_models import Stub, part_of, user

USERS = ("ann", "bob")
BOUNDS = Bounds(monologues=120, monologue=80, narrative=60, facts=60, conversation=200)
THINKING = Thinking(bounds=BOUNDS)


def echo(messages):
    """What a model says that repeats all it was shown: a mixture would show for ever."""
    seen = " ".join(sorted({u for u in USERS for m in messages if u in m["content"]}))
    if part_of(messages) == "manager":
        return json.dumps({"goal": seen, "reasoning": seen, "memory": seen})
    return f"seen: {seen}"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["turn", "think", "think", "think", "time out", "fail", "clear"]),
        st.sampled_from(USERS),
        st.integers(0, 7),
    ),
    max_size=40,
)


@given(STEPS)
def test_any_interleaving_of_turns_thoughts_failures_and_clearings(steps):
    """Thoughts under way advance call by call, in any order, and apply to what is kept then."""
    kept, under_way, sessions, newest = {}, [], 0, {}
    for action, name, number in steps:
        if action == "turn":
            if name not in kept:
                sessions += 1
                kept[name] = Kept(session=str(sessions))
            history = [user(f"I am {name} and fear number {number}. Well?")]
            begun = begin_turn(kept[name])
            shown = talker_messages(begun, history, THINKING)
            others = set(USERS) - {name}
            assert not any(other in m["content"] for other in others for m in shown)
            kept[name] = finish_turn(begun, history, BOUNDS)
            thinker = think(kept[name], history, echo(shown), THINKING)
            under_way.append([name, thinker, next(thinker)])
        elif action == "clear":
            kept.pop(name, None)
        elif under_way:
            job = under_way[number % len(under_way)]
            if action == "time out":
                under_way.remove(job)
                continue
            owner, thinker, request = job
            failed = action == "fail"
            try:
                job[2] = thinker.send(
                    UserError("status 500") if failed else Answer(text=echo(request.messages))
                )
            except StopIteration as done:
                under_way.remove(job)
                if owner in kept:
                    before = kept[owner]
                    kept[owner] = apply_thought(before, done.value, BOUNDS)
                    if kept[owner] is not before:
                        session = kept[owner].session
                        assert done.value.turn > newest.get(session, 0)
                        newest[session] = done.value.turn
        for owner, memory in kept.items():
            assert not any(other in str(memory) for other in set(USERS) - {owner})
            assert "status 500" not in str(memory)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(USERS), st.integers(0, 2)), min_size=1, max_size=8),
    st.integers(0, 3),
)
def test_the_runtime_with_everybody_at_once(turns, failing):
    """All turns run at the same time, some parts fail, some memories are cleared on the way."""
    count = [0]

    def say(messages):
        count[0] += 1
        return UserError("status 500") if failing and count[0] % 4 == failing else echo(messages)

    model = Stub(say)

    async def one(runtime, memories, name, number):
        if number == 2:
            memories.clear(name)
        try:
            return await runtime.reply(name, [user(f"I am {name} and fear {number}.")], Limits())
        except UserError:
            return None

    async def main(memories):
        runtime = Runtime(model, memories, THINKING, Pace(), lambda event: None)
        try:
            replies = await asyncio.gather(*(one(runtime, memories, *turn) for turn in turns))
            await runtime.settle(10)
        finally:
            await runtime.close()
        return replies

    with tempfile.TemporaryDirectory() as folder:
        memories = open_memories(Path(folder) / "memories", BOUNDS)
        replies = asyncio.run(main(memories))
        for (name, _), reply in zip(turns, replies, strict=True):
            [other] = set(USERS) - {name}
            assert reply is None or other not in str(dataclasses.asdict(reply))
            memory = memories.load(name)
            assert other not in str(memory) and "status 500" not in str(memory)
            assert memory is None or memory.narrated <= memory.turn
        memories.close()
    for part, messages, _ in model.asked:
        text = str(messages)
        assert not all(name in text for name in USERS), part
