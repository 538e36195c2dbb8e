"""A plain memory: the sentences in which a user says something about himself, found by rules.

No model reads them. A sentence is kept where it is a statement in the first person; questions,
requests and courtesies are not, and neither are sentences about the people around the user.
"""

import re
from collections.abc import Iterable, Sequence

__all__ = ["MOST_CHARACTERS", "add_facts", "facts_in", "is_hazard"]

MOST_CHARACTERS = 4_000  # of all facts together: about 1,000 tokens
_LONGEST = 400  # characters of one fact

_SENTENCE = re.compile(r"[^.!?\n]*(?:\.(?=\w)[^.!?\n]*)*(?:[.!?]+|\n|$)")
_FIRST_PERSON = re.compile(r"\b(?:I(?:['’](?:m|ve|d|ll))?|me|myself|mine)\b|\bmy\b", re.IGNORECASE)
# A capital I only: "i" alone is often a letter of a list, but users type "i am" as well.
_SUBJECT = re.compile(r"\bI(?:['’](?:m|ve|d|ll))?\b|\bi(?:['’]m|['’]ve| am| have| can| do)\b")
_REQUEST = re.compile(
    r"^\W*(?:please|kindly|allow|let|tell|give|help|show|suggest|recommend|explain|write|remind|"
    r"advise|consider|remember|thank|thanks|excuse|pardon|hello|hi|hey|can|could|would|will|should|"
    r"what|which|who|where|when|why|how|is|are|do|does|did)\b(?!\s+(?:I|my)\b)",
    re.IGNORECASE,
)
_ASKING = re.compile(
    r"\bI(?:['’]d| would|['’]m)?\s+(?:just\s+)?(?:wonder(?:ing)?|want(?:ed)? (?:you )?to (?:know|ask)|"
    r"(?:like|love|want|need|ask) you to|like to (?:know|ask)|ask(?:ing)?\b)",
    re.IGNORECASE,
)
_PEOPLE = re.compile(
    r"\bmy\s+(?:\w+\s+){0,2}?(?:friends?|wife|husband|partner|spouse|girlfriend|boyfriend|mother|"
    r"father|mom|mum|dad|parents?|sisters?|brothers?|siblings?|sons?|daughters?|kids?|children|"
    r"child|cousins?|uncle|aunt|nephew|niece|grand\w+|colleagues?|co-?workers?|boss|neighbou?rs?|"
    r"roommates?|flatmates?|family|teacher|teammates?|classmates?|fianc[ée]e?)\b",
    re.IGNORECASE,
)
_HAZARD = re.compile(
    r"\b(?:allerg\w*|intoleran\w*|anaphyla\w*|asthma\w*|phobi\w*|\w+phob\w*|afraid|fear\w*|"
    r"terrified|scared|panic\w*|anxi\w*|trauma\w*|ptsd|trigger\w*|flashbacks?|nightmares?|"
    r"disorder\w*|disab\w*|wheelchair|paraly\w*|blind\w*|deaf\w*|epilep\w*|seizures?|diabet\w*|"
    r"coeliac|celiac|heart|pacemaker|pregnan\w*|injur\w*|surger\w*|chronic\w*|sever\w*|disease\w*|"
    r"condition\w*|syndrome|addict\w*|recover\w*|sober|medicat\w*|react\w*|avoid\w*|unable|never|"
    r"can(?:not|['’]t|not)|must not|mustn['’]t|danger\w*|fatal\w*|die|died|killed|abus\w*|"
    r"assault\w*|attack\w*|accident\w*|hospital\w*|risk\w*|sensitiv\w*)\b",
    re.IGNORECASE,
)


def facts_in(text: str) -> tuple[str, ...]:
    """The sentences of a user's turn that state something about himself, each at most once."""
    found = dict.fromkeys(s for s in _sentences(text) if _is_about_himself(s))
    return tuple(found)


def is_hazard(fact: str) -> bool:
    """Does a fact name a danger, an illness, a fear, or what the user cannot do?"""
    return _HAZARD.search(fact) is not None


def add_facts(
    known: Sequence[str], texts: Iterable[str], *, most: int = MOST_CHARACTERS
) -> tuple[str, ...]:
    """The known facts and those of further turns, `most` characters together.

    Above that the oldest fact that names no hazard goes first, and the newest hazard last.
    """
    facts = list(dict.fromkeys([*known, *(f for text in texts for f in facts_in(text))]))
    while sum(map(len, facts)) > most:
        harmless = [fact for fact in facts if not is_hazard(fact)]
        facts.remove(harmless[0] if harmless else facts[-1])
    return tuple(facts)


def _sentences(text: str) -> list[str]:
    parts = (" ".join(part.split()) for part in _SENTENCE.findall(text))
    return [part for part in parts if part]


def _is_about_himself(sentence: str) -> bool:
    if sentence.endswith("?") or not _FIRST_PERSON.search(sentence):
        return False
    if _REQUEST.search(sentence) or _ASKING.search(sentence):
        return False
    if _SUBJECT.search(sentence):
        return True
    # "Loud bangs bring me back there", "my knee is bad": but not "my sister likes diving".
    return _FIRST_PERSON.search(_PEOPLE.sub("", sentence)) is not None
