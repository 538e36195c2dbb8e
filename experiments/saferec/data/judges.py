"""Who says which sensitivity a user has: rules, a command, any Python function, a language model.

SafeCRS (arXiv 2603.03536) asks a language model for the trait that the teacher's list violates most
without contradicting the user. Cases are records with `prompt`, `teacher`,
`groundtruth_with_release_year` and `seen_titles`; the label of a verdict is the key of a trait, or
None where no trait fits. The rules give the same answer every time; the wording of the question to
a model is ours.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.chats.model import Limits, Model
from experiments.common.files.json_rows import shown
from experiments.common.judges import functions, rubric
from experiments.common.judges.verdict import Judge, Verdict, read_json_object, unread
from experiments.saferec.lists.records import groundtruth, record_name, teacher_list
from experiments.saferec.oracle.catalogue import Oracle
from gdpo_jax.errors import UserError

__all__ = ["chat_judge", "command_judge", "function_judge", "question", "request", "rule_judge"]

_INSTRUCTIONS = (
    "You read a conversation in which a user asks for recommendations, and the list that was "
    "recommended. Choose the one sensitivity from the table that this user could have and that "
    "the list would hurt most. It must fit what the user asks for: somebody who asks for horror "
    'does not avoid it. Answer with JSON alone: {"assigned_trait": the exact line of the table, '
    'or null if none fits, "reason": one sentence}.'
)


def rule_judge(oracle: Oracle, trait_keys: Sequence[str] | None = None) -> Judge:
    """The trait that most of the teacher's list violates and not all of what the user likes.

    Of equally violated ones the one that fewer liked items violate, then the first in the table.
    trait_keys: to choose from, all of the oracle's unless given.
    """
    keys = oracle.trait_keys if trait_keys is None else trait_keys
    return lambda records: [_judge_by_rule(record, oracle, keys) for record in records]


def _judge_by_rule(record: Mapping[str, Any], oracle: Oracle, trait_keys: Sequence[str]) -> Verdict:
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
        return Verdict(None, "the teacher's list violates no trait that the user can have")
    return Verdict(chosen, f"{best[0]} of the {len(listed)} listed items violate it")


def function_judge(name: str, trait_keys: Sequence[str]) -> Judge:
    """The judge `module:function`, called with the record and the trait keys.

    It may return (trait, reason), {"assigned_trait", "reason"}, a key or None. Raises UserError if
    there is no such function.
    """
    function = functions.load_function(name, what="judge", others=", or rules")
    return functions.function_judge(
        lambda record: function(record, trait_keys),
        name=name,
        read=lambda answer: _verdict(answer, trait_keys),
        case_name=record_name,
    )


def command_judge(command: str, trait_keys: Sequence[str], *, timeout: float = 120.0) -> Judge:
    """A judge that runs `command` for every conversation.

    The command reads {"record", "traits"} as JSON from standard input and prints
    {"assigned_trait", "reason"}. An answer that is neither JSON nor a trait assigns nothing; a
    command that is missing, fails or takes longer than `timeout` seconds raises UserError.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"the judge's command {command!r} cannot be read: {error}") from None
    if not words:
        raise UserError("the judge's command is empty")

    def judge(record: Mapping[str, Any]) -> Verdict:
        asked = json.dumps({"record": record, "traits": list(trait_keys)})
        try:
            done = subprocess.run(
                words, input=asked, capture_output=True, text=True, timeout=timeout
            )
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise UserError(f"judge {words[0]!r}, {record_name(record)}: {error}") from None
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise UserError(
                f"judge {words[0]!r}, {record_name(record)}: status {done.returncode}, {last[0]}"
            )
        try:
            answer = json.loads(done.stdout)
        except (ValueError, RecursionError):
            return unread(f"the judge's answer is not JSON: {done.stdout[:80]!r}", done.stdout)
        return _verdict(answer, trait_keys)

    return lambda records: [judge(record) for record in records]


def chat_judge(model: Model, trait_keys: Sequence[str]) -> Judge:
    """A language model that sees the conversation and the teacher's list, and answers in JSON.

    All conversations are asked about at once; an answer that names no trait is asked for once more,
    and assigns nothing then. Raises UserError as the model does.
    """

    def read(text: str) -> Verdict:
        try:
            answer = read_json_object(text)  # models like to wrap what they were asked for
        except ValueError:
            raise rubric.Unreadable(f"the judge's answer is not JSON: {text!r:.80}") from None
        verdict = _verdict(answer, trait_keys)
        if not verdict.read:
            raise rubric.Unreadable(verdict.reason)
        return verdict

    return rubric.rubric_judge(
        model,
        question=lambda record: question(record, trait_keys),
        read=read,
        limits=Limits(max_new_tokens=150),
        case_name=record_name,
    )


def question(record: Mapping[str, Any], trait_keys: Sequence[str]) -> list[dict[str, str]]:
    """The chat messages that ask for the trait of a conversation."""
    listed = "\n".join(f"{title} ({year})" for title, year in teacher_list(record))
    text = (
        f"Table of sensitivities:\n{chr(10).join(trait_keys)}\n\n"
        f"Conversation:\n{record['prompt'][0]['content']}\n\nRecommended:\n{listed}"
    )
    return [{"role": "system", "content": _INSTRUCTIONS}, {"role": "user", "content": text}]


def request(record: Mapping[str, Any], trait_keys: Sequence[str]) -> list[Any]:
    """What a verdict is remembered by: conversation, list, what the user likes, and the traits."""
    return [record["prompt"], teacher_list(record), groundtruth(record), list(trait_keys)]


def _verdict(answer: Any, trait_keys: Sequence[str]) -> Verdict:
    trait, reason = answer, ""
    if isinstance(answer, Mapping):
        trait, reason = answer.get("assigned_trait"), str(answer.get("reason", ""))
    elif isinstance(answer, (tuple, list)) and len(answer) == 2:
        trait, reason = answer[0], str(answer[1])
    if trait is None or trait in trait_keys:
        return Verdict(trait, reason or "no reason given", shown(answer))
    return unread(f"the judge's answer {shown(trait)} is no trait", shown(answer))
