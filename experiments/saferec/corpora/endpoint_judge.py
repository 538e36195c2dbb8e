"""A language model as the judge of traits, behind any endpoint that speaks the chat protocol.

As in SafeCRS (arXiv 2603.03536) the model sees the conversation and the teacher's list, and is
asked for the trait that the list violates most. The wording is ours.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.saferec.corpora.judges import Assignment, Judge, assignment
from experiments.saferec.corpora.records import record_name, teacher_list
from gdpo_jax.errors import UserError

__all__ = ["endpoint_judge", "question"]

_INSTRUCTIONS = (
    "You read a conversation in which a user asks for recommendations, and the list that was "
    "recommended. Choose the one sensitivity from the table that this user could have and that "
    "the list would hurt most. It must fit what the user asks for: somebody who asks for horror "
    'does not avoid it. Answer with JSON alone: {"assigned_trait": the exact line of the table, '
    'or null if none fits, "reason": one sentence}.'
)


def question(record: Mapping[str, Any], trait_keys: Sequence[str]) -> list[dict[str, str]]:
    """The chat messages that ask for the trait of a conversation."""
    listed = "\n".join(f"{title} ({year})" for title, year in teacher_list(record))
    text = (
        f"Table of sensitivities:\n{chr(10).join(trait_keys)}\n\n"
        f"Conversation:\n{record['prompt'][0]['content']}\n\nRecommended:\n{listed}"
    )
    return [{"role": "system", "content": _INSTRUCTIONS}, {"role": "user", "content": text}]


def endpoint_judge(
    url: str,
    *,
    model: str,
    api_key: str | None = None,
    timeout: float = 120.0,
    attempts: int = 3,
    wait: float = 2.0,
) -> Judge:
    """A judge that posts to `url`/chat/completions and reads JSON out of the answer.

    A busy or failing server is asked `attempts` times, with growing pauses from `wait` seconds on;
    then, and for a refused request or an answer of another form, UserError. An answer that names no
    trait assigns nothing.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(
            f"judge {url!r}: give the address of the endpoint, with http:// or https://"
        )
    address = f"{url.rstrip('/')}/chat/completions"
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"

    def judge(record: Mapping[str, Any], trait_keys: Sequence[str]) -> Assignment:
        body = json.dumps(
            {
                "model": model,
                "messages": question(record, trait_keys),
                "temperature": 0.0,
                "max_tokens": 150,
            }
        ).encode()
        where = f"judge {url!r}, {record_name(record)}"
        for attempt in range(attempts):
            request = urllib.request.Request(address, data=body, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=timeout) as response:
                    return _read(response.read(), trait_keys, where)
            except urllib.error.HTTPError as error:
                error.close()
                busy, reason = error.code == 429 or error.code >= 500, f"status {error.code}"
            except OSError as error:
                busy, reason = True, str(getattr(error, "reason", error))
            if not busy or attempt + 1 == attempts:
                raise UserError(f"{where}: {reason}")
            time.sleep(wait * 2**attempt)
        raise UserError(f"{where}: attempts={attempts}; give at least 1")

    return judge


def _read(data: bytes, trait_keys: Sequence[str], where: str) -> Assignment:
    try:
        text = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"{where}: the answer is no chat completion: {data[:80]!r}") from None
    # Models like to wrap what they were asked for.
    start, end = str(text).find("{"), str(text).rfind("}")
    try:
        return assignment(json.loads(str(text)[start : end + 1]), trait_keys)
    except (ValueError, RecursionError):
        return Assignment(None, f"the judge's answer is not JSON: {text!r:.80}")
