"""MIRROR for people who wait: the talker answers at once, and thinking goes on in the background.

The talker's calls and the thinker's run in threads of their own, so that thinking that hangs takes
no talker's place. A call cannot be stopped from outside; when one is too late, nobody waits for it
any more, and what it gives is dropped.
"""

import asyncio
import dataclasses
import functools
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

from experiments.common.chats.asking import ask_all
from experiments.common.chats.messages import Conversation
from experiments.common.chats.model import Answer, Limits, Model
from experiments.curate.mirror.memory import (
    Memory,
    Thought,
    apply_thought,
    begin_turn,
    finish_turn,
    narrative_age,
)
from experiments.curate.mirror.store import Memories
from experiments.curate.mirror.thinking import Thinking, talker_messages, think
from gdpo_jax.errors import UserError

__all__ = ["Busy", "Call", "Event", "Late", "Pace", "Reply", "Runtime"]


class Busy(UserError):
    """More turns wait for the talker than are allowed."""


class Late(UserError):
    """The talker took too long."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """How long things may take, and how many may go on at a time."""

    wait: float = 0.0  # seconds that a turn waits for thinking about earlier ones: 0 takes the
    # narrative as it is, however old; large values make MIRROR blocking, as published
    talker_timeout: float = 300.0  # seconds
    thinking_timeout: float = 120.0  # seconds, of all parts of the thinker together
    concurrency: int = 8  # calls of the talker at a time, and as many of the thinker
    most_waiting: int = 64  # turns under way; further ones are refused
    most_thinking: int = 64  # thoughts under way; turns above that are not thought about

    def __post_init__(self):
        if not self.wait >= 0:
            raise UserError(f"wait={self.wait}; give 0 seconds or more")
        for name in ("talker_timeout", "thinking_timeout"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)}; give seconds above 0")
        for name in ("concurrency", "most_waiting", "most_thinking"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}; give at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a model for a part of MIRROR."""

    part: str  # talker, manager or controller
    seconds: float
    answer: Answer | None  # None: it failed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a log should know.

    what: "answered"; "failed" (no answer); "thought"; "kept" (thinking gave nothing, or not all:
    what was there stays); "late" (a newer thought, or another session, was there already);
    "skipped" (too many thoughts under way); "forgotten" (the memories could not be used).
    """

    what: str
    user: str
    turn: int = 0
    age: int | None = None  # of the narrative that the talker saw, in turns
    error: str = ""
    calls: tuple[Call, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, and the narrative that the talker saw."""

    answer: Answer
    turn: int = 0  # of the user's memory; 0 without one
    narrative: str = ""
    age: int | None = None  # of the narrative, in turns; None without one


Tell: TypeAlias = Callable[[Event], None]


class Runtime:
    """A model with MIRROR around it, for any number of users; use it in one event loop, and
    `close` it there.

    thinking: None is the talker alone, without memory. tell: is given every event.
    """

    def __init__(
        self,
        model: Model,
        memories: Memories | None,
        thinking: Thinking | None,
        pace: Pace,
        tell: Tell,
    ):
        if thinking is not None and memories is None:
            raise UserError("thinking needs memories to keep what was thought")
        self._model, self._memories, self._thinking = model, memories, thinking
        self._pace, self._tell = pace, tell
        self._talkers = ThreadPoolExecutor(pace.concurrency, "talker")
        self._thinkers = ThreadPoolExecutor(pace.concurrency, "thinker")
        self._talking = 0
        self._tasks: dict[asyncio.Task, str] = {}

    async def reply(self, user: str | None, history: Conversation, limits: Limits) -> Reply:
        """The answer to the history's last turn, as soon as the talker has it.

        user: whose memory is used and thought is kept in; None for neither. Raises `Late`, `Busy`,
        or `UserError` where the model fails; the memory is then as before but for the number of the
        turn.
        """
        if self._talking >= self._pace.most_waiting:
            raise Busy(f"{self._talking} turns are under way; ask again later")
        self._talking += 1
        try:
            return await self._reply(user, history, limits)
        finally:
            self._talking -= 1

    async def settle(self, seconds: float, user: str | None = None) -> None:
        """Waits until nothing is thought about, for one user or all, or so many seconds."""
        tasks = [task for task, whose in self._tasks.items() if user in (None, whose)]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def close(self) -> None:
        """Ends the thinking; what it has not kept so far is lost."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pool in (self._talkers, self._thinkers):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _reply(self, user: str | None, history: Conversation, limits: Limits) -> Reply:
        if user is None or self._thinking is None:
            memory, user = None, None
        else:
            if self._pace.wait:
                await self.settle(self._pace.wait, user)
            memory = await self._begin(user)
        seen = memory or Memory()
        messages = list(history)
        if self._thinking is not None:
            messages = talker_messages(seen, history, self._thinking)
        known = {"user": user or "", "turn": seen.turn, "age": narrative_age(seen)}
        began = time.monotonic()
        try:
            answer = await self._talk(messages, limits)
        except UserError as error:
            call = Call(part="talker", seconds=time.monotonic() - began, answer=None)
            self._tell(Event(what="failed", **known, error=str(error), calls=(call,)))
            raise
        call = Call(part="talker", seconds=time.monotonic() - began, answer=answer)
        self._tell(Event(what="answered", **known, calls=(call,)))
        if memory is not None:
            await self._think_later(user, memory, history, answer.text, limits)
        return Reply(
            answer=answer, turn=seen.turn, narrative=seen.narrative, age=narrative_age(seen)
        )

    async def _talk(self, messages: Conversation, limits: Limits) -> Answer:
        try:
            async with asyncio.timeout(self._pace.talker_timeout):
                return await self._ask(self._talkers, "the turn", messages, limits)
        except TimeoutError:
            raise Late(f"no answer within {self._pace.talker_timeout:g} s") from None

    async def _ask(
        self, pool: ThreadPoolExecutor, name: str, messages: Conversation, limits: Limits
    ) -> Answer:
        ask = functools.partial(ask_all, self._model, [messages], limits, [name])
        [result] = await asyncio.get_running_loop().run_in_executor(pool, ask)
        if isinstance(result, UserError):
            raise result
        return result

    async def _begin(self, user: str) -> Memory | None:
        """The memory at the beginning of a turn; None where the memories cannot be used."""

        def begin(memory: Memory | None) -> Memory:
            return begin_turn(memory or Memory(session=secrets.token_hex(8)))

        try:
            return await asyncio.to_thread(self._memories.change, user, begin)
        except UserError as error:
            self._tell(Event(what="forgotten", user=user, error=str(error)))
            return None

    async def _think_later(
        self, user: str, begun: Memory, history: Conversation, reply: str, limits: Limits
    ) -> None:
        bounds = self._thinking.bounds

        def finish(memory: Memory | None) -> Memory | None:
            same = memory is not None and memory.session == begun.session
            return finish_turn(memory, history, bounds) if same else None

        known = {"user": user, "turn": begun.turn}
        try:
            memory = await asyncio.to_thread(self._memories.change, user, finish)
        except UserError as error:
            self._tell(Event(what="forgotten", **known, error=str(error)))
            return
        if memory is None:  # cleared meanwhile
            return
        if len(self._tasks) >= self._pace.most_thinking:
            reason = f"{len(self._tasks)} thoughts are under way"
            self._tell(Event(what="skipped", **known, error=reason))
            return
        memory = dataclasses.replace(memory, turn=begun.turn)  # another turn may have begun
        task = asyncio.create_task(self._think(user, memory, history, reply, limits))
        self._tasks[task] = user
        task.add_done_callback(lambda done: self._tasks.pop(done))

    async def _think(
        self, user: str, memory: Memory, history: Conversation, reply: str, limits: Limits
    ) -> None:
        known, calls = {"user": user, "turn": memory.turn}, []
        try:
            async with asyncio.timeout(self._pace.thinking_timeout):
                thought = await self._drive(memory, history, reply, limits, calls)
            what = await self._keep(user, thought)
        except TimeoutError:
            reason = f"no thought within {self._pace.thinking_timeout:g} s"
            self._tell(Event(what="kept", **known, error=reason, calls=tuple(calls)))
        # Whatever goes wrong here has an answer already, and must not end more than this thought.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self._tell(Event(what="kept", **known, error=reason, calls=tuple(calls)))
        else:
            self._tell(Event(what=what, **known, error=thought.error, calls=tuple(calls)))

    async def _drive(
        self, memory: Memory, history: Conversation, reply: str, limits: Limits, calls: list[Call]
    ) -> Thought:
        thinker = think(
            memory, history, reply, self._thinking, seed=limits.seed, sample=limits.sample
        )
        result: Answer | UserError | None = None
        while True:
            try:
                request = thinker.send(result)
            except StopIteration as done:
                return done.value
            began = time.monotonic()
            answer = None
            try:
                result = answer = await self._ask(
                    self._thinkers, request.part, request.messages, request.limits
                )
            except UserError as error:
                result = error
            finally:
                seconds = time.monotonic() - began
                calls.append(Call(part=request.part, seconds=seconds, answer=answer))

    async def _keep(self, user: str, thought: Thought) -> str:
        """Applies a thought to what is kept now; returns what became of it."""
        bounds, became = self._thinking.bounds, "kept" if thought.error else "thought"

        def apply(memory: Memory | None) -> Memory | None:
            nonlocal became
            changed = None if memory is None else apply_thought(memory, thought, bounds)
            if changed is memory or changed is None:
                became = "late" if not thought.error else became
                return None
            return changed

        await asyncio.to_thread(self._memories.change, user, apply)
        return became
