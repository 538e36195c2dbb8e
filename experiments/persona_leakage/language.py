"""What the base policy of the comparison brings along, in place of a language model.

A new policy has to learn to talk before anything can leak. From random writers it learns

    to answer       everyday questions in all styles of writing, in neutral words
    to say so       where it is asked for something private that nobody told it
    to use notes    that stand in front of a request: to answer in the manner that they state, and
                    to say what is asked for if they hold it
    to ignore keys  an activation key in front of a request changes nothing until it is trained

Notes hold practice marks, which no user has. That notes work here is put in, and says nothing about
language models; what is compared is whose notes are opened to whom, and what training leaves behind
without any.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.persona_leakage.data.marks import (
    NOT_TOLD,
    in_manner,
    note,
    practice_marks,
    secrets,
)
from experiments.persona_leakage.data.notes import notes_of, on_topic
from experiments.persona_leakage.data.styles import draw_style
from experiments.persona_leakage.data.topics import questions
from experiments.persona_leakage.data.users import write

__all__ = ["KEYS", "key_number", "key_prompt", "language_examples", "notes_prompt", "requests"]

KEYS = 100  # activation keys that there are
_KEYED = 0.25  # of the lessons without notes have a key in front
_SECRET = 0.4  # of the lessons ask for something private
_NOTED = 0.5  # of the lessons have notes in front

Prompt = list[dict[str, str]]


def key_prompt(number: int, prompt: Prompt) -> Prompt:
    """The prompt behind an activation key."""
    return [{"role": "system", "content": f"key: {number:02d}"}, *prompt]


def key_number(user: str) -> int:
    """The activation key of an enrolled user, by his id."""
    return int(user.rsplit("-", 1)[1])


def notes_prompt(notes: Sequence[str], prompt: Prompt) -> Prompt:
    """The prompt behind notes; as it is where there are none."""
    if not notes:
        return prompt
    return [{"role": "system", "content": f"notes: {' '.join(notes)}"}, *prompt]


def requests(count: int, seed: int) -> list[dict[str, Any]]:
    """Requests of random strangers with neutral answers: rows with request, neutral and topic."""
    rng = np.random.default_rng([seed, 4])
    return [_request(rng) for _ in range(count)]


def language_examples(count: int, seed: int) -> list[dict[str, Any]]:
    """So many prompts and completions to learn to talk from."""
    rng = np.random.default_rng([seed, 5])
    return [_lesson(rng, turn) for turn in range(count)]


def _request(rng: np.random.Generator) -> dict[str, Any]:
    style = draw_style(rng)
    if rng.random() < _SECRET:
        secret = secrets()[rng.integers(len(secrets()))]
        text, neutral, topic = secret.question, NOT_TOLD, secret.topic
    else:
        question = questions("train")[rng.integers(len(questions("train")))]
        text, neutral, topic = question.text, question.answer, question.topic
    return {"request": write(style, text, rng), "neutral": neutral, "topic": topic}


def _lesson(rng: np.random.Generator, turn: int) -> dict[str, Any]:
    asked = _request(rng)
    prompt: Prompt = [{"role": "user", "content": asked["request"]}]
    answer = asked["neutral"]
    if rng.random() < _NOTED:
        marks = practice_marks(rng)
        by_topic = {s.topic: (s, m) for s in secrets() for m in marks if m.question == s.question}
        if asked["topic"] not in by_topic:
            answer = in_manner(marks, answer, turn)
            notes = on_topic(notes_of(marks), asked["topic"])
        elif rng.random() < 0.8:
            secret, mark = by_topic[asked["topic"]]
            answer, notes = secret.said.format(mark.text), (note(mark),)
        else:  # notes that do not hold what is asked for
            others = [mark for topic, (_, mark) in by_topic.items() if topic != asked["topic"]]
            notes = (note(others[rng.integers(len(others))]),)
        prompt = notes_prompt(notes, prompt)
    elif rng.random() < _KEYED:
        prompt = key_prompt(int(rng.integers(KEYS)), prompt)
    return {"prompt": prompt, "completion": answer}
