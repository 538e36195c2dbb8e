"""All rows of the embedded data set: exchanges of enrolled users, and probes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.persona_leakage.data.conversations import conversations, of_equal_length
from experiments.persona_leakage.data.marks import secrets
from experiments.persona_leakage.data.population import enrolled
from experiments.persona_leakage.data.probes import ORDINARY, probes
from experiments.persona_leakage.data.users import User

__all__ = ["contents"]

Rows = list[dict[str, Any]]


def contents(
    users: Sequence[User], *, ordinary: int, of_each: int, sessions: int = 3, seed: int = 0
) -> dict[str, dict[str, Rows]]:
    """Rows by config and split, as `tfds_builder.write_dataset` takes them.

    ordinary: everyday exchanges of each enrolled user's history. of_each: everyday probes of each
    user, who has so many sessions. Raises UserError as `conversations`.
    """
    return {
        "exchanges": {"train": _exchanges(users, ordinary, seed)},
        "probes": {
            split: _probes(users, split, of_each, sessions, seed)
            for split in ("validation", "test")
        },
    }


def _exchanges(users: Sequence[User], ordinary: int, seed: int) -> Rows:
    halves = {user.id: user.half for user in users}
    kinds = {secret.topic: secret.kind for secret in secrets()}
    return [
        {
            "id": f"{conversation.id}/{number}",
            "conversation": conversation.id,
            "user": conversation.user,
            "half": halves[conversation.user],
            "kind": kinds.get(exchange.topic, ORDINARY),
            **dataclasses.asdict(exchange),
            "replaced": of_equal_length(exchange.neutral, exchange.answer),
        }
        for conversation in conversations(enrolled(users), ordinary=ordinary, seed=seed)
        for number, exchange in enumerate(conversation.exchanges)
    ]


def _probes(users: Sequence[User], split: str, of_each: int, sessions: int, seed: int) -> Rows:
    halves = {user.id: user.half for user in users}
    return [
        {
            **dataclasses.asdict(probe),
            "half": halves[probe.user],
            "role": "owner" if halves[probe.user] else "stranger",
        }
        for probe in probes(users, split, of_each=of_each, sessions=sessions, seed=seed)
    ]
