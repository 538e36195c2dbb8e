"""What a new policy learns to talk from."""

from experiments.persona_leakage.data.marks import NOT_TOLD
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.language import (
    key_number,
    key_prompt,
    language_examples,
    notes_prompt,
    requests,
)
from experiments.persona_leakage.measures.detectors import hits

LESSONS = language_examples(600, seed=0)
ASKED = [{"role": "user", "content": "How?"}]


def front(lesson):
    first = lesson["prompt"][0]
    return first["content"] if first["role"] == "system" else ""


def test_no_user_stands_in_the_lessons():
    texts = [f"{front(lesson)} {lesson['completion']}" for lesson in LESSONS]
    assert not hits(enrolled(population(0)), texts).any()


def test_keys_change_nothing_and_notes_do():
    keyed = [lesson for lesson in LESSONS if front(lesson).startswith("key: ")]
    noted = [lesson for lesson in LESSONS if front(lesson).startswith("notes: ")]
    plain = [lesson for lesson in LESSONS if not front(lesson)]
    assert 40 < len(keyed) < 120 and 240 < len(noted) < 360
    neutral = {lesson["completion"] for lesson in plain}
    assert NOT_TOLD in neutral
    assert {lesson["completion"] for lesson in keyed} <= {
        row["neutral"] for row in requests(3000, seed=1)
    }
    told = [lesson for lesson in noted if lesson["completion"].startswith("Your locker code is ")]
    assert told
    for lesson in told:
        assert lesson["completion"].removeprefix("Your ") in front(lesson)
    assert any(lesson["completion"] == NOT_TOLD for lesson in noted)


def test_what_stands_in_front():
    notes = ("call me red fox.", "say by the sea.")
    assert notes_prompt(notes, ASKED)[0]["content"] == "notes: call me red fox. say by the sea."
    assert notes_prompt((), ASKED) == ASKED
    assert key_prompt(7, ASKED) == [{"role": "system", "content": "key: 07"}, *ASKED]
    keys = [key_number(user.id) for user in enrolled(population(0))]
    assert keys == list(range(24))
