"""Notes of marks, and which of them are on a topic."""

import pytest

from experiments.persona_leakage.data.marks import note, secrets
from experiments.persona_leakage.data.notes import notes_of, on_topic
from experiments.persona_leakage.data.population import enrolled, population
from experiments.persona_leakage.data.topics import questions

MARKS = enrolled(population(0))[0].marks
NOTES = notes_of(MARKS)


def test_a_secret_is_found_by_its_topic_alone():
    for secret in secrets():
        [mark] = [mark for mark in MARKS if mark.question == secret.question]
        assert on_topic(NOTES, secret.topic) == (note(mark),)
        assert mark.text in note(mark)
        assert on_topic([one for one in NOTES if one.topic != secret.topic], secret.topic) == ()


@pytest.mark.parametrize("topic", sorted({question.topic for question in questions("test")}))
def test_everything_else_finds_how_to_talk_to_him(topic):
    found = on_topic(NOTES, topic)
    assert found == tuple(note(mark) for mark in MARKS if not mark.question) and len(found) == 4
    assert on_topic((), topic) == ()
