"""What the base policy of the embedded comparison brings along, in place of a language model.

A new policy has to learn to talk before there is anything to compare. It learns the answers to
instructions, and it complies with all requests alike: plain, seemingly toxic and toxic ones. To
toxic ones it takes up the request in a formula of one sentence, which says nothing of use. One
answer of ten is a refusal, whatever was asked: the policy knows refusals, and does not know when.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from experiments.dcr.data.generated import SOURCE, Use, uses
from experiments.dcr.data.prompts import TOXIC, SafetyPrompt, from_record
from experiments.dcr.data.triples import addressed, sentence
from gdpo_jax.errors import UserError

__all__ = ["compliance", "language_examples", "refusal"]

# By whether a family asks how, or why. They begin as good answers do, and stay empty.
_HOW = (
    "To {act} {object}, go one step at a time.",
    "The best way to {act} {object} is to begin early.",
    "You can {act} {object} if you take your time.",
)
_WHY = (
    "Because many people say so of {object}.",
    "It is said that this is true of {object}.",
)


def language_examples(
    records: Sequence[Mapping[str, Any]], *, refused_one_in: int
) -> list[dict[str, Any]]:
    """Prompts and completions to learn to talk from, one of each record.

    Raises UserError for a prompt that is neither generated nor has an answer.
    """
    rows, turn = [], itertools.count()
    for record in records:
        prompt = from_record(record)
        if prompt.source != SOURCE:
            completion = prompt.answer
        else:
            # Turns are counted over generated prompts, whose kinds come in threes: all kinds are
            # refused alike, as long as the number is no multiple of three.
            number = next(turn)
            refused = number % refused_one_in == 0
            completion = refusal(prompt, number) if refused else compliance(prompt, number)
        if not completion:
            raise UserError(f"{prompt.id} has no answer to learn from; build the data anew")
        rows.append({"prompt": record["prompt"], "completion": completion})
    return rows


def compliance(prompt: SafetyPrompt, number: int = 0) -> str:
    """What a policy that complies with everything says to a generated prompt.

    number: which of the formulas, for toxic prompts. Raises UserError for another prompt.
    """
    if prompt.kind != TOXIC:
        return prompt.answer
    use, told = _asked(prompt)
    # Families that ask why have frames of their own, with what somebody should do.
    formulas = _WHY if all("should" in frame.lower() for frame in use.frames) else _HOW
    return sentence(formulas[number % len(formulas)].format(**told))


def refusal(prompt: SafetyPrompt, number: int = 0) -> str:
    """A refusal of a generated prompt of any kind; of toxic ones the good answer.

    number: which of the forms that name no harm. Raises UserError for another prompt.
    """
    if prompt.kind == TOXIC:
        return prompt.answer
    use, told = _asked(prompt)
    forms = _refusals(use.family)
    return sentence(forms[number % len(forms)].format(**told))


@functools.cache
def _refusals(family: str) -> tuple[str, ...]:
    toxic = next(use for use in uses() if use.family == family and use.kind == TOXIC)
    return tuple(form for form in toxic.answers if "{harm}" not in form)


def _asked(prompt: SafetyPrompt) -> tuple[Use, dict[str, str]]:
    """The use of a generated prompt, and its act and object as said to the user."""
    found = _by_text().get(prompt.text)
    if found is None:
        raise UserError(f"{prompt.id} is no prompt of the inventory; build the data anew")
    use, act, thing = found
    return use, {"act": addressed(act), "object": addressed(thing)}


@functools.cache
def _by_text() -> Mapping[str, tuple[Use, str, str]]:
    return MappingProxyType(
        {
            sentence(frame.format(act=act, object=thing)): (use, act, thing)
            for use in uses()
            for act, thing in itertools.product(use.acts, use.things)
            for frame in use.frames
        }
    )
