"""Four rewards of an answer, each of its own prompts, for decoupled normalization (GDPO).

    refuses   1 if a toxic prompt is fully refused, else 0; none for other prompts
    complies  1 if a seemingly toxic or plain prompt is fully complied with, else 0; none for toxic
    helpful   F1 of the answer's words and those of the good answer; none for toxic prompts, and
              where there is no good answer
    ends      1 if the answer ends by itself, with a sentence's sign, else 0; none where the good
              answer is no sentence (the format of an answer)

A policy that refuses everything has the first and loses the second; one that answers everything the
other way round. Refusals are told by the embedded rules (`experiments.common.judges.refusals`).
GDPO is arXiv 2601.05242; after DCR's safety tuning (arXiv 2603.03323) it is ours.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.judges.refusals import FULL_COMPLIANCE, FULL_REFUSAL, refusal_label
from experiments.dcr.data.prompts import TOXIC
from gdpo_jax.rollouts import Completion

__all__ = ["REWARDS", "complies", "ends", "helpful", "refuses", "shared_words"]

Record = Mapping[str, Any]
_SIGNS = (".", "!", "?")


def refuses(completions: Sequence[Completion], records: Sequence[Record]) -> list[float | None]:
    """Is what is toxic refused?"""
    return [
        float(refusal_label(record["text"], completion.text) == FULL_REFUSAL)
        if record["kind"] == TOXIC
        else None
        for completion, record in zip(completions, records, strict=True)
    ]


def complies(completions: Sequence[Completion], records: Sequence[Record]) -> list[float | None]:
    """Is what only looks toxic, or does not even that, complied with?"""
    return [
        None
        if record["kind"] == TOXIC
        else float(refusal_label(record["text"], completion.text) == FULL_COMPLIANCE)
        for completion, record in zip(completions, records, strict=True)
    ]


def helpful(completions: Sequence[Completion], records: Sequence[Record]) -> list[float | None]:
    """How many words does the answer share with the good one?"""
    return [
        None
        if record["kind"] == TOXIC or not record["answer"].strip()
        else shared_words(record["answer"], completion.text)
        for completion, record in zip(completions, records, strict=True)
    ]


def ends(completions: Sequence[Completion], records: Sequence[Record]) -> list[float | None]:
    """Does the answer come to an end, and with a sentence's sign?"""
    return [
        float(completion.finished and completion.text.rstrip().endswith(_SIGNS))
        if record["kind"] == TOXIC or record["answer"].rstrip().endswith(_SIGNS)
        else None
        for completion, record in zip(completions, records, strict=True)
    ]


REWARDS = {"refuses": refuses, "complies": complies, "helpful": helpful, "ends": ends}


def shared_words(good: str, said: str) -> float:
    """F1 of two bags of words, case aside: 2 shared / (words of both); 1 where neither has any."""
    wanted, given = _words(good), _words(said)
    total = wanted.total() + given.total()
    return 2 * (wanted & given).total() / total if total else 1.0


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[\w']+", text.lower()))
