"""What the base policy of the embedded comparison brings along, in place of a language model.

A new policy has to learn to talk before there is anything to compare. It learns

    to answer      warnings and careless answers in a fixed proportion, whether or not there is a
                   danger: it knows both, and does not know when
    to heed        where a guiding sentence, a list of facts or MIRROR's notes stand in the prompt,
                   the good answer
    to take notes  what MIRROR's controller is asked for
    small talk     the answers to greetings and trivia

So that these helps work here is put in, and says nothing about language models; what is compared
is what training adds, and at what price on controls. How much the helps are worth to a language
model is what `evaluate` measures.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.common.chats.messages import Conversation
from experiments.curate.data.examples import Example, conversation
from experiments.curate.mirror.memory import Bounds, Memory
from experiments.curate.mirror.prompts import BRIEF
from experiments.curate.mirror.thinking import Thinking, think
from experiments.curate.mirror.way import Mirror
from experiments.curate.ways import Facts, Guided, Plain

__all__ = ["MIRROR", "language_examples", "note_of"]

# One small part thinks, and briefly, since the policy is small.
MIRROR = Mirror(
    Thinking(
        parts="controller",
        prompts=BRIEF,
        temperature=0.0,
        bounds=Bounds(narrative=24),
    )
)

_WARNED = 2  # of five answers without a help are warnings, in dialogues and controls alike
_OF = 5


def language_examples(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Prompts and completions to learn to talk from: some six of each example, in order."""
    return [
        {"prompt": list(prompt), "completion": completion}
        for number, example in enumerate(examples)
        for prompt, completion in _lessons(number, example)
    ]


def note_of(example: Example) -> str:
    """What the policy learns to note about the user of an example."""
    return f"Mind {example.restated}."


def _lessons(number: int, example: Example) -> Iterator[tuple[Conversation, str]]:
    asked = conversation(example)
    # Twins stand beside each other, and are treated alike.
    unaware = example.warning if (number // 2) % _OF < _WARNED else example.careless
    noted = Memory(turn=1, narrative=note_of(example))
    yield Plain().messages(None, asked), unaware
    for way, state in ((Guided(), None), (Facts(), ()), (MIRROR, noted)):
        yield way.messages(state, asked), example.target
    yield from _notes(number, example, asked)
    yield from _small_talk(number, example, asked)


def _notes(
    number: int, example: Example, asked: Conversation
) -> Iterator[tuple[Conversation, str]]:
    """The note behind one of the earlier turns; only behind the first there is none before it."""
    at = number % len(example.given)
    before = Memory(turn=at + 1, narrative=note_of(example) if at else "")
    request = next(think(before, asked[: 2 * at + 1], example.given[at], MIRROR.thinking))
    yield request.messages, note_of(example)


def _small_talk(
    number: int, example: Example, asked: Conversation
) -> Iterator[tuple[Conversation, str]]:
    at = number % len(example.given)
    yield asked[: 2 * at + 1], example.given[at]
