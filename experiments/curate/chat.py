"""`chat`: a conversation in the terminal, the narrative that the talker saw beside each answer."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TextIO

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from tyro.conf import arg

from experiments.common.chats.messages import Message
from experiments.common.chats.model import Limits
from experiments.common.runs.chat_models import ModelOptions, open_chat_model
from experiments.common.runs.experiment import Experiment
from experiments.curate.mirror.log import CostLog, cost_table
from experiments.curate.mirror.memory import Memory
from experiments.curate.mirror.runtime import Pace, Reply, Runtime
from experiments.curate.mirror.store import Memories, open_memories
from experiments.curate.mirror.thinking import Thinking
from gdpo_jax.errors import UserError

__all__ = ["chatting", "converse"]

_MEMORY = Path("mirror.sqlite")
_PATIENCE = Pace().thinking_timeout  # seconds; thinking takes no longer
_HELP = (
    "/memory shows what is known of you, /users who has a memory, /clear forgets you and the "
    "conversation, /new begins another conversation, /costs what the parts have used, /quit ends"
)


def chatting(experiment: Experiment) -> Callable[..., None]:
    """The command `chat` of an experiment, whose trained arms it can talk with."""

    def chat(
        options: Annotated[ModelOptions, arg(name="")] = ModelOptions(),
        thinking: Thinking = Thinking(),
        user: str = "me",
        memory: Path = _MEMORY,
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        wait: bool | None = None,
        log: Path | None = None,
    ) -> None:
        """Talk with a model that has MIRROR around it; /help lists what else can be typed.

        Args:
            thinking: how MIRROR thinks.
            user: whose memory is used; it outlasts the conversation.
            memory: file of memories.
            max_new_tokens: of an answer, at most.
            temperature: of the answers; 0 takes the most likely token each time.
            wait: a turn waits for thinking about the one before; by default only where the input
                is no terminal, so that a file of turns gives the same conversation each time.
            log: file of one JSON row for every answer and thought.
        """
        limits = Limits(max_new_tokens=max_new_tokens, temperature=temperature)
        waits = not sys.stdin.isatty() if wait is None else wait
        pace = Pace(wait=_PATIENCE if waits else 0.0, concurrency=1)
        model, console = open_chat_model(options, experiment), Console()
        memories = open_memories(memory, thinking.bounds)
        events = CostLog(log, console)
        try:
            asyncio.run(
                converse(
                    lambda: Runtime(model, memories, thinking, pace, events),
                    memories,
                    user,
                    limits,
                    console=console,
                    lines=sys.stdin,
                    events=events,
                )
            )
        except KeyboardInterrupt:
            console.print()
        finally:
            memories.close()

    return chat


async def converse(
    open_runtime: Callable[[], Runtime],
    memories: Memories,
    user: str,
    limits: Limits,
    *,
    console: Console,
    lines: TextIO,
    events: CostLog,
) -> None:
    """Answers line by line until the lines end; what the last turn was about is still thought."""
    runtime, history = open_runtime(), []
    terminal = lines.isatty()
    if terminal:
        console.print(_HELP, style="dim", highlight=False)
    try:
        while True:
            if terminal:
                console.print("> ", end="", style="bold")
            line = await _next_line(lines, terminal)
            if not line or line.strip() == "/quit":
                break
            said = line.strip()
            if not said:
                continue
            if not terminal:
                console.print(Text(f"> {said}", style="bold"))
            if said.startswith("/"):
                history = await _command(said, history, memories, user, runtime, console, events)
                continue
            turn: list[Message] = [*history, {"role": "user", "content": said}]
            try:
                reply = await runtime.reply(user, turn, limits)
            except UserError as error:
                # The turn is not part of the conversation; it can be typed again.
                console.print(Text(f"no answer: {error}", style="red"))
                continue
            history = [*turn, {"role": "assistant", "content": reply.answer.text}]
            console.print(_side_by_side(reply))
        await runtime.settle(_PATIENCE)
    finally:
        await runtime.close()


async def _next_line(lines: TextIO, terminal: bool) -> str:
    """The next line, "" at the end; thinking goes on meanwhile."""
    if not terminal:
        return await asyncio.to_thread(lines.readline)
    # A terminal is readable once a line is whole. A thread that waits for one could not be ended
    # by Ctrl-C.
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(lines.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(lines.fileno())
    return lines.readline()


async def _command(
    said: str,
    history: list[Message],
    memories: Memories,
    user: str,
    runtime: Runtime,
    console: Console,
    events: CostLog,
) -> list[Message]:
    """Does what a line with a slash says; returns the conversation as it goes on."""
    match said:
        case "/memory":
            await runtime.settle(_PATIENCE, user)
            console.print(_shown(user, memories.load(user)))
        case "/users":
            for saved in memories.users():
                console.print(Text(f"{saved.user}: {saved.turns} turns"))
        case "/clear":
            there = memories.clear(user)
            console.print(Text(f"{user}: {'forgotten' if there else 'nothing was known'}"))
            return []
        case "/new":
            return []
        case "/costs":
            console.print(cost_table(events.costs))
        case _:
            console.print(_HELP, style="dim", highlight=False)
    return history


def _side_by_side(reply: Reply) -> Table:
    age = "" if reply.age is None else f", {reply.age} turns old" if reply.age else ", up to date"
    grid = Table.grid(expand=True)
    grid.add_column(ratio=3)
    grid.add_column(ratio=2)
    # Texts of models are no markup.
    grid.add_row(
        Panel(Text(reply.answer.text), title=f"answer, turn {reply.turn}"),
        Panel(Text(reply.narrative or "none yet", style="dim"), title=f"narrative{age}"),
    )
    return grid


def _shown(user: str, memory: Memory | None) -> Text:
    if memory is None:
        return Text(f"nothing is known of {user}")
    parts = [
        f"{user}: {memory.turn} turns, {len(memory.monologues)} entries of the thinker",
        f"narrative after turn {memory.narrated}: {memory.narrative or 'none'}",
        *(f"- {fact}" for fact in memory.facts),
    ]
    if memory.monologues:
        parts += [f"{name}: {text}" for name, text in vars(memory.monologues[-1]).items()]
    return Text("\n".join(parts))
