"""A conversation cut to a size, so that a long one still fits, without what matters getting lost.

What stays, in this order: leading system messages and the user's newest turn, always; what he said
about himself in turns that are left out, as a list; the first exchange; the newest exchanges. An
exchange stays or goes as a whole, so that user and assistant still take turns.
"""

import dataclasses
from collections.abc import Sequence

from experiments.common.chats.messages import Conversation, Message
from experiments.curate.facts import bounded_facts, facts_said
from experiments.curate.mirror.memory import tokens_in

__all__ = ["Shown", "bounded", "split_history"]

_PER_MESSAGE = 20  # tokens of roles and marks around a message, as the published code estimates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """A part of a conversation that fits."""

    system: tuple[Message, ...]
    messages: tuple[Message, ...]
    facts: tuple[str, ...]  # what the user said about himself in turns that are not in it

    @property
    def size(self) -> int:
        """About how many tokens it has."""
        return _size((*self.system, *self.messages)) + _facts_size(self.facts)


def bounded(
    history: Conversation, known: Sequence[str], *, tokens: int, facts_tokens: int
) -> Shown:
    """What of a history is shown in so many tokens.

    known: what the user said about himself, in this conversation or before it. The system
    messages, the newest turn and `facts_tokens` of facts stay even where they alone are more.
    """
    system, exchanges = split_history(history)
    *before, newest = exchanges or [()]
    room = tokens - _size((*system, *newest))
    here = facts_said(history)
    everything = [*(fact for fact in known if fact not in here), *here]
    everything = bounded_facts(everything, most=4 * facts_tokens)
    earlier = tuple(fact for fact in everything if fact not in here)
    for reserve in (_facts_size(earlier), _facts_size(everything)):
        # Where the whole history fits beside what was said before it, nothing else needs room.
        kept = _fitting(before, room - reserve)
        if len(kept) == len(before):
            break
    messages = [*(m for n in sorted(kept) for m in before[n]), *newest]
    present = facts_said(messages)
    facts = tuple(fact for fact in everything if fact not in present)
    return Shown(system=tuple(system), messages=tuple(messages), facts=facts)


def split_history(history: Conversation) -> tuple[list[Message], list[tuple[Message, ...]]]:
    """Leading system messages, and exchanges: a user's message and what follows until the next."""
    first = next((n for n, m in enumerate(history) if m["role"] != "system"), len(history))
    exchanges: list[list[Message]] = []
    for message in history[first:]:
        if message["role"] == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(message)
    return list(history[:first]), [tuple(exchange) for exchange in exchanges]


def _fitting(exchanges: Sequence[Sequence[Message]], room: int) -> set[int]:
    """The first exchange, and the newest ones without a gap, as far as they fit."""
    kept: set[int] = set()
    if exchanges and (size := _size(exchanges[0])) <= room:
        kept, room = {0}, room - size
    for n in range(len(exchanges) - 1, 0, -1):
        if (size := _size(exchanges[n])) > room:
            break
        kept.add(n)
        room -= size
    return kept


def _size(messages: Sequence[Message]) -> int:
    return sum(tokens_in(message["content"]) + _PER_MESSAGE for message in messages)


def _facts_size(facts: Sequence[str]) -> int:
    return _PER_MESSAGE + sum(tokens_in(fact) + 1 for fact in facts) if facts else 0
