"""What MIRROR knows of a user, and how it changes: pure functions on one frozen record.

Four characters count as one token, as in the published code. Whatever happens, a memory stays
within the bounds, and a thought that comes late changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.curate.facts import MOST_CHARACTERS, bounded_facts, remember
from gdpo_jax.errors import UserError

__all__ = [
    "Bounds",
    "Memory",
    "Monologue",
    "Thought",
    "apply_thought",
    "begin_turn",
    "cut_text",
    "finish_turn",
    "from_record",
    "narrative_age",
    "to_record",
    "tokens_in",
    "trim_monologues",
]

_PER_MESSAGE = 4  # tokens that a stored monologue takes besides its text
_FULL, _AFTER = 0.9, 0.8  # of the cap: trimmed above the first, down to the second


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounds:
    """The most tokens of each buffer."""

    conversation: int = 20_000  # that the talker sees, and the manager
    monologues: int = 10_000  # the thinker's past entries
    monologue: int = 3_000  # one entry, and what the manager may say
    narrative: int = 3_000  # and what the controller may say
    facts: int = MOST_CHARACTERS // 4  # what the user said about himself

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise UserError(f"bound of {name}: {value} tokens; give at least 1")
        room = int(self.monologues * _AFTER)
        if self.monologue + _PER_MESSAGE > room:
            raise UserError(
                f"an entry of {self.monologue} tokens does not fit into {self.monologues} tokens "
                f"of past entries; give at most {room - _PER_MESSAGE}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monologue:
    """An entry of the thinker: its three threads."""

    goal: str
    reasoning: str
    memory: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """What is known of a user, or of one dialogue, between turns.

    session: of the memory's life; another one once it was cleared, so that a thought about the
    time before is known as such.
    """

    session: str = ""
    turn: int = 0  # turns that have begun
    thought: int = 0  # the turn that the newest thought is about
    narrative: str = ""
    narrated: int = 0  # the turn after which the narrative was written; 0 for none
    monologues: tuple[Monologue, ...] = ()  # oldest first
    facts: tuple[str, ...] = ()  # what the user said about himself, oldest first


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thought:
    """What thinking about one turn gave; None stands for a part that gave nothing."""

    session: str
    turn: int
    monologue: Monologue | None = None
    narrative: str | None = None
    error: str = ""  # why a part gave nothing


def begin_turn(memory: Memory) -> Memory:
    """A new turn, whose number is `turn` of the result."""
    return dataclasses.replace(memory, turn=memory.turn + 1)


def finish_turn(memory: Memory, history: Conversation, bounds: Bounds) -> Memory:
    """The turn was answered: what the user said about himself in the conversation is known."""
    facts = remember(memory.facts, history, most=4 * bounds.facts)
    return dataclasses.replace(memory, facts=facts)


def apply_thought(memory: Memory, thought: Thought, bounds: Bounds) -> Memory:
    """The memory after a thought. A part without a result keeps what was there.

    Unchanged for a thought of another session, and for one about a turn that is not newer than the
    last thought's.
    """
    if thought.session != memory.session or thought.turn <= memory.thought:
        return memory
    if thought.monologue is None and thought.narrative is None:
        return memory
    monologues, narrative, narrated = memory.monologues, memory.narrative, memory.narrated
    if thought.monologue is not None:
        entry = _cut_monologue(thought.monologue, bounds)
        monologues = trim_monologues((*monologues, entry), bounds.monologues)
    if thought.narrative is not None:
        narrative, narrated = cut_text(thought.narrative, bounds.narrative), thought.turn
    return dataclasses.replace(
        memory,
        thought=thought.turn,
        monologues=monologues,
        narrative=narrative,
        narrated=narrated,
    )


def narrative_age(memory: Memory) -> int | None:
    """How many answered turns the narrative does not know; None without a narrative.

    0 during a turn whose narrative was written after the turn before.
    """
    return memory.turn - 1 - memory.narrated if memory.narrated else None


def trim_monologues(entries: Sequence[Monologue], cap: int) -> tuple[Monologue, ...]:
    """The newest entries: above nine tenths of the cap as many as fit into eight tenths."""
    sizes = [_size(entry) for entry in entries]
    total, first = sum(sizes), 0
    if total > _FULL * cap:
        while total > _AFTER * cap:
            total -= sizes[first]
            first += 1
    return tuple(entries[first:])


def tokens_in(text: str) -> int:
    """About how many tokens a text has, rounded up."""
    return -(-len(text) // 4)


def cut_text(text: str, tokens: int) -> str:
    """A text of at most so many tokens, cut behind a sentence where one ends in its second half."""
    text = text.strip()
    if tokens_in(text) <= tokens:
        return text
    text = text[: 4 * tokens]
    end = max(text.rfind(mark) for mark in (". ", "! ", "? ", ".\n", "\n"))
    return text[: end + 1].strip() if end >= len(text) // 2 else text.strip()


def to_record(memory: Memory) -> dict[str, Any]:
    """JSON values that `from_record` reads."""
    return dataclasses.asdict(memory)


def from_record(record: Mapping[str, Any], bounds: Bounds) -> Memory:
    """A stored memory, within bounds that may be narrower than those it was made with.

    Raises ValueError, KeyError or TypeError for a record that is none.
    """
    numbers = {name: record[name] for name in ("turn", "thought", "narrated")}
    texts = {name: record[name] for name in ("session", "narrative")}
    if not all(type(value) is int and value >= 0 for value in numbers.values()):
        raise ValueError("a turn's number is none")
    if not all(isinstance(value, str) for value in (*texts.values(), *record["facts"])):
        raise ValueError("a text is none")
    entries = [Monologue(**entry) for entry in record["monologues"]]
    if not all(isinstance(text, str) for entry in entries for text in vars(entry).values()):
        raise ValueError("a thread is no text")
    return Memory(
        **numbers,
        session=texts["session"],
        narrative=cut_text(texts["narrative"], bounds.narrative),
        monologues=trim_monologues(
            [_cut_monologue(entry, bounds) for entry in entries], bounds.monologues
        ),
        facts=bounded_facts(record["facts"], most=4 * bounds.facts),
    )


def _cut_monologue(entry: Monologue, bounds: Bounds) -> Monologue:
    each = max(1, bounds.monologue // 3)
    return Monologue(**{name: cut_text(text, each) for name, text in vars(entry).items()})


def _size(entry: Monologue) -> int:
    return _PER_MESSAGE + sum(tokens_in(text) for text in vars(entry).values())
