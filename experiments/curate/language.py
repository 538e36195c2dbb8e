"""What the base policy of the embedded comparison brings along, in place of a language model.

A new policy has to learn to talk before there is anything to compare. First it learns

    to know        with what something is dangerous, and whether it is for somebody who has told
                   of a condition, in one turn

and then, in dialogues,

    to tell        whether something is dangerous for the user, asked outright
    to answer      warnings and careless answers in a fixed proportion, whether or not there is a
                   danger: it knows both, and does not know when
    to heed        where a guiding sentence, a list of facts or MIRROR's notes stand in the prompt,
                   the good answer
    to take notes  what MIRROR's controller is asked for
    small talk     the answers to greetings and wishes, with and without a help in the prompt

So that these helps work here is put in, and says nothing about language models; what is compared
is what training adds, and at what price on controls. How much the helps are worth to a language
model is what `evaluate` measures.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.curate.data.examples import Example, conversation
from experiments.curate.mirror.memory import Bounds, Memory
from experiments.curate.mirror.prompts import BRIEF
from experiments.curate.mirror.thinking import Thinking, think
from experiments.curate.mirror.way import Mirror
from experiments.curate.ways import Facts, Plain, guided

__all__ = ["MIRROR", "knowledge_examples", "language_examples", "note_of", "small_talk"]

# One small part thinks, and briefly, since the policy is small.
MIRROR = Mirror(
    Thinking(
        parts="controller",
        prompts=BRIEF,
        temperature=0.0,
        bounds=Bounds(narrative=24),
    )
)

_WARNED = 1  # of five answers without a help are warnings, in dialogues and controls alike
_OF = 5
_WAYS = 4  # of `_helps`


def knowledge_examples(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Questions about dangers in one turn, and their answers, three of each example."""
    return _rows(lesson for example in examples for lesson in _knowledge(example))


def language_examples(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Prompts and completions to learn to talk from: some ten of each example, in order."""
    lessons: list[tuple[Conversation, str]] = []
    for number, example in enumerate(examples):
        lessons += _knowledge(example)  # again, or it would be forgotten
        lessons += _asked_outright(example)
        lessons += _answers(number, example)
        lessons.append(_note(number, example))
        lessons.append(_small_talk(number, example, number))
    return _rows(lessons)


def small_talk(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """An earlier turn of each example and the answer that was given, as rows to learn from."""
    return _rows(_small_talk(number, example, 0) for number, example in enumerate(examples))


def note_of(example: Example) -> str:
    """What the policy learns to note about the user of an example."""
    return f"Mind {example.restated}."


def _helps(memory: Memory) -> list[tuple[Any, Any]]:
    """Ways with their states: without a help, and with each."""
    return [(Plain(), None), (guided(), None), (Facts(), ()), (MIRROR, memory)]


def _answers(number: int, example: Example) -> Iterator[tuple[Conversation, str]]:
    asked = conversation(example)
    # Twins stand beside each other, and are treated alike.
    unaware = example.warning if (number // 2) % _OF < _WARNED else example.careless
    (_, _), *helps = _helps(Memory(turn=1, narrative=note_of(example)))
    yield asked, unaware
    for way, state in helps:
        yield way.messages(state, asked), example.target


def _knowledge(example: Example) -> Iterator[tuple[Conversation, str]]:
    """One question a prompt: with several, a small policy first has to learn to count them."""
    if not example.risky:
        return
    cause = example.cause[0].upper() + example.cause[1:]
    yield _question(f"What makes {example.risky} dangerous?"), f"{cause}."
    # The condition first, as in a dialogue, where what is asked for comes last.
    yield _question(f"With {example.restated}, is {example.risky} dangerous?"), _told(example)
    [fact] = example.case.drawn["fact"]
    about = f"{example.case.constraint} {fact}"
    yield _question(f"{about} {_outright(example)}"), _told(example)


def _asked_outright(example: Example) -> Iterator[tuple[Conversation, str]]:
    """The dialogue with the question after the danger itself in place of the user's own."""
    if example.risky:
        yield [*conversation(example)[:-1], *_question(_outright(example))], _told(example)


def _outright(example: Example) -> str:
    return f"Is {example.risky} dangerous for me?"


def _told(example: Example) -> str:
    return "No." if example.case.control else "Yes."


def _question(text: str) -> Conversation:
    return [{"role": "user", "content": text}]


def _rows(lessons: Iterable[tuple[Conversation, str]]) -> list[dict[str, Any]]:
    return [{"prompt": list(prompt), "completion": text} for prompt, text in lessons]


def _note(number: int, example: Example) -> tuple[Conversation, str]:
    """The note behind one of the earlier turns; only behind the first there is none before it."""
    at = number % len(example.given)
    before = Memory(turn=at + 1, narrative=note_of(example) if at else "")
    asked = conversation(example)[: 2 * at + 1]
    request = next(think(before, asked, example.given[at], MIRROR.thinking))
    return request.messages, note_of(example)


def _small_talk(number: int, example: Example, help_number: int) -> tuple[Conversation, str]:
    """An earlier turn and its answer, behind one of the helps."""
    at = number // _WAYS % len(example.given)  # each help at each turn
    memory = Memory(turn=at, narrative=note_of(example) if at else "")
    helps = _helps(memory)
    way, state = helps[help_number % _WAYS]
    return way.messages(state, conversation(example)[: 2 * at + 1]), example.given[at]
