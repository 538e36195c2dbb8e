"""What the base policy learns to talk from."""

from experiments.curate.data.examples import conversation
from experiments.curate.data.generated import generate_examples
from experiments.curate.language import MIRROR, language_examples, note_of
from experiments.curate.mirror.memory import begin_turn, finish_turn
from experiments.curate.mirror.thinking import think
from experiments.curate.ways import Facts, Guided

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
        for way in (Guided(), Facts()):
            assert (str(way.messages(way.start(), asked)), example.target) in KNOWN
        assert Facts().messages((), asked)[0]["role"] == "system"


def test_the_notes_of_the_arm_are_learnt_where_they_are_taken_and_read():
    # The first turn of an example whose note is taken there.
    example = EXAMPLES[0]
    first = conversation(example)[:1]
    memory = finish_turn(begin_turn(MIRROR.start()), first, MIRROR.thinking.bounds)
    request = next(think(memory, first, example.given[0], MIRROR.thinking))
    assert (str(request.messages), note_of(example)) in KNOWN
    reading = [lesson for lesson in LESSONS if "My notes:" in lesson["prompt"][0]["content"]]
    assert len(reading) == len(EXAMPLES)
    assert all(note_of(e) in lesson["prompt"][0]["content"] for e, lesson in zip(EXAMPLES, reading))


def test_small_talk_is_the_answers_that_were_given():
    example = EXAMPLES[0]
    assert (str(conversation(example)[:1]), example.given[0]) in KNOWN
