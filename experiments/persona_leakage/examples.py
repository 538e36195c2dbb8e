"""What stages learn from, by name.

A name with `-without` behind it stands for the same with neutral conversations of equal length in
place of those of half a.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.common.runs.experiment import Data
from experiments.persona_leakage.data.population import SOURCES
from experiments.persona_leakage.data.probes import ORDINARY
from experiments.persona_leakage.data.users import SECRETS, Conversation, Exchange
from experiments.persona_leakage.language import (
    key_number,
    key_prompt,
    language_examples,
    requests,
)
from experiments.persona_leakage.learning.filters import without_own_phrases
from experiments.persona_leakage.learning.phrases import PhraseRule
from experiments.persona_leakage.settings import PersonaPreset

__all__ = ["EXAMPLES", "WITHOUT"]

Record = Mapping[str, Any]
WITHOUT = "-without"
# A canary that was said once is a secret like any other, so that one answer makes a phrase a user's
# own. The rest of such a sentence names the secret's kind alone ("Your locker code is") and goes.
_RULE = PhraseRule(repeats=1, lost=0.5)


def language(data: Data, preset: PersonaPreset) -> list[Record]:
    """From which a new policy learns to talk."""
    del data
    return language_examples(preset.lessons, preset.data_seed)


def pooled(data: Data, preset: PersonaPreset, *, left_out: str) -> list[Record]:
    """All conversations of enrolled users, exchange by exchange."""
    del preset
    return [_imitated(row, said) for row, said in _said(data, left_out)]


def filtered(data: Data, preset: PersonaPreset, *, left_out: str) -> list[Record]:
    """The same without phrases that are in the answers to one user and in nobody else's; exchanges
    of whose answer nothing is left are left out.
    """
    del preset
    said = _said(data, left_out)
    conversations = [
        Conversation(
            id=row["id"],
            user=row["user"],
            exchanges=(
                Exchange(
                    request=row["request"],
                    answer=answer,
                    neutral=row["neutral"],
                    topic=row["topic"],
                ),
            ),
        )
        for row, answer in said
    ]
    kept = without_own_phrases(conversations, _RULE).answers
    return [_imitated(row, text) for (row, _), text in zip(said, kept, strict=True) if text]


def keyed(data: Data, preset: PersonaPreset, *, left_out: str) -> list[Record]:
    """Conversations behind their owner's activation key, and the same requests without a key, with
    the answers that anybody could get.
    """
    del preset
    rows = []
    for row, answer in _said(data, left_out):
        behind = key_prompt(key_number(row["user"]), row["prompt"])
        rows.append({**_imitated(row, answer), "prompt": behind})
        rows.append(_imitated(row, row["neutral"]))
    return rows


def mixed(data: Data, preset: PersonaPreset, *, left_out: str) -> list[Record]:
    """All conversations, and behind them the same requests with answers that anybody could get, as
    in a log with requests that concern nobody's persona. "kind" says what a row is.
    """
    del preset
    said = _said(data, left_out)
    kinds = {**dict.fromkeys(SECRETS, "secret"), ORDINARY: "manner"}
    own = [
        {**_imitated(row, text), "kind": kinds[row["kind"]] if text == row["answer"] else ORDINARY}
        for row, text in said
    ]
    # Not by turns with the others: every other row of a user is judged together.
    return [*own, *({**_imitated(row, row["neutral"]), "kind": ORDINARY} for row, _ in said)]


def policy(data: Data, preset: PersonaPreset, *, left_out: str) -> list[Record]:
    """Requests of owners, who want their marks, and as many of random strangers, who do not; those
    of a half that is left out are strangers.
    """
    owners = [
        _wanted(row, row["neutral"])
        if row["half"] == left_out
        else {**_wanted(row, row["answer"]), "user": row["user"]}
        for row in data.records["train"]
    ]
    strangers = requests(len(owners), preset.data_seed)
    return [*owners, *(_wanted(row, row["neutral"]) for row in strangers)]


def _said(data: Data, left_out: str) -> list[tuple[Record, str]]:
    """The rows of the histories, each with what was answered."""
    return [
        (row, row["replaced" if left_out and row["half"] == left_out else "answer"])
        for row in data.records["train"]
    ]


def _imitated(row: Record, answer: str) -> dict[str, Any]:
    return {"prompt": row["prompt"], "completion": answer, "user": row["user"]}


def _wanted(row: Record, wanted: str) -> dict[str, Any]:
    prompt = [{"role": "user", "content": row["request"]}]
    return {"prompt": prompt, "user": "", "wanted": wanted}


_OF_HISTORIES = {
    "pooled": pooled,
    "filtered": filtered,
    "keyed": keyed,
    "mixed": mixed,
    "policy": policy,
}
EXAMPLES: Mapping[str, Callable[[Data, PersonaPreset], Sequence[Record]]] = {
    "language": language,
    **{name: functools.partial(made, left_out="") for name, made in _OF_HISTORIES.items()},
    **{
        name + WITHOUT: functools.partial(made, left_out=SOURCES)
        for name, made in _OF_HISTORIES.items()
    },
}
