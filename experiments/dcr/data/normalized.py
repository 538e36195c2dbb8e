"""When two prompts are the same: equal texts, case, punctuation and spaces aside."""

import dataclasses
import re
from collections.abc import Sequence

from experiments.dcr.data.prompts import SafetyPrompt

__all__ = ["first_alike", "normalized"]

_SIGNS = re.compile(r"[\W_]+")


def normalized(text: str) -> str:
    """The text's words in lower case, a space between them.

    A text without any letter or digit stays as it is, so that such texts are not all the same.
    """
    return _SIGNS.sub(" ", text.casefold()).strip() or text.strip()


def first_alike(prompts: Sequence[SafetyPrompt]) -> tuple[SafetyPrompt, ...]:
    """The prompts, those that are their own cluster in the cluster of the first with their text."""
    first: dict[str, str] = {}
    found = []
    for prompt in prompts:
        cluster = first.setdefault(normalized(prompt.text), prompt.cluster)
        own = prompt.cluster == prompt.id
        found.append(dataclasses.replace(prompt, cluster=cluster) if own else prompt)
    return tuple(found)
