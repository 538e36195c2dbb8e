"""Which attributes a message needs, and which are nobody's business: labels of the project.

The labels behind CIMemories' published numbers are not in its files (votes of a model, which
cannot be recomputed), so numbers under other labels are compared with each other alone. Rules label
by subject: the words of recipient and task name the subjects of a context, an attribute of one of
them is necessary, and one of a subject that is neither of them nor near one is private. Coarse, the
same for everybody, and free of charge.
"""

import functools
import re
from collections.abc import Mapping

from experiments.common.files.json_rows import read_resource
from experiments.persona_leakage.published.cimemories import Context, Labels, Profile

__all__ = ["RULES", "rule_labels", "subjects_of"]

RULES: Mapping[str, object] = {"labels": "rules", "version": 1}  # of the table and what is near

# Attributes of subjects near a context's are of some use there, so they get no label.
_NEAR = (
    ("finance", "housing"),
    ("finance", "legal"),
    ("finance", "employment"),
    ("health", "mental_health"),
    ("relationships", "mental_health"),
    ("relationships", "housing"),
    ("employment", "education"),
    ("employment", "legal"),
)


def rule_labels(profile: Profile) -> tuple[Labels, ...]:
    """The labels of every context of a profile, in order; a context without a subject has none."""
    return tuple(_labels(profile, context) for context in profile.contexts)


def subjects_of(context: Context) -> frozenset[str]:
    """What a message is about, by the words of recipient and task."""
    said = set(re.findall(r"[a-z]+", f"{context.recipient} {context.task}".lower()))
    return frozenset(
        subject for subject, words in _subjects().items() if not said.isdisjoint(words)
    )


def _labels(profile: Profile, context: Context) -> Labels:
    about = subjects_of(context)
    near = {b for pair in _NEAR for a, b in (pair, pair[::-1]) if a in about}
    # General attributes and dates belong to any subject, so they get no label.
    far = _subjects().keys() - about - near if about else frozenset()
    return Labels(
        necessary=frozenset(a.key for a in profile.attributes if a.domain in about),
        private=frozenset(a.key for a in profile.attributes if a.domain in far),
    )


@functools.cache
def _subjects() -> dict[str, list[str]]:
    return read_resource("experiments.persona_leakage.published", "subjects.json")
