"""What the parts of MIRROR cost, in time, tokens and money, and what a log tells of an event."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.curate.mirror.runtime import Call, Event

__all__ = ["PartCost", "add_calls", "event_row"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartCost:
    """Sums over the calls of one part; means are sums by calls."""

    calls: int = 0
    failed: int = 0  # among them
    seconds: float = 0.0
    slowest: float = 0.0  # seconds
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    unpriced: int = 0  # answers whose cost nobody knows

    def plus(self, call: Call) -> "PartCost":
        """The sums with one more call."""
        answer = call.answer
        return PartCost(
            calls=self.calls + 1,
            failed=self.failed + (answer is None),
            seconds=self.seconds + call.seconds,
            slowest=max(self.slowest, call.seconds),
            prompt_tokens=self.prompt_tokens + ((answer and answer.prompt_tokens) or 0),
            completion_tokens=self.completion_tokens + ((answer and answer.completion_tokens) or 0),
            cost=self.cost + ((answer and answer.cost) or 0.0),
            unpriced=self.unpriced + (answer is not None and answer.cost is None),
        )


def add_calls(costs: Mapping[str, PartCost], calls: Iterable[Call]) -> dict[str, PartCost]:
    """The costs by part with further calls."""
    total = dict(costs)
    for call in calls:
        total[call.part] = total.get(call.part, PartCost()).plus(call)
    return total


def event_row(event: Event, *, now: float) -> dict[str, Any]:
    """JSON values for a log: no word of what anybody said. now: seconds since 1970."""
    calls = [
        {
            "part": call.part,
            "seconds": round(call.seconds, 4),
            "failed": call.answer is None,
            "prompt_tokens": call.answer and call.answer.prompt_tokens,
            "completion_tokens": call.answer and call.answer.completion_tokens,
            "cost": call.answer and call.answer.cost,
        }
        for call in event.calls
    ]
    return {
        "time": now,
        "what": event.what,
        "user": event.user,
        "turn": event.turn,
        "narrative_age": event.age,
        "error": event.error,
        "calls": calls,
    }
