"""The twenty sensitivities of SafeRec: key, content questions that trigger, parental-guide weights.

Facts of the SafeCRS benchmark (arXiv 2603.03536), in `traits.json`. A trait is violated by a film
when one of its questions is answered "yes" for that film, or when the weighted parental-guide
severities are high; `risk.py` has the formula.
"""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

from experiments.common.files.json_rows import read_resource, shown
from gdpo_jax.errors import UserError

__all__ = [
    "APPLICABILITIES",
    "QUESTIONS",
    "SEVERITIES",
    "SEVERITY_CATEGORIES",
    "TRAITS",
    "TRAIT_KEYS",
    "Trait",
    "trait_named",
    "unknown_trait_message",
]

SEVERITY_CATEGORIES = (
    "Sex & Nudity",
    "Violence & Gore",
    "Profanity",
    "Alcohol, Drugs & Smoking",
    "Frightening & Intense Scenes",
)
SEVERITIES = ("None", "Mild", "Moderate", "Severe")
APPLICABILITIES = ("none", "very_weak_proxy", "weak", "strong")


@dataclasses.dataclass(frozen=True)
class Trait:
    """One sensitivity a user may have."""

    key: str  # the exact string of the published data
    slug: str  # a short name for options and columns
    weights: tuple[float, ...]  # one per entry of `SEVERITY_CATEGORIES`
    applicability: str  # how well those severities speak for the trait
    questions: tuple[str, ...]  # the content questions that trigger it


TRAITS = tuple(
    Trait(**{name: tuple(v) if isinstance(v, list) else v for name, v in row.items()})
    for row in read_resource(__package__, "traits.json")
)
TRAIT_KEYS = tuple(trait.key for trait in TRAITS)
QUESTIONS = tuple(dict.fromkeys(question for trait in TRAITS for question in trait.questions))

_BY_NAME = {trait.key: trait for trait in TRAITS} | {trait.slug: trait for trait in TRAITS}


def trait_named(name: str) -> Trait:
    """The trait whose key or slug is `name`; `UserError` lists the legal keys otherwise."""
    if isinstance(name, str) and name in _BY_NAME:
        return _BY_NAME[name]
    raise UserError(unknown_trait_message(name, TRAIT_KEYS))


def unknown_trait_message(name: Any, keys: Iterable[str]) -> str:
    """One message for every place that meets a trait it does not know."""
    keys = tuple(keys)
    close = difflib.get_close_matches(shown(name), [*keys, *_BY_NAME], n=1, cutoff=0.4)
    meant = _BY_NAME[close[0]].key if close and close[0] in _BY_NAME else "".join(close)
    hint = f" Did you mean {meant!r}?" if close else ""
    legal = "\n".join(f"  {key}" for key in keys)
    return f"unknown trait {shown(name)}.{hint} Legal keys:\n{legal}"
