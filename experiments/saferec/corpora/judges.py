"""Who says which sensitivity a user has: rules, a command, any Python function, an endpoint.

SafeCRS (arXiv 2603.03536) asks a language model for the trait that the teacher's list violates most
without contradicting the user. Such a model is plugged in as a command, a function or an endpoint
(`endpoint_judge.py`); the rules need none, and give the same answer every time.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, Protocol

from experiments.common.files.json_rows import read_rows, shown
from experiments.saferec.corpora.records import groundtruth, record_name, teacher_list
from experiments.saferec.items.catalogue import Oracle
from gdpo_jax.errors import UserError

__all__ = [
    "Assignment",
    "Judge",
    "assignment",
    "command_judge",
    "function_judge",
    "remembering_judge",
    "rule_judge",
]


class Assignment(NamedTuple):
    """What a judge says: the key of a trait, or None where no trait fits; and why."""

    trait: str | None
    reason: str


class Judge(Protocol):
    """Assigns one of `trait_keys` to the user of a conversation.

    The record has `prompt`, `teacher`, `groundtruth_with_release_year` and `seen_titles`.
    """

    def __call__(self, record: Mapping[str, Any], trait_keys: Sequence[str]) -> Assignment: ...


def rule_judge(oracle: Oracle) -> Judge:
    """The trait that most of the teacher's list violates and not all of what the user likes.

    Of equally violated ones the one that fewer liked items violate, then the first in the table.
    """

    def judge(record: Mapping[str, Any], trait_keys: Sequence[str]) -> Assignment:
        listed, liked = teacher_list(record), groundtruth(record)

        def violations(items: Sequence[tuple[str, int]], key: str) -> int:
            return sum(verdict is True for verdict in oracle.judge(items, (key,)))

        best: tuple[int, int] | None = None
        chosen = None
        for key in trait_keys:
            hurt = violations(liked, key)
            score = (violations(listed, key), -hurt)
            if score[0] and hurt < len(liked) and (best is None or score > best):
                best, chosen = score, key
        if best is None:
            return Assignment(None, "the teacher's list violates no trait that the user can have")
        return Assignment(chosen, f"{best[0]} of the {len(listed)} listed items violate it")

    return judge


def function_judge(name: str) -> Judge:
    """The judge `module:function`, called with the record and the trait keys.

    It may return an `Assignment`, (trait, reason), {"assigned_trait", "reason"}, a key or None.
    Raises UserError if there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"judge {name!r}: {error}; give MODULE:FUNCTION, or rules") from None
    if not callable(found):
        raise UserError(f"judge {name!r} is a {type(found).__name__}, not a function")

    def judge(record: Mapping[str, Any], trait_keys: Sequence[str]) -> Assignment:
        try:
            answer = found(record, trait_keys)
        except Exception as error:
            raise UserError(f"judge {name!r} failed on {record_name(record)}: {error!r}") from error
        return assignment(answer, trait_keys)

    return judge


def command_judge(command: str, *, timeout: float = 120.0) -> Judge:
    """A judge that runs `command` for every conversation.

    The command reads {"record", "traits"} as JSON from standard input and prints
    {"assigned_trait", "reason"}. An answer that is neither JSON nor a trait assigns nothing; a
    command that is missing, fails or takes longer than `timeout` seconds raises UserError.
    """
    words = shlex.split(command)
    if not words:
        raise UserError("the judge's command is empty")

    def judge(record: Mapping[str, Any], trait_keys: Sequence[str]) -> Assignment:
        question = json.dumps({"record": record, "traits": list(trait_keys)})
        try:
            done = subprocess.run(
                words, input=question, capture_output=True, text=True, timeout=timeout
            )
        except (OSError, subprocess.SubprocessError, UnicodeError) as error:
            raise UserError(f"judge {words[0]!r}, {record_name(record)}: {error}") from None
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise UserError(
                f"judge {words[0]!r}, {record_name(record)}: status {done.returncode}, {last[0]}"
            )
        try:
            answer = json.loads(done.stdout)
        except (ValueError, RecursionError):
            return Assignment(None, f"the judge's answer is not JSON: {done.stdout[:80]!r}")
        return assignment(answer, trait_keys)

    return judge


def remembering_judge(judge: Judge, path: Path) -> Judge:
    """The judge, asked once for every conversation: answers are kept in a JSON Lines file.

    A run that was cut off goes on where it stopped. The same conversation is known by its prompt,
    its list, what the user likes, and the traits to choose from. Raises UserError for a damaged
    file.
    """
    known: dict[str, Assignment] = {}
    if path.is_file() and path.stat().st_size:
        for number, row in enumerate(read_rows(path)):
            trait, reason = row.get("assigned_trait"), row.get("reason")
            if not isinstance(row.get("key"), str) or not isinstance(trait, (str, NoneType)):
                raise UserError(f"{path}, row {number}: no answer of a judge; delete the file")
            known[row["key"]] = Assignment(trait, str(reason))

    def remembering(record: Mapping[str, Any], trait_keys: Sequence[str]) -> Assignment:
        seen = [record["prompt"], teacher_list(record), groundtruth(record), list(trait_keys)]
        key = hashlib.sha256(json.dumps(seen).encode()).hexdigest()
        if key not in known:
            known[key] = judge(record, trait_keys)
            row = {"key": key, **dict(zip(("assigned_trait", "reason"), known[key], strict=True))}
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return known[key]

    return remembering


def assignment(answer: Any, trait_keys: Sequence[str]) -> Assignment:
    """What an answer in any of the forms of `function_judge` assigns."""
    trait, reason = answer, ""
    if isinstance(answer, Mapping):
        trait, reason = answer.get("assigned_trait"), str(answer.get("reason", ""))
    elif isinstance(answer, (tuple, list)) and len(answer) == 2:
        trait, reason = answer[0], str(answer[1])
    if trait is None or trait in trait_keys:
        return Assignment(trait, reason or "no reason given")
    return Assignment(None, f"the judge's answer {shown(trait)} is no trait")
