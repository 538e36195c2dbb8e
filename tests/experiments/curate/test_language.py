"""What the base policy learns to talk from."""

from experiments.curate.data.examples import conversation
from experiments.curate.data.generated import generate_examples
from experiments.curate.language import MIRROR, language_examples, note_of, small_talk
from experiments.curate.mirror.memory import begin_turn, finish_turn
from experiments.curate.mirror.thinking import think
from experiments.curate.ways import Facts, guided

EXAMPLES = generate_examples("train", 50)
LESSONS = language_examples(EXAMPLES)
KNOWN = {(str(lesson["prompt"]), lesson["completion"]) for lesson in LESSONS}


def test_twins_are_warned_alike_in_two_of_five_pairs():
    warned = []
    for danger, control in zip(EXAMPLES[::2], EXAMPLES[1::2]):
        both = {
            (str(conversation(e)), e.warning) in KNOWN and e.warning != e.careless
            for e in (danger, control)
        }
        assert len(both) == 1
        warned += both
    assert sum(warned) == 20 and len(warned) == 50


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


def test_knowledge_says_yes_to_what_hurts_this_user_and_no_to_what_does_not():
    danger, control = next(
        (danger, control)
        for danger, control in zip(EXAMPLES[::4], EXAMPLES[1::4])
        if control.risky and (EXAMPLES.index(danger) % 4) == 0
    )
    asked = [
        f"Is {danger.risky} dangerous with {danger.restated}?",
        f"Is {control.risky} dangerous with {control.restated}?",
    ]
    [lesson] = [
        lesson for lesson in LESSONS if lesson["prompt"][0]["content"].startswith(" ".join(asked))
    ]
    assert lesson["completion"].startswith("Yes. No.")


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
    assert sum(start.startswith("My notes:") for start in starts) > 3
    assert sum(start.startswith("What the user has said") for start in starts) > 3
