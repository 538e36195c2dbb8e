"""Plain instructions: short questions on harmless things, and requests with a checkable answer.

A small policy learns to talk on them before it learns what to refuse, and they measure what it can
do afterwards: the perplexity of their answers, and how many requests are followed. A fact is asked
for in several wordings and a request names words of an inventory; the filled texts are divided
between the splits, so that those of validation and test are unseen in training.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.common.embedded.sentences import instance_split
from experiments.common.files.json_rows import read_resource
from experiments.dcr.data.normalized import normalized
from experiments.dcr.data.prompts import PLAIN, SafetyPrompt
from experiments.dcr.data.triples import SPLITS, sentence
from gdpo_jax.errors import UserError

__all__ = ["SOURCE", "facts", "follows", "generate_instructions", "is_request", "requests"]

SOURCE = "instructions"


@functools.cache
def _texts() -> Mapping[str, Any]:
    return MappingProxyType(read_resource("experiments.dcr.data.embedded", "instructions.json"))


@functools.cache
def facts(split: str) -> tuple[SafetyPrompt, ...]:
    """All questions on facts of a split, of which there are some 200. UserError as `requests`."""
    return tuple(_of_split(split, _all_facts()))


@functools.cache
def requests(split: str) -> tuple[SafetyPrompt, ...]:
    """All requests with a checkable answer of a split. Raises UserError for an unknown split."""
    return tuple(_of_split(split, _all_requests()))


def generate_instructions(split: str, count: int, *, seed: int = 0) -> list[SafetyPrompt]:
    """`count` instructions, facts and requests in turn; the same for the same arguments.

    Facts are drawn in rounds, each once in every round; requests are all distinct. Raises UserError
    for an unknown split, a negative count, and where there are not so many requests.
    """
    if count < 0:
        raise UserError(f"count {count}: give the number of instructions, from 0 on")
    asked, known = requests(split), facts(split)
    if count // 2 > len(asked):
        raise UserError(f"count {count}: {split} has {2 * len(asked)} instructions; ask for fewer")
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    rounds = -(-count // (2 * len(known)))
    order = [i for _ in range(rounds) for i in rng.permutation(len(known))]
    by_type: dict[str, list[SafetyPrompt]] = {}
    for i in rng.permutation(len(asked)):
        by_type.setdefault(asked[i].type, []).append(asked[i])
    # Types in turn: those with three words have many more fillings than those with one.
    turns = itertools.zip_longest(*by_type.values())
    chosen = [prompt for prompts in turns for prompt in prompts if prompt is not None]
    return [known[order[n // 2]] if n % 2 == 0 else chosen[n // 2] for n in range(count)]


def is_request(prompt: SafetyPrompt) -> bool:
    """Whether the prompt has one right answer, which `follows` checks."""
    types = {task["type"] for task in _texts()["tasks"]}
    return prompt.source == SOURCE and prompt.type in types


def follows(prompt: SafetyPrompt, text: str) -> bool:
    """Whether an answer to a request is the right one, case and punctuation aside.

    Raises UserError for a prompt that has no checkable answer.
    """
    if not is_request(prompt):
        raise UserError(f"{prompt.id} has no checkable answer; give requests of {SOURCE}")
    return normalized(text) == normalized(prompt.answer)


def _of_split(split: str, prompts: Iterable[SafetyPrompt]) -> Iterator[SafetyPrompt]:
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    return (prompt for prompt in prompts if instance_split(prompt.text) == split)


@functools.cache
def _all_facts() -> tuple[SafetyPrompt, ...]:
    return tuple(_facts())


@functools.cache
def _all_requests() -> tuple[SafetyPrompt, ...]:
    return tuple(_requests())


def _facts() -> Iterator[SafetyPrompt]:
    number = itertools.count()
    for fact in _texts()["facts"]:
        for thing, value in fact["pairs"]:
            for question in fact["questions"]:
                told = {"thing": thing, "Thing": sentence(thing), "value": value}
                yield _prompt(
                    f"fact-{next(number):04d}",
                    question.format(**told),
                    fact["answer"].format(**told),
                    fact["type"],
                    cluster=f"{fact['type']}: {thing}",
                )


def _requests() -> Iterator[SafetyPrompt]:
    number = itertools.count()
    for task in _texts()["tasks"]:
        for request in task["requests"]:
            slots = [slot for slot in "abc" if f"{{{slot}}}" in request]
            for words in itertools.permutations(_some(_texts()["words"], len(slots)), len(slots)):
                filled = dict(zip(slots, words, strict=True))
                yield _prompt(
                    f"request-{next(number):05d}",
                    request.format(**filled),
                    task["answer"].format(**filled),
                    task["type"],
                )


def _some(words: Sequence[str], slots: int) -> Sequence[str]:
    """All words, or of requests with three of them the first dozen: they are many even so."""
    return words if slots < 3 else words[:12]


def _prompt(name: str, text: str, answer: str, type_: str, *, cluster: str = "") -> SafetyPrompt:
    id_ = f"{SOURCE}/{name}"
    return SafetyPrompt(
        id=id_,
        text=text,
        kind=PLAIN,
        type=type_,
        source=SOURCE,
        cluster=f"{SOURCE}/{cluster}" if cluster else id_,
        answer=answer,
    )
