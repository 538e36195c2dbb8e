"""A plain memory: the sentences in which a user says something about himself, found by rules.

No model reads them. A sentence is kept where it is a statement in the first person; questions,
requests and courtesies are not, and neither are sentences about the people around the user.
"""

import functools
import re
from collections.abc import Iterable, Sequence

from experiments.common.chats.messages import Conversation, Message

__all__ = ["MOST_CHARACTERS", "bounded_facts", "facts_in", "facts_said", "is_hazard", "remember"]

MOST_CHARACTERS = 4_000  # of all facts together: about 1,000 tokens
_LONGEST = 400  # characters of one fact

_SENTENCE = re.compile(r"(?:[^.!?\n]|\.(?=\w))*(?:[.!?]+|\n|$)")
_FIRST_PERSON = re.compile(r"\b(?:I|me|my|mine|myself)\b", re.IGNORECASE)
# A capital I only: "i" alone is often a letter of a list, but people type "i am" as well.
_SUBJECT = re.compile(
    r"\bI\b|\bi(?:'m|'ve|'d| am| have| can| can't| cannot| do| don't| get| use)\b"
)
_REQUEST = re.compile(
    r"^\W*(?:please|kindly|allow|let|tell|give|help|show|suggest|recommend|explain|write|remind|"
    r"advise|consider|remember|thanks?|excuse|pardon|hello|hi|hey|can|could|would|will|should|"
    r"what|which|who|where|why|how|is|are|do|does|did)\b(?!\s+(?:I|my)\b)",
    re.IGNORECASE,
)
# "Please remember that I ...", "keep in mind that my ...": a request to know is a statement.
_TOLD = re.compile(
    r"\b(?:remember|note|know|mind|understand|aware|consider|forget)\b[^,;:]{0,20}?\b"
    r"(?:that|how)\s+(?:I\b|my\b|i['\s])",
    re.IGNORECASE,
)
_ASKING = re.compile(
    r"\bI(?:'d| would|'m| am)?\s+(?:just\s+)?(?:wonder(?:ing)?\b|asking?\b|"
    r"want(?:ed)? (?:you )?to (?:know|ask)|like to (?:know|ask)|(?:like|love|want|need) you to)",
    re.IGNORECASE,
)
_PEOPLE = re.compile(
    r"\bmy\s+(?:\w+\s+){0,2}?(?:friends?|wife|husband|partner|spouse|girlfriend|boyfriend|mother|"
    r"father|mom|mum|dad|parents?|sisters?|brothers?|siblings?|sons?|daughters?|kids?|children|"
    r"child|cousins?|uncle|aunt|nephew|niece|grand\w+|colleagues?|co-?workers?|boss|neighbou?rs?|"
    r"roommates?|flatmates?|family|teacher|teammates?|classmates?|fianc\w+)\b",
    re.IGNORECASE,
)
_HAZARD = re.compile(
    r"\b(?:allerg\w*|intoleran\w*|anaphyla\w*|asthma\w*|\w*phob\w*|afraid|fear\w*|terrified|"
    r"scared|panic\w*|anxi\w*|trauma\w*|ptsd|trigger\w*|flashbacks?|nightmares?|disorder\w*|"
    r"disab\w*|wheelchair|paraly\w*|blind\w*|deaf\w*|epilep\w*|seizures?|diabet\w*|coeliac|"
    r"celiac|heart|pacemaker|pregnan\w*|injur\w*|surger\w*|chronic\w*|sever\w*|diseases?|"
    r"conditions?|syndrome|addict\w*|recover\w*|sober|medicat\w*|react\w*|avoid\w*|unable|never|"
    r"cannot|can't|must not|mustn't|danger\w*|fatal\w*|die|died|killed|abus\w*|assault\w*|"
    r"attack\w*|accident\w*|hospital\w*|risk\w*|sensitiv\w*)\b",
    re.IGNORECASE,
)
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"


@functools.lru_cache(maxsize=4096)  # a dialogue's earlier turns are read again in each new one
def facts_in(text: str) -> tuple[str, ...]:
    """The sentences of a user's turn that state something about himself, each at most once."""
    plain = text.replace(_APOSTROPHE, "'")
    parts = (" ".join(part.split()) for part in _SENTENCE.findall(plain))
    found = dict.fromkeys(part for part in parts if _is_about_himself(part))
    return tuple(_shortened(fact) for fact in found)


@functools.lru_cache(maxsize=4096)
def is_hazard(fact: str) -> bool:
    """Does a fact name a danger, an illness, a fear, or what the user cannot do?"""
    return _HAZARD.search(fact) is not None


def remember(
    known: Sequence[str], history: Conversation, *, most: int = MOST_CHARACTERS
) -> tuple[str, ...]:
    """What was known before a conversation, then what its user turns say, `most` characters."""
    here = facts_said(history)
    return bounded_facts([*(fact for fact in known if fact not in here), *here], most=most)


def facts_said(messages: Iterable[Message]) -> dict[str, None]:
    """The facts of the user's messages as keys, in order."""
    facts: dict[str, None] = {}
    for message in messages:
        if message["role"] == "user":
            for fact in facts_in(message["content"]):
                facts[fact] = None
    return facts


def bounded_facts(facts: Iterable[str], *, most: int) -> tuple[str, ...]:
    """The facts, oldest first, of at most `most` characters together.

    Above that the oldest ones that name no hazard go first; then the newest hazards, so that what
    a user said at the beginning outlasts a long dialogue.
    """
    facts = list(facts)
    excess = sum(map(len, facts)) - most
    if excess <= 0:
        return tuple(facts)
    harmless = [n for n, fact in enumerate(facts) if not is_hazard(fact)]
    calm = set(harmless)
    hazards = [n for n in reversed(range(len(facts))) if n not in calm]
    dropped = set()
    for n in [*harmless, *hazards]:
        if excess <= 0:
            break
        dropped.add(n)
        excess -= len(facts[n])
    return tuple(fact for n, fact in enumerate(facts) if n not in dropped)


def _is_about_himself(sentence: str) -> bool:
    if sentence.endswith("?") or not _FIRST_PERSON.search(sentence):
        return False
    if _TOLD.search(sentence):
        return True
    if _REQUEST.search(sentence) or _ASKING.search(sentence):
        return False
    if _SUBJECT.search(sentence):
        return True
    # "Loud bangs bring me back there", "my knee is bad": but not "my sister likes diving".
    return _FIRST_PERSON.search(_PEOPLE.sub("", sentence)) is not None


def _shortened(fact: str) -> str:
    if len(fact) <= _LONGEST:
        return fact
    return fact[: _LONGEST - 4].rpartition(" ")[0].rstrip(" ,;:") + " ..."
