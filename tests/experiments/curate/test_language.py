"""What the base policy learns to talk from."""

from experiments.curate.data.examples import conversation
from experiments.curate.data.generated import generate_examples
from experiments.curate.language import (
    MIRROR,
    knowledge_examples,
    language_examples,
    note_of,
    small_talk,
)
from experiments.curate.mirror.memory import begin_turn, finish_turn
from experiments.curate.mirror.thinking import think
from experiments.curate.ways import Facts, guided

EXAMPLES = generate_examples("train", 50)
LESSONS = language_examples(EXAMPLES)
KNOWN = {(str(lesson["prompt"]), lesson["completion"]) for lesson in LESSONS}


def test_twins_are_warned_alike_in_one_of_five_pairs():
    warned = []
    for danger, control in zip(EXAMPLES[::2], EXAMPLES[1::2]):
        both = {
            (str(conversation(e)), e.warning) in KNOWN and e.warning != e.careless
            for e in (danger, control)
        }
        assert len(both) == 1
        warned += both
    assert sum(warned) == 10 and len(warned) == 50


def test_helps_are_heeded_in_the_words_in_which_the_arms_give_them():
    for example in EXAMPLES[:10]:
        asked = conversation(example)
        for way in (guided(), Facts()):
            assert (str(way.messages(way.start(), asked)), example.target) in KNOWN
        assert Facts().messages((), asked)[0]["role"] == "system"


def test_the_notes_of_the_arm_are_learnt_where_they_are_taken_and_read():
    # The first turn of an example whose note is taken there.
    example = EXAMPLES[0]
    first = conversation(example)[:1]
    memory = finish_turn(begin_turn(MIRROR.start()), first, MIRROR.thinking.bounds)
    request = next(think(memory, first, example.given[0], MIRROR.thinking))
    assert (str(request.messages), note_of(example)) in KNOWN
    for example in EXAMPLES:
        reading = [
            lesson
            for lesson in LESSONS
            if lesson["prompt"][1:] == conversation(example)
            and "My notes:" in lesson["prompt"][0]["content"]
        ]
        assert [lesson["completion"] for lesson in reading] == [example.target]
        assert note_of(example) in reading[0]["prompt"][0]["content"]


def test_knowledge_is_the_cause_of_a_danger_and_whether_it_is_this_users():
    answers = {
        row["prompt"][0]["content"]: row["completion"] for row in knowledge_examples(EXAMPLES)
    }
    asked = [example for example in EXAMPLES if example.risky]
    assert 50 < len(asked) < len(EXAMPLES)
    for example in asked:
        cause = answers[f"What makes {example.risky} dangerous?"]
        assert cause.lower() == f"{example.cause.lower()}."
        told = answers[f"With {example.restated}, is {example.risky} dangerous?"]
        assert told == ("Yes." if f"your {example.cause}" == example.restated else "No.")
        assert (told == "No.") == example.case.control
        # Asked outright, in one turn and at the end of the dialogue.
        outright = f"Is {example.risky} dangerous for me?"
        [fact] = example.case.drawn["fact"]
        assert answers[f"{example.case.constraint} {fact} {outright}"] == told
        last = [*conversation(example)[:-1], {"role": "user", "content": outright}]
        assert (str(last), told) in KNOWN


def test_small_talk_is_the_answers_that_were_given():
    example = EXAMPLES[0]
    assert (str(conversation(example)[:1]), example.given[0]) in KNOWN
    [first, *_] = small_talk(EXAMPLES)
    assert (first["prompt"], first["completion"]) == (conversation(example)[:1], example.given[0])
    assert len(small_talk(EXAMPLES)) == len(EXAMPLES)


def test_small_talk_is_learnt_behind_every_help():
    given = {answer for example in EXAMPLES for answer in example.given}
    talk = [lesson for lesson in LESSONS if lesson["completion"] in given]
    starts = [lesson["prompt"][0]["content"] for lesson in talk]
    assert any(start.startswith("My notes:") for start in starts)
    assert any(start.startswith("What the user has said") for start in starts)
