"""Exchanges that stand between a statement and the question about it, as many as are asked for."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.files.json_rows import read_rows, shown
from experiments.curate.data.own import own_trivia
from gdpo_jax.errors import UserError

__all__ = ["Exchange", "own_distractors", "read_distractors"]

Exchange = tuple[str, str]  # what the user says, and the assistant's answer

_LARGEST = 1000  # numbers in sums; there are a million sums
_MOST = 10_000  # published are 300 at most


def own_distractors(count: int, *, seed: int = 0) -> tuple[Exchange, ...]:
    """`count` different exchanges: trivia in random order, then sums.

    More of them only append to fewer. Raises UserError for a count below 0 or above 10,000.
    """
    if not 0 <= count <= _MOST:
        raise UserError(f"{count} distractor exchanges: give a number from 0 to {_MOST}")
    rng = np.random.default_rng([seed, len(own_trivia())])
    found = [own_trivia()[i] for i in rng.permutation(len(own_trivia()))][:count]
    seen = set()
    while len(found) < count:
        a, b = (int(n) for n in rng.integers(1, _LARGEST, size=2))
        if (a, b) not in seen:
            seen.add((a, b))
            found.append((f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."))
    return tuple(found)


def read_distractors(path: Path, count: int) -> tuple[Exchange, ...]:
    """The first `count` exchanges of a file of chats, chat by chat in the order of the file.

    The file is JSON rows with `conversation`: a list of {"role": "user" or "assistant", "content"},
    as PrefEval's filtered_inter_turns.json. An exchange is a user's message with the answer right
    behind it; messages without a partner are left out.

    Raises UserError for an unreadable file, a malformed message, and a file with too few exchanges.
    """
    if count < 0:
        raise UserError(f"{count} distractor exchanges: give a number from 0 on")
    found: list[Exchange] = []
    for number, row in enumerate(read_rows(path)):
        where = f"{path}, row {number}, field 'conversation'"
        found += _exchanges(row.get("conversation"), where)
    if len(found) < count:
        raise UserError(f"{path} has {len(found)} exchanges, {count} are asked for; ask for fewer")
    return tuple(found[:count])


def _exchanges(messages: Any, where: str) -> list[Exchange]:
    if not isinstance(messages, list):
        raise UserError(f"{where}: expected a list of messages, found {shown(messages)}")
    checked = [_message(message, f"{where}, message {n}") for n, message in enumerate(messages)]
    return [
        (text, answer)
        for (role, text), (next_role, answer) in itertools.pairwise(checked)
        if role == "user" and next_role == "assistant"
    ]


def _message(message: Any, where: str) -> tuple[str, str]:
    role = message.get("role") if isinstance(message, dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(role, str) or not isinstance(text, str):
        raise UserError(f"{where}: expected role and content, found {shown(message)}")
    return role, text
